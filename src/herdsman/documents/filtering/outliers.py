"""Outlier tokens: how far a text's words are from those of its language in this corpus (Llama 3, section 3.1.1).

The measure is the Kullback-Leibler divergence of the text's words from the language's, over classes of words that are
about equally frequent in the language: by the data processing inequality a lower bound of the divergence over single
words, and unlike that one not a measure of how short a text is. Encoded data, keys and word salad consist of words that
are rare, or nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.duplicates.word_hashes import BLOCK_CHARS, word_hashes

BUCKET_BITS = 17  # words of a language share 131,072 counters, 1 MiB
MIN_WORDS = 50  # of a text, below which its words are no distribution
MIN_LANGUAGE_WORDS = 200_000  # below which a language's counts say too little
_CLASSES = BUCKET_BITS + 2  # by halves of the frequency; the last are words that only this text has
_SMOOTHING = 1e-3


@dataclass
class Counts:
    """How often words occur, by language: arrays of 2 ** `BUCKET_BITS` counts of hashed words."""

    tables: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    _usual: dict[str, tuple[int, NDArray[np.float64]]] = field(default_factory=dict, repr=False, compare=False)

    def usual(self, language: str) -> tuple[int, NDArray[np.float64]]:
        """How many words a language has here, and how they are spread over the classes."""
        if language not in self._usual:
            table = self.tables.get(language, np.zeros(1, np.int64))
            total = int(table.sum())
            spread: NDArray[np.float64] = np.bincount(_class(table, total), weights=table, minlength=_CLASSES).astype(
                np.float64
            )
            # Good and Turing: words that a text has alone are as frequent as those that occur once in all texts.
            spread[-1] = (table == 1).sum()
            spread = spread / max(total, 1) + _SMOOTHING
            self._usual[language] = total, spread / spread.sum()
        return self._usual[language]


def token_counts(texts: Iterable[str], languages: Iterable[str]) -> Counts:
    """The words of some texts, counted within the language of each."""
    counts = Counts()
    for text, language in zip(texts, languages, strict=True):
        table = counts.tables.setdefault(language, np.zeros(1 << BUCKET_BITS, np.int64))
        buckets, times = np.unique(_buckets(text), return_counts=True)
        table[buckets] += times
    return counts


def divergence(text: str, language: str, counts: Counts) -> float | None:
    """Divergence of a text's words from those of all other texts of its language, in nats.

    Args:
        counts: of the whole corpus, with this text in it.

    Returns:
        None if text or language have too few words.
    """
    total, usual = counts.usual(language)
    own, times = np.unique(_buckets(text), return_counts=True)
    words = int(times.sum())
    if words < MIN_WORDS or total - words < MIN_LANGUAGE_WORDS:
        return None
    elsewhere = np.maximum(counts.tables[language][own] - times, 0)
    found = np.bincount(_class(elsewhere, total - words), weights=times, minlength=_CLASSES) / words
    there = found > 0
    return round(float((found[there] * np.log(found[there] / usual[there])).sum()), 4)


def _class(times: NDArray[np.int64], total: int) -> NDArray[np.int64]:
    """The class of words that occur so many times among so many: the binary logarithm of one in how many they are."""
    rarity = np.log2(max(total, 1) / np.maximum(times, 1))
    return np.where(times == 0, _CLASSES - 1, np.clip(rarity, 0, _CLASSES - 2).astype(np.int64))


def _buckets(text: str) -> NDArray[np.int64]:
    return (word_hashes(text[:BLOCK_CHARS]).hashes >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
