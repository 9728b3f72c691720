"""How much a text repeats itself: the measures of Gopher (Rae et al. 2021, appendix A.1, table A1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

TOP_SIZES = (2, 3, 4)
DUPLICATE_SIZES = (5, 6, 7, 8, 9, 10)
WINDOW_WORDS = 1_000  # about the length of the web documents that the published limits were chosen on
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def repeated_pieces(pieces: Sequence[str], window_words: int = WINDOW_WORDS) -> tuple[float, float]:
    """Shares of pieces (lines, paragraphs), and of their characters, that repeat an earlier one of their window.

    Args:
        window_words: repetition counts within windows of about so many words. Over a whole text the shares would grow
            with its length, whatever its quality, and long manuals would look like logs.
    """
    if len(set(pieces)) == len(pieces):
        return 0.0, 0.0
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
    return count / len(pieces), chars / max(sum(map(len, pieces)), 1)


def repeated_grams(
    ids: NDArray[np.int64], sizes: NDArray[np.int64], window_words: int = WINDOW_WORDS
) -> dict[str, float]:
    """Shares of a text's characters that are in repeated n-grams of words.

    Of equal n-grams of a window all but the first count. A character that several of them cover counts once.

    Args:
        ids: the words as numbers from 0; equal ones have equal numbers.
        sizes: characters of each of the words.

    Returns:
        "top_2" to "top_4" (characters in the n-gram that takes up most) and "duplicate_5" to "duplicate_10".
    """
    shares = {f"top_{size}": 0.0 for size in TOP_SIZES} | {f"duplicate_{size}": 0.0 for size in DUPLICATE_SIZES}
    words = len(ids)
    if words < min(TOP_SIZES):
        return shares
    ends = np.concatenate([[0], np.cumsum(sizes)])
    total = max(int(ends[-1]), 1)
    hashes = _mixed(np.arange(int(ids.max()) + 1, dtype=np.uint64))[ids]
    # A polynomial in the hashes of the words, modulo 2^64. The window comes first, so that equal n-grams of two windows
    # differ. The low bits give way to the position: sorted, equal n-grams stand in the order of the text.
    grams, starts = hashes, np.arange(words, dtype=np.uint64)
    if words > window_words:
        grams = _mixed(starts // np.uint64(window_words)) * _MULTIPLIER + hashes
    bits = np.uint64(words.bit_length())
    low = np.uint64((1 << int(bits)) - 1)
    for size in range(2, max(DUPLICATE_SIZES) + 1):
        inside = starts <= words - size
        if size == 2 or not inside.all():
            grams, starts = grams[inside], starts[inside]
        keys = ((grams * _MULTIPLIER + hashes[starts + np.uint64(size - 1)]) & ~low) | starts
        keys.sort()
        grams = keys & ~low
        same = grams[1:] == grams[:-1]
        if not same.any():
            break
        # An n-gram that occurs once is no part of a longer one that occurs twice.
        twice = np.zeros(len(keys), np.bool_)
        twice[1:] = same
        twice[:-1] |= same
        is_first = np.ones(len(keys), np.bool_)
        is_first[1:] = ~same
        is_first = is_first[twice]
        grams = grams[twice]
        starts = keys[twice] & low
        at = starts.astype(np.int64)
        if size in TOP_SIZES:
            firsts = np.flatnonzero(is_first)
            times = np.diff(np.append(firsts, len(at)))
            first = at[firsts]
            shares[f"top_{size}"] = min(int(((ends[first + size] - ends[first]) * times).max()) / total, 1.0)
        else:
            again = np.sort(at[~is_first])
            until = np.minimum(again + size, np.append(again[1:], words))
            shares[f"duplicate_{size}"] = int((ends[until] - ends[again]).sum()) / total
    return shares


def _mixed(ids: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Ids spread over 64 bits (the finaliser of splitmix64)."""
    mixed = (ids + np.uint64(1)) * _MULTIPLIER
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
