"""Repeated lines: what occurs again and again over many documents is boilerplate, wherever it stands.

Llama 3 removes lines that appear more than 6 times in each bucket of 30 million documents, within each language
(section 3.1.1), and knows that this also takes some good text. Only whole lines of prose count here: code, tables,
headings and short lines repeat for good reasons, and a document is broken without them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from herdsman.documents.blocks import ITEM, PROSE

MIN_CHARS = 30  # of a line, once it is reduced to its words
KEYS_AT_ONCE = 50_000_000  # 400 MB of keys are counted at a time
_EMPTY = " "
_DIGIT = re.compile(r"\d")
_NOT_WORD = re.compile(r"[\W_]+")

Keys = NDArray[np.uint64]


def line_keys(text: str, kinds: str, language: str) -> Keys:
    """A key for each line, [lines]: equal for lines that differ in case, digits and punctuation only, as in CCNet.

    Args:
        kinds: the kind of each line, see `extract.Extract`.

    Returns:
        0 for lines that are never removed.
    """
    mark = language.encode()[:16]
    keys = [
        _key(line, mark) if kind in (PROSE, ITEM) else 0 for line, kind in zip(text.split("\n"), kinds, strict=True)
    ]
    return np.array(keys, np.uint64)


def _key(line: str, mark: bytes) -> int:
    if len(line) < MIN_CHARS:
        return 0
    words = _NOT_WORD.sub(" ", _DIGIT.sub("0", line.lower())).strip()
    if len(words) < MIN_CHARS:
        return 0
    return int.from_bytes(
        blake2b(words.encode("utf-8", "surrogatepass"), digest_size=8, person=mark).digest(), "little"
    )


def repeated_lines(parts: Callable[[], Iterable[Keys]], limit: int) -> Keys:
    """Keys that occur more than `limit` times, sorted.

    Args:
        parts: gives the keys of all lines piece by piece; asked again for each share of them that fits into memory.
    """
    total = sum(len(part) for part in parts())
    shares = total // KEYS_AT_ONCE + 1
    found = []
    for share in range(shares):
        mine = [part[(part % np.uint64(shares) == share) & (part != 0)] for part in parts()]
        keys, counts = np.unique(np.concatenate([np.empty(0, np.uint64), *mine]), return_counts=True)
        found.append(keys[counts > limit])
    return np.sort(np.concatenate(found))


def remove_lines(text: str, kinds: str, keys: Keys, repeated: Keys) -> tuple[str, str, list[tuple[int, str]]]:
    """Takes lines with a repeated key out of a text, and the empty lines that would then follow one another.

    Args:
        keys: of each line, see `line_keys`.
        repeated: sorted.

    Returns:
        The text, the kinds of its lines, and the removed lines with their keys.
    """
    places = np.searchsorted(repeated, keys)
    places[places == len(repeated)] = 0
    hits = (keys != 0) & (repeated[places] == keys) if len(repeated) else np.zeros(len(keys), bool)
    if not hits.any():
        return text, kinds, []
    lines, left, removed = text.split("\n"), list[int](), list[tuple[int, str]]()
    for at, line in enumerate(lines):
        if hits[at]:
            removed.append((int(keys[at]), line))
        elif kinds[at] != _EMPTY or (left and kinds[left[-1]] != _EMPTY):
            left.append(at)
    while left and kinds[left[-1]] == _EMPTY:
        left.pop()
    return "\n".join(lines[at] for at in left), "".join(kinds[at] for at in left), removed
