"""The yardstick a language model must beat: an order-3 character model of the same training text.

It predicts each byte of UTF-8 from the three before it by counting, with interpolated Witten-Bell smoothing
(Witten and Bell 1991, method C; Chen and Goodman 1998, section 2.4): with n(h) bytes seen after the context h,
T(h) different ones among them, and h' the context without its first byte,

    p(b | h) = (count(h b) + T(h) * p(b | h')) / (n(h) + T(h)),

down to the empty context, whose own lower order is the uniform distribution over 256 bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

ORDER = 3
START = b"\xff" * ORDER  # context of a document's first bytes; the byte 0xFF does not occur in UTF-8
CHUNK_BYTES = 8_000_000

Keys = NDArray[np.uint32]
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class _Order:
    """Counts of one context length k. An n-gram is a number: the context's k bytes, then the byte that follows."""

    ngrams: Keys  # sorted
    ngram_counts: Counts
    contexts: Keys  # sorted
    context_counts: Counts  # n(h)
    context_types: Counts  # T(h)


class CharacterModel:
    """An order-3 byte model. `CharacterModel.fit(texts)` makes one."""

    def __init__(self, orders: list[_Order]):
        self.orders = orders

    @classmethod
    def fit(cls, texts: Iterable[str]) -> CharacterModel:
        """Counts the texts; memory is bounded by the number of different 4-byte sequences, not by the text's length.

        Raises:
            ValueError: the texts hold not a single byte.
        """
        keys, counts = np.empty(0, np.uint32), np.empty(0, np.int64)
        for chunk in _chunks(texts):
            new_keys, new_counts = np.unique(chunk, return_counts=True)
            keys, counts = _merged(np.concatenate([keys, new_keys]), np.concatenate([counts, new_counts]))
        if len(keys) == 0:
            raise ValueError("a character model needs at least one byte of text")
        return cls([_order(keys, counts, length) for length in range(ORDER + 1)])

    def log_probabilities(self, text: str) -> NDArray[np.float64]:
        """[bytes] natural logarithm of the probability of each byte of the text's UTF-8 given those before it."""
        keys = _keys([text.encode()])
        return np.log(self._probabilities(keys))

    def distribution(self, before: bytes) -> NDArray[np.float64]:
        """[256] probability of each next byte after the bytes `before`, which begin a text."""
        context = int.from_bytes((START + before)[-ORDER:], "big")
        return self._probabilities(np.arange(256, dtype=np.uint32) + np.uint32(context << 8))

    def _probabilities(self, keys: Keys) -> NDArray[np.float64]:
        probability = np.full(len(keys), 1 / 256)
        for length, order in enumerate(self.orders):
            ngrams = keys & _mask(length + 1)
            seen = _found(order.ngrams, order.ngram_counts, ngrams)
            total = _found(order.contexts, order.context_counts, ngrams >> np.uint32(8))
            types = _found(order.contexts, order.context_types, ngrams >> np.uint32(8))
            known = total > 0  # an unknown context leaves the lower order's word standing
            mixed = (seen + types * probability) / np.maximum(total + types, 1)
            probability = np.where(known, mixed, probability)
        return probability


def _order(keys: Keys, counts: Counts, length: int) -> _Order:
    ngrams, ngram_counts = _merged(keys & _mask(length + 1), counts)
    contexts, first = np.unique(ngrams >> np.uint32(8), return_index=True)
    types = np.diff(first, append=len(ngrams))
    return _Order(ngrams, ngram_counts, contexts, np.add.reduceat(ngram_counts, first), types.astype(np.int64))


def _merged(keys: Keys, counts: Counts) -> tuple[Keys, Counts]:
    """The different keys in order, each with the sum of its counts."""
    order = np.argsort(keys, kind="stable")
    distinct, first = np.unique(keys[order], return_index=True)
    return distinct, np.add.reduceat(counts[order], first)


def _chunks(texts: Iterable[str]) -> Iterator[Keys]:
    waiting, size = [], 0
    for text in texts:
        waiting.append(text.encode())
        size += len(waiting[-1])
        if size >= CHUNK_BYTES:
            yield _keys(waiting)
            waiting, size = [], 0
    if size:
        yield _keys(waiting)


def _keys(texts: list[bytes]) -> Keys:
    """The 4-gram that ends at each byte of the texts, in their order; a text's first bytes have `START` before them."""
    joined = np.frombuffer(START + START.join(texts), np.uint8)
    keys = joined[ORDER:].astype(np.uint32)
    for back in range(1, ORDER + 1):
        keys |= joined[ORDER - back : len(joined) - back].astype(np.uint32) << np.uint32(8 * back)
    return keys[joined[ORDER:] != START[0]]


def _found(sorted_keys: Keys, values: Counts, wanted: Keys) -> Counts:
    """values[i] where sorted_keys[i] is the wanted key, 0 where there is none."""
    place = np.minimum(np.searchsorted(sorted_keys, wanted), len(sorted_keys) - 1)
    return np.where(sorted_keys[place] == wanted, values[place], 0)


def _mask(length: int) -> np.uint32:
    """Keeps the last `length` bytes of a key."""
    return np.uint32((1 << (8 * length)) - 1)
