"""The loader: rows of training tokens, each a pure function of seed, segments and position.

Nothing here has a state, so any number of readers, with any batch size, after any restart, see the same tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from herdsman.errors import RecipeError
from herdsman.files import atomic_open
from herdsman.parallel import map_ordered
from herdsman.progress import SILENT, Progress
from herdsman.tokens.best_fit import BestFit, count_rows, window_bounds
from herdsman.tokens.passes import Passes
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.turns import Segment, Turns

WINDOWS_AT_ONCE = 16


@dataclass(frozen=True)
class Rows:
    """Training sequences; the last token of each is only a target: what follows in its stream.

    Attributes:
        tokens: ids, int64 [rows, length + 1]
        documents: number of each token's document within its row, int32 [rows, length + 1]. It rises at every
            begin-of-text token, where a row goes from one stream to another, and wherever tokens do not follow each
            other in their document; a token whose number is not that of the token before it is no target. Padding is
            begin-of-text tokens, so each is a document of its own: nothing attends to it and none is a target.
        streams: which stream each token comes from, as a number in `TokenOrder.names`, int16 [rows, length]
    """

    tokens: NDArray[np.int64]
    documents: NDArray[np.int32]
    streams: NDArray[np.int16]


@dataclass(frozen=True)
class Origin:
    """Where a token of the run comes from; padding has no document.

    Attributes:
        at: its position in the stream.
        document: id of the document.
    """

    stream: str
    at: int | None
    document: str | None


@dataclass(frozen=True)
class Taken:
    """What a stream gave to a run.

    Attributes:
        tokens: without padding.
        epochs: `tokens` as passes over the whole stream.
        padding: positions of the run that were padding.
        sources: tokens by source.
    """

    tokens: int
    epochs: float
    padding: int
    sources: dict[str, int]


class TokenOrder:
    """The order in which a run reads its tokens.

    Making it is cheap, and one with a longer last segment equals it up to there, so a schedule may prolong a phase
    while it runs. Best-fit packing needs an index of each stream for each sequence length: it is counted at first
    (about a second for 500,000 documents on one worker) and kept in `index_folder`.

    Args:
        segments: the run; neighbours with the same mix are read as one, whatever their batches and lengths are.
        index_folder: where the index of best-fit packing is kept.
        workers: processes that count it.

    Attributes:
        names: of all streams, sorted; `Rows.streams` holds numbers in this list.
        tokens: positions of the run.

    Raises:
        InputError: a mix names a stream that is not here.
        RecipeError: shares are not shares, or a sequence length does not fit best-fit packing.
    """

    def __init__(
        self,
        streams: TokenStreams,
        seed: int,
        segments: Sequence[Segment],
        index_folder: Path | None = None,
        progress: Progress = SILENT,
        workers: int = 1,
    ):
        self.streams, self.packed = streams, streams.packing == "best_fit"
        self.names = list(streams.streams)
        self.turns = Turns(segments, streams.block_tokens, lengths_matter=self.packed)
        self.tokens = self.turns.tokens
        used = sorted({name for section in self.turns.sections for name in section.turns.names})
        for name in used:
            streams.stream(name)
        self._reading: Mapping[str, Passes | BestFit]
        if self.packed:
            index = _index(streams, used, self._lengths(), index_folder, progress, workers)
            legs = {name: self._legs(name) for name in used}
            self._reading = {name: BestFit(streams.stream(name), seed, legs[name], index[name]) for name in used}
        else:
            self._reading = {
                name: Passes(name, streams.stream(name).tokens, streams.block_tokens, seed) for name in used
            }

    def read(self, position: int, count: int, length: int, every: int = 1) -> Rows:
        """`count` rows of `length` tokens; the first begins at a position of the run.

        Args:
            position: tokens of the run before the first row.
            every: from one row to the next it is this many rows' tokens; so with the number of readers, each of them
                reads its own rows.

        Raises:
            IndexError: the run has no such tokens.
            ValueError: the rows are packed, and these are not the ones of the segment.
        """
        section = self.turns.sections[self.turns.section(position)]
        if self.packed and (length != section.sequence_length or (position - section.first) % length):
            raise ValueError(f"rows of {section.sequence_length} tokens are packed, not of {length} at {position}")
        tokens = np.full((count, length + 1), self.streams.bos, np.int64)
        begins = np.zeros((count, length + 1), np.bool_)
        streams = np.empty((count, length), np.int16)
        for row in range(count):
            column, before = 0, None
            for span in self.turns.spans(position + row * every * length, length):
                stream = self.streams.streams[span.stream]
                streams[row, column : column + span.tokens] = self.streams.numbers[span.stream]
                for start, size in self._reading[span.stream].pieces(span.at, span.tokens):
                    if start is not None:
                        begins[row, column] = (span.stream, start) != before
                        # The last target is what follows in the document, whatever the run goes on with.
                        more = column + size == length and start + size < stream.tokens
                        tokens[row, column : column + size + more] = stream.read(start, size + more)
                        before = span.stream, start + size
                    column += size
        begins |= tokens == self.streams.bos
        begins[:, 0] = False
        return Rows(tokens, np.cumsum(begins, axis=1, dtype=np.int32), streams)

    def ledger(self, position: int | None = None) -> dict[str, Taken]:
        """What each stream gave to the run before a position, or to the whole run; exact, by source too.

        Raises:
            IndexError: the run has no such position.
        """
        given = self.turns.given(self.tokens if position is None else position)
        return {name: self._taken(name, at) for name, at in sorted(given.items())}

    def provenance(self, position: int) -> Origin:
        """Where the token at a position of the run comes from.

        Raises:
            IndexError: the run has no such position.
        """
        (span,) = self.turns.spans(position, 1)
        start = self._reading[span.stream].pieces(span.at, 1)[0].start
        if start is None:
            return Origin(span.stream, None, None)
        return Origin(span.stream, start, self.streams.streams[span.stream].provenance(start))

    def _taken(self, name: str, at: int) -> Taken:
        stream = self.streams.streams[name]
        rounds, stretches = self._reading[name].taken(at)
        tokens = rounds * stream.tokens + int((stretches[:, 1] - stretches[:, 0]).sum())
        sources = rounds * stream.totals.sum(axis=0) + stream.by_source(stretches)
        named = {self.streams.sources[number]: int(sources[number]) for number in np.flatnonzero(sources)}
        return Taken(tokens, tokens / stream.tokens, at - tokens, named)

    def _lengths(self) -> list[int]:
        """Lengths of packed rows.

        Raises:
            RecipeError: blocks or segments do not hold whole rows.
        """
        sections, block = self.turns.sections, self.streams.block_tokens
        ends = [*(section.first for section in sections[1:]), self.tokens]
        for section, end in zip(sections, ends, strict=True):
            length = section.sequence_length
            if block % length or (end - section.first) % length:
                what = f"best-fit packing needs whole sequences of {length} tokens in a block of {block} and in a phase"
                raise RecipeError(what, where="tokens.block_tokens", do="make both multiples of the sequence length")
        return sorted({section.sequence_length for section in sections})

    def _legs(self, name: str) -> list[tuple[int, int]]:
        """Where the row length of a stream changes: tokens that it gave before, and the length from there on."""
        legs: list[tuple[int, int]] = []
        for section in self.turns.sections:
            if not legs or section.sequence_length != legs[-1][1]:
                legs.append((section.given.get(name, 0), section.sequence_length))
        # A length at which the stream gave nothing is no leg.
        return [leg for leg, after in pairwise([*legs, (-1, 0)]) if leg[0] != after[0]]


def _index(
    streams: TokenStreams, names: Sequence[str], lengths: Sequence[int], folder: Path | None, progress: Progress,
    workers: int,
) -> dict[str, dict[int, NDArray[np.int64]]]:  # fmt: skip
    """Rows of each window by stream and length: read from the folder, or counted and kept there."""
    found: dict[str, dict[int, NDArray[np.int64]]] = {name: {} for name in names}
    missing = list[tuple[str, int]]()
    for name in names:
        for length in lengths:
            path = folder / f"{name}-{length}.npy" if folder else None
            if path and path.exists():
                found[name][length] = np.load(path)
            else:
                missing.append((name, length))
    windows = {name: len(window_bounds(streams.stream(name))) - 1 for name, _ in missing}
    parts = [
        (name, length, range(first, min(first + WINDOWS_AT_ONCE, windows[name])))
        for name, length in missing
        for first in range(0, windows[name], WINDOWS_AT_ONCE)
    ]
    if not parts:
        return found
    with progress.task("index of packed rows", total=len(parts), unit="parts") as task:
        counts = map_ordered(partial(_count_part, streams), parts, min(workers, len(parts)))
        for (name, length, part), rows in zip(parts, counts, strict=True):
            before = found[name].get(length, np.empty(0, np.int64))
            found[name][length] = np.concatenate([before, rows])
            if folder and part.stop == windows[name]:
                with atomic_open(folder / f"{name}-{length}.npy") as file:
                    np.save(file, found[name][length])
            task.advance()
    return found


def _count_part(streams: TokenStreams, part: tuple[str, int, range]) -> NDArray[np.int64]:
    """Runs in a worker."""
    name, length, windows = part
    return count_rows(streams.stream(name), length, windows)
