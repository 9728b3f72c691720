"""How much a text repeats itself: the measures of Gopher (Rae et al. 2021, appendix A.1, table A1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
WINDOW_WORDS = 1_000  # about the length of the web documents that the published limits were chosen on
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def repetition(
    lines: Sequence[str], paragraphs: Sequence[str], words: Sequence[str], window_words: int = WINDOW_WORDS
) -> dict[str, float]:
    """Shares between 0 and 1 of lines, paragraphs and characters that are repeated.

    Of equal lines, paragraphs and n-grams all but the first count. Characters are those of words; one that several
    repeated n-grams cover counts once.

    Args:
        window_words: repetition counts within windows of about so many words. Over a whole text the shares would grow
            with its length, whatever its quality, and long manuals would look like logs.

    Returns:
        "duplicate_lines", "duplicate_line_chars", "duplicate_paragraphs", "duplicate_paragraph_chars", "top_2" to
        "top_4" (characters in the n-gram that takes up most) and "duplicate_5" to "duplicate_10".
    """
    measures = {}
    for name, pieces in (("line", lines), ("paragraph", paragraphs)):
        count, chars = _repeated(pieces, window_words)
        measures[f"duplicate_{name}s"] = count / max(len(pieces), 1)
        measures[f"duplicate_{name}_chars"] = chars / max(sum(map(len, pieces)), 1)
    measures |= _gram_shares(words, window_words)
    return {name: round(value, 4) for name, value in measures.items()}


def _repeated(pieces: Sequence[str], window_words: int) -> tuple[int, int]:
    seen: set[str] = set()
    count = chars = spaces = 0
    for piece in pieces:
        if piece in seen:
            count += 1
            chars += len(piece)
        else:
            seen.add(piece)
        spaces += piece.count(" ") + 1
        if spaces >= window_words:
            seen.clear()
            spaces = 0
    return count, chars


def _gram_shares(words: Sequence[str], window_words: int) -> dict[str, float]:
    numbers: dict[str, int] = {}
    ids = np.fromiter((numbers.setdefault(word, len(numbers)) for word in words), np.uint64, len(words))
    sizes = np.fromiter(map(len, words), np.int64, len(words))
    ends = np.concatenate([[0], np.cumsum(sizes)])
    total = max(int(ends[-1]), 1)
    hashes = _mixed(ids)
    # A polynomial in the hashes of the words, modulo 2^64, so collisions do not matter at a document's size. The
    # window comes first, so that equal n-grams of two windows differ.
    grams = _mixed(np.arange(len(words), dtype=np.uint64) // np.uint64(window_words)) * _MULTIPLIER + hashes
    starts = np.arange(len(words))
    shares: dict[str, float] = {}
    for size in range(2, max(DUPLICATE_SIZES) + 1):
        grams = grams[:-1] * _MULTIPLIER + hashes[size - 1 :] if len(words) >= size else grams[:0]
        starts = starts[starts < len(grams)]
        # A stable sort keeps equal n-grams in their order, so the first of each run is the first occurrence.
        order = starts[np.argsort(grams[starts], kind="stable")]
        same = grams[order[1:]] == grams[order[:-1]]
        if size in TOP_SIZES:
            shares[f"top_{size}"] = min(_top_chars(order, same, ends, size) / total, 1.0)
        elif size in DUPLICATE_SIZES:
            shares[f"duplicate_{size}"] = _covered_chars(order[1:][same], sizes, size) / total
        # An n-gram that occurs once is no part of a longer one that occurs twice.
        starts = np.sort(order[np.append(same, False) | np.insert(same, 0, False)]) if len(order) else order
    return shares


def _mixed(ids: np.ndarray) -> np.ndarray:
    """Ids spread over 64 bits (the finaliser of splitmix64)."""
    mixed = (ids + np.uint64(1)) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def _top_chars(order: np.ndarray, same: np.ndarray, ends: np.ndarray, size: int) -> int:
    """Characters in all occurrences of the n-gram that takes up most of them; 0 if none occurs twice."""
    if not same.any():
        return 0
    runs = np.flatnonzero(np.concatenate([[True], ~same]))  # where each n-gram begins in `order`
    counts = np.diff(np.append(runs, len(order)))
    at = order[runs]
    return int(((ends[at + size] - ends[at]) * counts)[counts > 1].max())


def _covered_chars(starts: np.ndarray, sizes: np.ndarray, size: int) -> int:
    """Characters of words that lie in an n-gram which begins at one of `starts`."""
    steps = np.zeros(len(sizes) + 1, np.int64)
    steps[starts] += 1  # each start is there once
    steps[starts + size] -= 1
    return int(sizes[np.cumsum(steps[:-1]) > 0].sum())
