"""A stream of tokens on disk: flat arrays in files of bounded size, and the way back to the documents.

    streams/general.best/
      tokens-00000.bin ...   ids, little-endian uint16 or uint32 by the size of the vocabulary: documents one after
                             another, cut into files of `shard_tokens` tokens (the last one has the rest)
      offsets.npy            int64 [documents + 1]: where each document begins in the stream, and the end of the last
      documents.npy          uint8 [documents, 16]: the 128-bit id of each document
      sources.npy            uint32 [documents]: number of its source among the names in the ledger
      totals.npy             int64 [files, sources]: tokens of each source in each file

Each document is `<|begin_of_text|>`, its text, `<|end_of_text|>`.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from herdsman.files import atomic_folder
from herdsman.tokens.storage import Array, Folder, damaged

STREAMS_FOLDER, LEDGER_FILE = "streams", "sources.json"
OFFSETS_FILE, DOCUMENTS_FILE, SOURCES_FILE, TOTALS_FILE = "offsets.npy", "documents.npy", "sources.npy", "totals.npy"
ID_BYTES = 16
DOCUMENTS_AT_ONCE = 1 << 20

Tokens = NDArray[np.unsignedinteger[Any]]
Intervals = NDArray[np.int64]
"""Stretches of a stream: where each begins and where it ends, [intervals, 2]; they may overlap."""


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The narrowest type that holds all ids of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def shard_name(number: int) -> str:
    return f"tokens-{number:05d}.bin"


class Document(NamedTuple):
    """A document on its way into a stream: its hex id, the number of its source, and its tokens."""

    id: str
    source: int
    tokens: Tokens


def write_stream(
    folder: Path, documents: Iterable[Document], dtype: np.dtype[Any], shard_tokens: int, sources: int
) -> None:
    """Writes a stream; the folder appears whole or not at all.

    Args:
        documents: in the order of the stream.
        sources: how many names of sources there are.
    """
    ids, numbers, offsets = bytearray(), array("L"), array("q", [0])
    with atomic_folder(folder) as beside:
        with closing(_Shards(beside, shard_tokens)) as shards:
            for document in documents:
                shards.write(np.ascontiguousarray(document.tokens, dtype))
                ids += bytes.fromhex(document.id)
                numbers.append(document.source)
                offsets.append(offsets[-1] + len(document.tokens))
        begins, owners = np.array(offsets, "<i8"), np.array(numbers, "<u4")
        edges = np.append(np.arange(shards.count) * shard_tokens, offsets[-1])
        unread = Stream(folder.name, (), shard_tokens, begins, np.empty(0), owners, np.empty((0, sources), np.int64))
        np.save(beside / OFFSETS_FILE, begins)
        np.save(beside / DOCUMENTS_FILE, np.frombuffer(ids, np.uint8).reshape(-1, ID_BYTES))
        np.save(beside / SOURCES_FILE, owners)
        np.save(beside / TOTALS_FILE, np.stack([unread.by_source(edges[i : i + 2][None]) for i in range(shards.count)]))


class _Shards:
    """The files of a stream being written, each full before the next begins."""

    def __init__(self, folder: Path, shard_tokens: int):
        self.folder, self.shard_tokens = folder, shard_tokens
        self.count, self.room = 0, 0
        self.file: BinaryIO = BytesIO()

    def write(self, tokens: Tokens) -> None:
        while len(tokens):
            if not self.room:
                self.file.close()
                self.file = open(self.folder / shard_name(self.count), "wb")  # noqa: SIM115
                self.count, self.room = self.count + 1, self.shard_tokens
            here = tokens[: self.room]
            self.file.write(here.data)
            self.room, tokens = self.room - len(here), tokens[len(here) :]

    def close(self) -> None:
        self.file.close()


@dataclass(frozen=True)
class Stream:
    """A stream open for reading; nothing of it is loaded until it is asked for.

    Attributes:
        shards: its tokens, `shard_tokens` in each but the last.
        offsets: int64 [documents + 1]
        documents: uint8 [documents, 16]
        sources: uint32 [documents]
        totals: int64 [shards, sources]
    """

    name: str
    shards: tuple[Array, ...]
    shard_tokens: int
    offsets: Array
    documents: Array
    sources: Array
    totals: NDArray[np.int64]

    @staticmethod
    def open(folder: Folder, name: str, dtype: np.dtype[Any], shard_tokens: int) -> Stream:
        """Opens the stream's files.

        Raises:
            WorkspaceError: a file is missing or is not as long as the others say.
        """
        where = f"{STREAMS_FOLDER}/{name}/"
        files = (OFFSETS_FILE, DOCUMENTS_FILE, SOURCES_FILE, TOTALS_FILE)
        offsets, documents, sources, totals = (folder.array(where + file) for file in files)
        tokens = int(offsets[len(offsets) - 1])
        count = -(-tokens // shard_tokens)
        if tokens <= 0 or len(offsets) != len(documents) + 1 or len(sources) != len(documents) or len(totals) != count:
            raise damaged("the files of its index do not fit together", f"{folder.address}/{where.rstrip('/')}")
        sizes = [min(shard_tokens, tokens - number * shard_tokens) for number in range(count)]
        shards = [folder.tokens(where + shard_name(number), dtype, size) for number, size in enumerate(sizes)]
        return Stream(name, tuple(shards), shard_tokens, offsets, documents, sources, np.asarray(totals[:]))

    @cached_property
    def tokens(self) -> int:
        """How many there are."""
        return int(self.offsets[len(self.offsets) - 1])

    def read(self, start: int, count: int) -> Tokens:
        """`count` tokens from a position on, [count]; they must be there."""
        shard, at = divmod(start, self.shard_tokens)
        if at + count <= self.shard_tokens:
            tokens: Tokens = self.shards[shard][at : at + count]
            return tokens
        here = self.shard_tokens - at
        return np.concatenate([self.shards[shard][at:], self.read(start + here, count - here)])

    def document_at(self, position: int) -> int:
        """Number of the document that holds the token at a position."""
        return bisect_right(self.offsets, position) - 1

    def provenance(self, position: int) -> str:
        """Id of the document that holds the token at a position.

        Raises:
            IndexError: the stream has no such position.
        """
        if not 0 <= position < self.tokens:
            raise IndexError(f"stream {self.name} has no token at {position}, only {self.tokens} tokens")
        return bytes(self.documents[self.document_at(position)]).hex()

    def by_source(self, intervals: Intervals) -> NDArray[np.int64]:
        """Tokens of each source in stretches of the stream, [sources]; where stretches overlap, tokens count again.

        Files that lie wholly inside or outside of every stretch count by their totals, so only the documents of the
        others are looked at.
        """
        counts = np.zeros(self.totals.shape[1], np.int64)
        starts, ends = np.sort(intervals[:, 0]), np.sort(intervals[:, 1])
        first, last = (int(starts[0]), int(ends[-1])) if len(intervals) else (0, 0)
        partial: list[list[int]] = []
        for shard in range(first // self.shard_tokens, -(-last // self.shard_tokens)):
            left, right = shard * self.shard_tokens, min((shard + 1) * self.shard_tokens, self.tokens)
            over = np.searchsorted(starts, left, "right") - np.searchsorted(ends, left, "right")
            edges = sum(
                int(np.searchsorted(of, right, "left") - np.searchsorted(of, left, "right")) for of in (starts, ends)
            )
            if shard < len(self.totals) and not edges:
                counts += over * self.totals[shard]
            elif partial and partial[-1][1] == left:
                partial[-1][1] = right
            else:
                partial.append([left, right])
        for left, right in partial:
            begin, end = self.document_at(max(left, first)), self.document_at(min(right, last) - 1) + 1
            for number in range(begin, end, DOCUMENTS_AT_ONCE):
                until = min(number + DOCUMENTS_AT_ONCE, end)
                offsets = np.clip(np.asarray(self.offsets[number : until + 1]), left, right)
                covered = np.diff(_covered_before(offsets, starts) - _covered_before(offsets, ends))
                np.add.at(counts, np.asarray(self.sources[number:until]), covered)
        return counts


def _covered_before(positions: NDArray[np.int64], edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """For each position, the sum of its distances from all sorted edges before it. [positions]"""
    sums = np.concatenate([[0], np.cumsum(edges)])
    before = np.searchsorted(edges, positions)
    distances: NDArray[np.int64] = positions * before - sums[before]  # 64 bits may overflow: the difference is right
    return distances
