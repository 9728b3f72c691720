"""Elements in well-formed markup, found without a tree."""

from __future__ import annotations

from collections.abc import Iterable


def without_spans(markup: str, spans: Iterable[tuple[int, int]]) -> str:
    """Text without stretches of it, which are sorted and may lie in each other."""
    pieces, at = list[str](), 0
    for start, end in spans:
        if start >= at:
            pieces.append(markup[at:start])
        at = max(at, end)
    return "".join(pieces) + markup[at:]


def end_of_element(markup: str, name: str, at: int) -> int:
    """Where an element ends whose start tag ends at `at`; the end of the markup if it is never closed."""
    depth, opening, closing = 1, f"<{name}", f"</{name}>"
    while depth:
        end = markup.find(closing, at)
        if end < 0:
            return len(markup)
        inner = markup.find(opening, at, end)
        while inner >= 0:
            depth += markup[inner + len(opening)] in " >"
            inner = markup.find(opening, inner + 1, end)
        depth -= 1
        at = end + len(closing)
    return at
