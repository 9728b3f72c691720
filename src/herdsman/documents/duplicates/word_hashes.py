"""Hashes of all words of many texts at once, without a Python object for any word.

A word is a run of letters, digits, marks and underscores, whatever its case; where a script writes no spaces between
words, each character is one. Its hash is the sum of its characters' random numbers, each times the power of an odd
number that belongs to its place, mod 2^64: sums of words are then differences of one running sum over the text.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

U64 = NDArray[np.uint64]
BLOCK_CHARS = 65_536  # their numbers (0.5 MB) stay in the cache; longer texts are cut
_IDEOGRAPHS, _CODES = 0x20000, 0x32000  # rare ones lie between, above them there are no letters in use
_UNSPACED = (
    (_IDEOGRAPHS, _CODES),
    (0x0E00, 0x0F00),
    (0x1000, 0x10A0),
    (0x1780, 0x1800),
    (0x3040, 0x3100),
    (0x3400, 0xA000),
    (0xF900, 0xFB00),
)
_POWER, _SPREAD = 0x9E3779B97F4A7C15, np.uint64(0xBF58476D1CE4E5B9)
_WORD, _ALONE = 1, 2


def mix(numbers: U64) -> U64:
    """Spreads every bit over all others (in place), so that any bits of the result make a hash."""
    numbers ^= numbers >> np.uint64(31)
    numbers *= _SPREAD
    numbers ^= numbers >> np.uint64(29)
    numbers *= np.uint64(_POWER)
    numbers ^= numbers >> np.uint64(32)
    return numbers


def hash_of(text: str) -> int:
    """64 bits of a string, the same on every machine."""
    return int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


@cache
def _letters() -> tuple[U64, NDArray[np.uint8]]:
    """Of every code point that of its lower case, and whether it is in words, or a word."""
    kinds = np.zeros(_CODES, np.uint8)
    letters = np.arange(_CODES, dtype=np.uint64)
    for code in range(_IDEOGRAPHS):
        character = chr(code)
        if character.isalnum() or unicodedata.category(character)[0] == "M":
            kinds[code] = _WORD
            letters[code] = ord(character.lower()[0])
    kinds[_IDEOGRAPHS:-1] = _WORD
    for start, end in _UNSPACED:
        kinds[start:end] *= _ALONE
    return letters, kinds


@cache
def _alphabet(digits_alike: bool) -> tuple[U64, NDArray[np.uint8]]:
    """Of every code point its random number, the same in both cases, 0 if it is in no word; and whether it is in
    words, or a word."""
    letters, kinds = _letters()
    letters, kinds = letters.copy(), kinds.copy()
    kinds[ord("_")] = 0 if digits_alike else _WORD
    if digits_alike:
        letters[[code for code in np.flatnonzero(kinds[:_IDEOGRAPHS]).tolist() if chr(code).isdigit()]] = ord("0")
    numbers = mix(letters + np.uint64(1))
    numbers[kinds == 0] = 0
    return numbers, kinds


@cache
def _powers() -> tuple[U64, U64]:
    """Powers of an odd number and of its inverse mod 2^64."""
    inverse = pow(_POWER, -1, 2**64)
    return tuple(  # type: ignore[return-value]
        np.cumprod(np.concatenate([[np.uint64(1)], np.full(BLOCK_CHARS - 1, base, np.uint64)]), dtype=np.uint64)
        for base in (_POWER, inverse)
    )


class Words(NamedTuple):
    """The words of a text.

    Attributes:
        hashes: one for each word, [words].
        starts: where each begins, [words].
        codes: the code points of the text, [characters].
        inside: above 0 for those that are in a word, [characters].
    """

    hashes: U64
    starts: NDArray[np.int64]
    codes: NDArray[np.uint32]
    inside: NDArray[np.uint8]


def word_hashes(text: str, digits_alike: bool = False) -> Words:
    """Hashes of the words of a text of at most `BLOCK_CHARS`.

    Args:
        digits_alike: every digit counts as 0, and underscores separate words.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    numbers, kinds = _alphabet(digits_alike)
    powers, inverses = _powers()
    kind = kinds.take(codes, mode="clip")  # the last code point of the table is in no word
    before = np.empty_like(kind)
    before[:1], before[1:] = 0, kind[:-1]
    starts = np.flatnonzero((kind > before) | (kind == _ALONE) | ((kind == _WORD) & (before == _ALONE)))
    if not len(starts):
        return Words(np.empty(0, np.uint64), starts, codes, kind)
    weighted = numbers.take(codes, mode="clip")
    weighted *= powers[: len(codes)]
    hashes = np.add.reduceat(weighted, starts)
    hashes *= inverses.take(starts)
    return Words(mix(hashes), starts, codes, kind)
