"""Whose turn it is: which stream gives the token at a position of the run, and how many that stream gave before.

A run is a list of segments. Within a segment, streams take turns in blocks of a fixed number of tokens, in the order
of `interleave`; a stream goes on exactly where it stopped, in the block before or in the segment before. So a position
counted in tokens says everything: batch size, sequence length and number of readers do not enter.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from herdsman.errors import RecipeError
from herdsman.tokens.interleave import Interleaving


@dataclass(frozen=True)
class Segment:
    """A part of the run with one mix.

    Attributes:
        mix: share of each stream; they sum to 1.
        tokens: how many the segment reads.
        sequence_length: tokens of a row in this segment. Concatenated streams do not depend on it and may be read by
            another one; best-fit packing is made for it.
    """

    mix: Mapping[str, float]
    tokens: int
    sequence_length: int


class Span(NamedTuple):
    """A stretch of the run that one stream gives: so many tokens, after the `at` ones that it gave before."""

    stream: str
    at: int
    tokens: int


@dataclass(frozen=True)
class Section:
    """Segments that follow each other and are read as one.

    Attributes:
        first: position of its first token in the run.
        given: tokens that each stream gave before it; streams that gave none may be missing.
    """

    turns: Interleaving
    first: int
    sequence_length: int
    given: Mapping[str, int]


class Turns:
    """The turns of a whole run. A longer last segment changes nothing before it.

    Args:
        lengths_matter: whether a change of the sequence length begins a section, as it must where packing depends on
            it; otherwise it is only the mix that does.

    Raises:
        RecipeError: a segment is empty, or the shares of its mix are not shares.
    """

    def __init__(self, segments: Sequence[Segment], block_tokens: int, lengths_matter: bool):
        self.block_tokens, self.tokens = block_tokens, 0
        self.sections: list[Section] = []
        before: tuple[object, ...] = ()
        for segment in segments:
            if segment.tokens < 1:
                raise RecipeError("a segment of the run has no tokens", where="pretrain.phases", do="give it some")
            mix = tuple(sorted((name, share) for name, share in segment.mix.items() if share))
            kind = (mix, segment.sequence_length if lengths_matter else None)
            if kind != before:
                given = self.given(self.tokens) if self.sections else {}
                self.sections.append(Section(_interleaving(mix), self.tokens, segment.sequence_length, given))
            before = kind
            self.tokens += segment.tokens

    def section(self, position: int) -> int:
        """Number of the section that a position is in."""
        return bisect_right(self.sections, position, key=lambda section: section.first) - 1

    def spans(self, position: int, tokens: int) -> Iterator[Span]:
        """Who gives so many tokens from a position on.

        Raises:
            IndexError: the run has no such positions.
        """
        if position < 0 or position + tokens > self.tokens:
            raise IndexError(f"the run has no tokens {position} to {position + tokens - 1}, only {self.tokens} tokens")
        while tokens > 0:
            number = self.section(position)
            section = self.sections[number]
            block, inside = divmod(position - section.first, self.block_tokens)
            stream, turn = section.turns.place(block)
            take = min(tokens, self.block_tokens - inside)
            if number + 1 < len(self.sections):
                take = min(take, self.sections[number + 1].first - position)
            yield Span(stream, section.given.get(stream, 0) + turn * self.block_tokens + inside, take)
            position, tokens = position + take, tokens - take

    def given(self, position: int) -> dict[str, int]:
        """Tokens that each stream gave before a position of the run.

        Raises:
            IndexError: the run has no such position.
        """
        if not 0 <= position <= self.tokens:
            raise IndexError(f"the run has no position {position}, only {self.tokens} tokens")
        section = self.sections[self.section(position)]
        block, inside = divmod(position - section.first, self.block_tokens)
        given = dict(section.given)
        for stream, turns in section.turns.counts(block).items():
            given[stream] = given.get(stream, 0) + turns * self.block_tokens
        given[section.turns.place(block)[0]] += inside
        return given


@lru_cache(maxsize=64)
def _interleaving(mix: tuple[tuple[str, float], ...]) -> Interleaving:
    """Kept, since runs are often described anew, and the schedule of a mix is the same each time."""
    return Interleaving(dict(mix))
