"""What differs between two texts: first by lines, then by the words of those lines that do not meet their like."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator

SAME, LEFT, RIGHT = "=", "-", "+"
MOST_COMPARISONS = 4_000_000  # of two lists of words or lines; longer ones count as different as a whole
_PIECE = re.compile(r"\s+|\S+")

Pieces = list[tuple[str, list[str]]]


def differences(left: str, right: str) -> Pieces:
    """Both texts cut into stretches of words and white space that both have ("="), or only the left ("-") or right one.

    Of a place where both differ the left stretch comes first. The stretches with "=" and "-" are the left text, those
    with "=" and "+" the right one.
    """
    joined: Pieces = []
    for mark, lines, others in _matched(left.splitlines(keepends=True), right.splitlines(keepends=True)):
        words, other_words = (_PIECE.findall("".join(part)) for part in (lines, others))
        parts = [(SAME, words, words)] if mark == SAME else _matched(words, other_words)
        for sort, ours, theirs in parts:
            for name, found in ((SAME, ours),) if sort == SAME else ((LEFT, ours), (RIGHT, theirs)):
                if found and joined and joined[-1][0] == name:
                    joined[-1][1].extend(found)
                elif found:
                    joined.append((name, list(found)))
    return joined


def marked(left: str, right: str, cut: bool = False) -> str:
    """One text from two: what only the left one has as [-…-], what only the right one has as {+…+}.

    Args:
        cut: these are beginnings of longer texts: what differs at the very end only does because one is cut earlier.
    """
    pieces = differences(left, right)
    while cut and len(pieces) > 1 and pieces[-1][0] != SAME:
        pieces.pop()
    forms = {SAME: "{}", LEFT: "[-{}-]", RIGHT: "{{+{}+}}"}
    return "".join(forms[mark].format("".join(words)) for mark, words in pieces) + (" …" if cut else "")


def _matched(left: list[str], right: list[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    if len(left) * len(right) > MOST_COMPARISONS:
        yield LEFT, left, right
        return
    for tag, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        yield SAME if tag == "equal" else LEFT, left[a:b], right[c:d]
