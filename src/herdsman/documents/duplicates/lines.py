"""Repeated lines: what occurs again and again over many documents is boilerplate, wherever it stands.

Llama 3 removes lines that appear more than 6 times in each bucket of 30 million documents, within each language
(section 3.1.1), and knows that this also takes some good text. It removes lines, not copies of lines, so every
occurrence goes by default: what a site prints on each page says nothing on the first one either. Only whole lines of
prose count here: code, tables, headings and short lines repeat for good reasons, and a document is broken without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.duplicates.shuffle import read_part, save, save_sorted
from herdsman.documents.duplicates.word_hashes import BLOCK_CHARS, U64, hash_of, mix, word_hashes
from herdsman.documents.extraction.blocks import ITEM, PROSE

MIN_CHARS = 30  # of a line, once it is reduced to its words
_EMPTY = " "
_COUNTED = np.frombuffer((PROSE + ITEM).encode(), np.uint8)
_POWER = 0xD6E8FEB86659FD93

_language_hash = cache(hash_of)


@cache
def _powers() -> U64:
    return np.cumprod(np.full(BLOCK_CHARS, _POWER, np.uint64), dtype=np.uint64)


def line_keys(text: str, kinds: str, language: str) -> U64:
    """A key for each line, [lines]: equal for lines that differ in case, digits and punctuation only, as in CCNet.

    Args:
        kinds: the kind of each line, see `extract.Extract`.

    Returns:
        0 for lines that are never removed.
    """
    if len(text) > BLOCK_CHARS:
        return _keys_of_long(text, kinds, language)
    words, starts, codes, inside = word_hashes(text, digits_alike=True)
    breaks = np.flatnonzero(codes == ord("\n"))
    keys = np.zeros(len(breaks) + 1, np.uint64)
    if len(keys) != len(kinds):
        raise ValueError(f"{len(keys)} lines, but {len(kinds)} kinds")
    first = np.searchsorted(starts, np.concatenate([[0], breaks]))
    counts = np.diff(first, append=len(words))
    filled = np.flatnonzero(counts)
    if not len(filled):
        return keys
    first, counts = first[filled], counts[filled]
    places = np.arange(len(words)) - np.repeat(first, counts)
    sums = np.add.reduceat(words * _powers().take(places), first)
    # What is in words, and one space for whatever is between them.
    lines = np.concatenate([[0], breaks + 1])[filled]
    within = np.minimum(inside, 1)
    runs = np.diff(within, prepend=np.uint8(0)) == 1
    chars = np.add.reduceat(within + runs, lines, dtype=np.int64) - 1
    kind = np.frombuffer(kinds.encode("ascii"), np.uint8)[filled]
    counted = (chars >= MIN_CHARS) & ((kind == _COUNTED[0]) | (kind == _COUNTED[1]))
    sums ^= np.uint64(_language_hash(language))
    found = mix(sums[counted])
    keys[filled[counted]] = np.maximum(found, np.uint64(1))
    return keys


def _keys_of_long(text: str, kinds: str, language: str) -> U64:
    """Takes as many whole lines at a time as fit into a block; of a longer line the beginning."""
    keys, block, start, size = list[U64](), list[str](), 0, 0
    for number, line in enumerate(text.split("\n")):
        line = line[: BLOCK_CHARS - 1]
        if size + len(line) >= BLOCK_CHARS:
            keys.append(line_keys("\n".join(block), kinds[start:number], language))
            block, start, size = [], number, 0
        block.append(line)
        size += len(line) + 1
    return np.concatenate([*keys, line_keys("\n".join(block), kinds[start:], language)])


def write_counts(path: Path, keys: U64, documents: NDArray[np.int64] | None) -> None:
    """Writes how often each key occurs in a unit's share of a bucket, to be read by range.

    Args:
        keys: of the lines that may be removed.
        documents: place of each one's document, in rising order, if the first of them is asked for.
    """
    if documents is None:
        different, counts = np.unique(keys, return_counts=True)
        save(path, np.stack([different, counts.astype(np.uint64)]))
    else:
        different, first, counts = np.unique(keys, return_index=True, return_counts=True)
        save_sorted(path, different, counts, documents[first])


@dataclass(frozen=True)
class RepeatedLines:
    """Finds the keys of a bucket that occur too often, range by range.

    Attributes:
        counts: the bucket's files of counts, in the order of its units.
        limit: how often a line may occur.
        found: where the result of a range goes, by its number.
    """

    counts: Sequence[Path]
    limit: int
    folder: Path

    def __call__(self, item: tuple[int, int]) -> Path:
        """[1 or 2, keys]: the keys that occur more than `limit` times, sorted, and the first document of each one if
        it was written; the file they are in. A range whose file stands is done."""
        part, parts = item
        path = self.folder / f"repeated-{part:05d}-of-{parts:05d}.npy"
        if path.exists():
            return path
        records = read_part(self.counts, part, parts)
        order = np.argsort(records[0], kind="stable")
        records = records[:, order]
        starts = np.flatnonzero(np.concatenate([records[0, :1] == records[0, :1], records[0, 1:] != records[0, :-1]]))
        often = starts[np.add.reduceat(records[1], starts) > np.uint64(self.limit)] if len(starts) else starts
        save(path, records[::2, often])
        return path


@dataclass(frozen=True)
class Repeated:
    """Keys that occur too often in a bucket, sorted, and the document where each one stays, if it stays anywhere."""

    keys: U64
    first: U64 | None = None

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Repeated:
        """From the results of all ranges in order."""
        records = np.concatenate([np.load(path) for path in paths], axis=1)
        return cls(records[0], records[1] if len(records) > 1 else None)

    def hits(self, keys: U64) -> NDArray[np.bool_]:
        """Which of these keys are too frequent, [keys]."""
        if not len(self.keys):
            return np.zeros(len(keys), bool)
        places = np.searchsorted(self.keys, keys)
        places[places == len(self.keys)] = 0
        return (keys != 0) & (self.keys[places] == keys)

    def removed(self, keys: U64, document: int) -> NDArray[np.bool_]:
        """Which lines of a document go, [lines]."""
        hits = self.hits(keys)
        if self.first is not None:
            different, first = np.unique(keys[hits], return_index=True)
            stays = self.first[np.searchsorted(self.keys, different)] == np.uint64(document)
            hits[np.flatnonzero(hits)[first[stays]]] = False
        return hits


def remove_lines(text: str, kinds: str, keys: U64, gone: NDArray[np.bool_]) -> tuple[str, str, list[tuple[int, str]]]:
    """Takes lines out of a text, and the empty lines that would then follow one another.

    Args:
        keys: of each line, see `line_keys`.
        gone: which lines to take out.

    Returns:
        The text, the kinds of its lines, and the removed lines with their keys.
    """
    if not gone.any():
        return text, kinds, []
    lines, left, removed = text.split("\n"), list[int](), list[tuple[int, str]]()
    for at, line in enumerate(lines):
        if gone[at]:
            removed.append((int(keys[at]), line))
        elif kinds[at] != _EMPTY or (left and kinds[left[-1]] != _EMPTY):
            left.append(at)
    while left and kinds[left[-1]] == _EMPTY:
        left.pop()
    return "\n".join(lines[at] for at in left), "".join(kinds[at] for at in left), removed
