"""Sorting more keys than fit into memory: every unit writes its own sorted, then each range of keys is read from all.

A file holds 64-bit numbers, [rows, records], of which one row is sorted. Keys are hashes, so equal ranges of them hold
about equally many records, and a range needs no more memory than its own records however many there are altogether.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from herdsman.files import atomic_open

RECORDS_PER_PART = 4_000_000  # of three rows, sorted, 200 MB of memory


def parts_of(records: int) -> int:
    """In how many ranges of keys so many records are read."""
    return records // RECORDS_PER_PART + 1


def save(path: Path, array: NDArray[np.generic]) -> None:
    """Writes an array that appears whole or not at all."""
    with atomic_open(path) as file:
        np.save(file, array)


def save_sorted(path: Path, keys: NDArray[np.uint64], *values: NDArray[np.generic]) -> None:
    """Writes records in the order of their keys (of equal keys in the order given), [1 + values, records]."""
    if not values:
        save(path, np.sort(keys)[None])
        return
    order = np.argsort(keys, kind="stable")
    save(path, np.stack([column[order].astype(np.uint64) for column in (keys, *values)]))


def read_part(paths: Sequence[Path], part: int, parts: int, row: int | None = None) -> NDArray[np.uint64]:
    """All records of one range of keys, [rows, records] in the order of the files, or of a single row, [records].

    Args:
        row: the sorted row to read, where every row is sorted by itself.
    """
    # Cut where the lower half is zero, so that keys which share the upper half stay together.
    bounds = np.array([part * 2**32 // parts, min((part + 1) * 2**32 // parts, 2**32 - 1)], np.uint64) << np.uint64(32)
    found = []
    for path in paths:
        records = np.load(path, mmap_mode="r")
        keys = records[row or 0]
        low = int(np.searchsorted(keys, bounds[0], side="left"))
        high = int(np.searchsorted(keys, bounds[1], side="left")) if part + 1 < parts else len(keys)
        found.append(np.array(records[:, low:high] if row is None else keys[low:high]))
    return np.concatenate(found, axis=-1)


class Spread:
    """An array whose first axis runs on over several files, read where it is asked for."""

    def __init__(self, paths: Sequence[Path]):
        self._pieces = [np.load(path, mmap_mode="r") for path in paths]
        self.ends = np.cumsum([len(piece) for piece in self._pieces], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def take(self, places: NDArray[np.integer]) -> NDArray[np.generic]:
        """The elements at these places, in their order."""
        order = np.argsort(places, kind="stable")
        ordered = places[order].astype(np.int64)
        cuts = [0, *np.searchsorted(ordered, self.ends, side="left").tolist()]
        shape = (len(places), *self._pieces[0].shape[1:])
        found = np.empty(shape, self._pieces[0].dtype)
        for number, piece in enumerate(self._pieces):
            low, high = cuts[number], cuts[number + 1]
            if low < high:
                start = int(self.ends[number]) - len(piece)
                found[order[low:high]] = piece[ordered[low:high] - start]
        return found
