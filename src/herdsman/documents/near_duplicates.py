"""Near duplicates: MinHash signatures of word 5-grams, banded, verified and joined to clusters.

Llama 3 deduplicates globally with MinHash (section 3.1.1) and publishes no parameters; these are FineWeb's: 112 hashes
in 14 bands of 8. Two documents of similarity J agree in all of some band with probability 1 - (1 - J^8)^14, which is
77% at 0.75 and 99% at 0.85. Who meets in a band is compared over the whole signature, so chance meetings do no harm.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

HASHES, BANDS = 112, 14
ROWS = HASHES // BANDS
SHINGLE_WORDS = 5
NEIGHBOURS = 32  # of a crowded band, those in stored order that a document is compared with, beside the very first
_SHINGLES_AT_ONCE = 8_192  # their hashes (3.7 MB) stay in the cache
_PAIRS_AT_ONCE = 65_536

_WORD = re.compile(r"\w+")
# Scripts that write no spaces between words: each character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_UNSPACED_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
_ANY_UNSPACED = re.compile(f"[{_UNSPACED}]")

Signature = NDArray[np.uint32]


def _constants() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Factors (odd) and summands of the hash functions, each [HASHES, 1]; the same on every machine."""
    stream = b"".join(blake2b(bytes([number]), digest_size=8).digest() for number in range(HASHES))
    numbers = np.frombuffer(stream, "<u4").astype(np.uint32).reshape(HASHES, 2)
    return numbers[:, :1] | np.uint32(1), numbers[:, 1:].copy()


_FACTORS, _SUMMANDS = _constants()


class Signer:
    """Makes signatures; keeps the hashes of words it has seen."""

    def __init__(self) -> None:
        self._words: dict[str, int] = {}

    def sign(self, text: str) -> Signature:
        """The MinHash signature of a text, [HASHES]. Two of them agree in about as many places as the texts' sets of
        word 5-grams have in common (Jaccard similarity)."""
        shingles = self.shingles(text)
        signature = np.full(HASHES, 0xFFFFFFFF, np.uint32)
        for start in range(0, len(shingles), _SHINGLES_AT_ONCE):
            hashed = shingles[start : start + _SHINGLES_AT_ONCE] * _FACTORS
            hashed += _SUMMANDS
            np.minimum(signature, hashed.min(axis=1), out=signature)
        return signature

    def shingles(self, text: str) -> NDArray[np.uint32]:
        """Hashes of the different word 5-grams, at least one: a shorter text is one shingle as a whole."""
        text = text.lower()
        pattern = _UNSPACED_WORD if not text.isascii() and _ANY_UNSPACED.search(text) else _WORD
        words = pattern.findall(text) or [text]
        known = self._words
        for word in set(words).difference(known):
            known[word] = int.from_bytes(
                blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
            )
        hashes = np.fromiter(map(known.__getitem__, words), np.uint64, len(words))
        length = min(SHINGLE_WORDS, len(words))
        combined = hashes[: len(words) - length + 1].copy()
        for offset in range(1, length):
            combined *= np.uint64(0x9E3779B97F4A7C15)
            combined ^= hashes[offset : offset + len(combined)]
        combined ^= combined >> np.uint64(29)
        combined *= np.uint64(0xBF58476D1CE4E5B9)
        return np.unique((combined >> np.uint64(32)).astype(np.uint32))


@dataclass(frozen=True)
class Clusters:
    """Which document stands for which.

    Attributes:
        kept: index of the document that stands for each one's cluster, its own if it does; [documents]
        similarity: estimated Jaccard similarity to that one; [documents]
    """

    kept: NDArray[np.int64]
    similarity: NDArray[np.float64]


def find_clusters(signatures: NDArray[np.uint32], threshold: float, dates: Sequence[str]) -> Clusters:
    """Joins documents that meet in a band and are at least `threshold` similar, and those joined to them in turn.

    The newest document stands for its cluster; of equally old ones the last, since editions of one text tend to be
    stored in the order of their names.

    Args:
        signatures: [documents, HASHES], in stored order.
        dates: when each was crawled, in a form that sorts; [documents]
    """
    parents = list(range(len(signatures)))

    def root(at: int) -> int:
        while parents[at] != at:
            parents[at] = parents[parents[at]]
            at = parents[at]
        return at

    for pairs in _meetings(signatures):
        alike = np.concatenate([
            similarity(signatures[block[:, 0]], signatures[block[:, 1]]) >= threshold
            for block in np.array_split(pairs, len(pairs) // _PAIRS_AT_ONCE + 1)
        ])  # fmt: skip
        for one, other in pairs[alike].tolist():
            first, second = sorted((root(one), root(other)))
            parents[second] = first
    roots = [root(at) for at in range(len(signatures))]
    newest = dict[int, int]()
    for at, cluster in enumerate(roots):
        if cluster not in newest or dates[at] >= dates[newest[cluster]]:
            newest[cluster] = at
    kept = np.fromiter((newest[cluster] for cluster in roots), np.int64, len(roots))
    likeness = np.ones(len(signatures))
    moved = np.flatnonzero(kept != np.arange(len(signatures)))
    likeness[moved] = similarity(signatures[moved], signatures[kept[moved]])
    return Clusters(kept, likeness)


def similarity(one: NDArray[np.uint32], other: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Estimated Jaccard similarity of signatures [pairs, HASHES], row by row."""
    result: NDArray[np.float64] = (one == other).mean(axis=-1)
    return result


def _meetings(signatures: NDArray[np.uint32]) -> Iterator[NDArray[np.int64]]:
    """For each band, pairs of documents that agree in all of its rows, [pairs, 2]."""
    for band in range(BANDS):
        rows = signatures[:, band * ROWS : (band + 1) * ROWS].astype(np.uint64)
        keys = np.zeros(len(rows), np.uint64)
        for row in range(ROWS):
            keys = (keys ^ rows[:, row]) * np.uint64(0x9E3779B97F4A7C15)
            keys ^= keys >> np.uint64(29)
        order = np.argsort(keys, kind="stable")
        keys = keys[order]
        new = np.concatenate([[True], keys[1:] != keys[:-1]]) if len(keys) else np.zeros(0, bool)
        first = order[np.maximum.accumulate(np.where(new, np.arange(len(keys)), 0))]
        pairs = [np.stack([first, order], axis=1)[~new]]
        for distance in range(1, NEIGHBOURS + 1):
            same = keys[distance:] == keys[:-distance]
            if not same.any():
                break
            pairs.append(np.stack([order[:-distance], order[distance:]], axis=1)[same])
        yield np.unique(np.concatenate(pairs), axis=0)
