"""Near duplicates: MinHash signatures of word n-grams, banded, verified and joined to clusters, out of core.

Llama 3 deduplicates globally with MinHash (section 3.1.1) and publishes no parameters; the defaults are FineWeb's: 112
hashes of 5-grams in 14 bands of 8. Two documents of similarity J agree in all of some band with probability
1 - (1 - J^8)^14, which is 77% at 0.75 and 99% at 0.85. Who meets in a band is compared over the whole signature, so
chance meetings do no harm.

Signatures take 2 bytes a hash on disk, band keys 8 bytes a band; in memory there are 8 bytes a document and one range
of one band's keys (`shuffle.RECORDS_PER_PART`) for each worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.duplicates.duplicate_options import DuplicateOptions
from herdsman.documents.duplicates.shuffle import Spread, parts_of, read_part, save
from herdsman.documents.duplicates.word_hashes import BLOCK_CHARS, U64, hash_of, mix, word_hashes

Signatures = NDArray[np.uint16]
Edges = NDArray[np.int64]
"""Pairs of documents that are alike, [2, pairs]."""

NEIGHBOURS = 32  # of a crowded band, those in stored order that a document is compared with, beside the very first
_HASHES_AT_ONCE = 14  # with the shingles of a block they stay in the cache
_PAIRS_AT_ONCE = 65_536
_STEP = np.uint64(0x9E3779B97F4A7C15)


class Signer:
    """Makes MinHash signatures."""

    def __init__(self, options: DuplicateOptions):
        self.hashes, self.shingle_words = options.bands * options.rows, options.shingle_words
        # Factors (odd) and summands of the hash functions, each [hashes, 1]; the same on every machine.
        stream = b"".join(
            blake2b(number.to_bytes(4, "little"), digest_size=8).digest() for number in range(self.hashes)
        )
        numbers = np.frombuffer(stream, "<u4").astype(np.uint32).reshape(self.hashes, 2)
        self._factors, self._summands = numbers[:, :1] | np.uint32(1), numbers[:, 1:].copy()

    def sign(self, texts: Sequence[str]) -> Signatures:
        """The signatures of texts, [texts, hashes]. Two of them agree in about as many places as the texts' sets of
        word n-grams have in common (Jaccard similarity); each depends on its text alone."""
        signatures = np.full((self.hashes, len(texts)), 0xFFFFFFFF, np.uint32)
        block: list[str] = []
        owners: list[int] = []
        free = BLOCK_CHARS
        for number, text in enumerate(texts):
            for start in range(0, max(len(text), 1), BLOCK_CHARS):
                piece = text[start : start + BLOCK_CHARS]
                if len(piece) >= free and block:
                    self._sign(block, owners, signatures)
                    block, owners, free = [], [], BLOCK_CHARS
                block.append(piece)
                owners.append(number)
                free -= len(piece) + 1
        if block:
            self._sign(block, owners, signatures)
        return signatures.T.astype(np.uint16)  # the lower half tells two hashes apart as well, but for 1 in 65,536

    def _sign(self, block: list[str], owners: list[int], signatures: NDArray[np.uint32]) -> None:
        shingles, starts = self.shingles(block)
        for low in range(0, self.hashes, _HASHES_AT_ONCE):
            rows = slice(low, low + _HASHES_AT_ONCE)
            hashed = shingles * self._factors[rows]
            hashed += self._summands[rows]
            least = np.minimum.reduceat(hashed, starts, axis=1)
            # All pieces of a long text but its last have a block of their own, so no block names a text twice.
            signatures[rows, owners] = np.minimum(signatures[rows, owners], least)

    def shingles(self, block: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Hashes of the word n-grams of short texts, at least one each (a shorter text is one as a whole), and where
        those of each text begin. [shingles], [texts]"""
        words, places, _, _ = word_hashes("\n".join(block))
        cuts = np.cumsum([0, *(len(text) + 1 for text in block)])
        first, last = np.searchsorted(places, cuts[:-1]), np.searchsorted(places, cuts[1:])
        combined = words.copy()
        for offset in range(1, self.shingle_words):
            following = words[offset:]
            combined[: len(following)] *= _STEP
            combined[: len(following)] ^= following
        whole = np.ones(len(words), bool)
        for offset in range(1, self.shingle_words):
            ends = last - offset
            whole[ends[ends > first]] = False
        for number in np.flatnonzero(last - first < self.shingle_words).tolist():
            short = words[first[number] : last[number]]
            if len(short):
                combined[first[number]] = hash_of(short.tobytes().hex())
        counts = np.add.reduceat(np.append(whole, False), first, dtype=np.int64) if len(words) else first
        empty = np.flatnonzero(last == first).tolist()
        found = (mix(combined[whole]) >> np.uint64(32)).astype(np.uint32)
        counts[last == first] = 0
        starts = np.cumsum(counts) - counts
        if empty:  # no words at all: the text itself
            own = np.array([hash_of(block[number]) & 0xFFFFFFFF for number in empty], np.uint32)
            found = np.insert(found, starts[empty], own)
            counts[empty] = 1
            starts = np.cumsum(counts) - counts
        return found, starts


def similarity(one: Signatures, other: Signatures) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of signatures [pairs, hashes], row by row."""
    result: NDArray[np.float64] = (one == other).mean(axis=-1)
    return result


def band_keys(
    signatures: Signatures, places: NDArray[np.int64], languages: U64 | None, options: DuplicateOptions
) -> U64:
    """For each band the documents that go on in the order of their keys, [bands, documents]: 32 bits of key, then 32 of
    place.

    Args:
        places: of these documents among all, fewer than 2^32; [documents]
        languages: hashes of their languages if only documents of one language may meet; [documents]
    """
    result = np.empty((options.bands, len(signatures)), np.uint64)
    for band in range(options.bands):
        keys = np.zeros(len(signatures), np.uint64) if languages is None else languages.copy()
        for row in range(band * options.rows, (band + 1) * options.rows):
            keys ^= signatures[:, row]
            keys *= _STEP
            keys ^= keys >> np.uint64(29)
        result[band] = mix(keys) & np.uint64(0xFFFFFFFF00000000) | places.astype(np.uint64)
    result.sort(axis=1)
    return result


@dataclass(frozen=True)
class Bands:
    """What is compared: files of signatures, and of band keys of the same units, in order."""

    signatures: list[Path]
    keys: list[Path]
    options: DuplicateOptions
    folder: Path

    def items(self, documents: int) -> list[tuple[int, int, int]]:
        """Every band with every range of its keys, to be called with."""
        parts = parts_of(documents)
        return [(band, part, parts) for band, part in product(range(self.options.bands), range(parts))]

    def __call__(self, item: tuple[int, int, int]) -> Path:
        """Edges between documents that meet in one range of one band's keys; the file they are in."""
        band, part, parts = item
        path = self.folder / f"edges-{band:03d}-{part:05d}-of-{parts:05d}.npy"
        if not path.exists():
            save(path, self._edges(read_part(self.keys, part, parts, band)))
        return path

    def _edges(self, records: U64) -> Edges:
        records.sort()
        places = (records & np.uint64(0xFFFFFFFF)).astype(np.int64)
        records >>= np.uint64(32)
        new = np.ones(len(records), bool)
        new[1:] = records[1:] != records[:-1]
        crowded = ~new
        crowded[:-1] |= ~new[1:]
        records, places, new = records[crowded], places[crowded], new[crowded]
        signatures = Spread(self.signatures)
        leader = np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))
        joined, edges = new.copy(), [np.empty((2, 0), np.int64)]
        others = np.flatnonzero(~new)
        alike = self._alike(signatures, places[leader[others]], places[others])
        joined[others[alike]] = True
        edges.append(np.stack([places[leader[others]], places[others]])[:, alike])
        for distance in range(1, NEIGHBOURS + 1):
            # Who is like the first of all needs no other neighbour that is so too.
            near = np.flatnonzero(
                (records[distance:] == records[:-distance]) & ~(joined[distance:] & joined[:-distance])
            )
            if not len(near):
                continue
            pairs = np.stack([places[near], places[near + distance]])
            edges.append(pairs[:, self._alike(signatures, pairs[0], pairs[1])])
        return np.concatenate(edges, axis=1)

    def _alike(self, signatures: Spread, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
        return compare(signatures, one, other) >= self.options.similarity


def compare(signatures: Spread, one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimated similarity of documents at these places, pair by pair."""
    result = np.empty(len(one))
    for start in range(0, len(one), _PAIRS_AT_ONCE):
        block = slice(start, start + _PAIRS_AT_ONCE)
        result[block] = similarity(signatures.take(one[block]), signatures.take(other[block]))  # type: ignore[arg-type]
    return result


def join(documents: int, edges: Iterable[Edges]) -> NDArray[np.int64]:
    """The connected components: for each document the first one of its cluster, [documents]."""
    parents = np.arange(documents)
    for pairs in edges:
        one, other = pairs
        while len(one):
            one, other = _roots(parents, one), _roots(parents, other)
            apart = one != other
            one, other = one[apart], other[apart]
            np.minimum.at(parents, np.maximum(one, other), np.minimum(one, other))
    return _roots(parents, parents)


def _roots(parents: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int64]:
    while True:
        above = parents[places]
        if (above == places).all():
            return above
        places = above


def choose(clusters: NDArray[np.int64], *priorities: NDArray[np.generic]) -> NDArray[np.int64]:
    """For each document the place of the one that stands for its cluster, its own if it does; [documents]

    Args:
        priorities: of each document; the highest of the first decides, then of the second, at last the last in stored
            order: editions of one text tend to be stored in the order of their names. [documents] each
    """
    kept = np.arange(len(clusters))
    moved = np.flatnonzero(clusters != kept)
    members = np.union1d(moved, clusters[moved])
    order = members[np.lexsort([members, *(values[members] for values in reversed(priorities))])]
    kept[clusters[order]] = order  # the last of each cluster stays
    kept[members] = kept[clusters[members]]
    return kept
