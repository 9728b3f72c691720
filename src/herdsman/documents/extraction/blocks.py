"""What a page consists of: blocks of text in the order of the page, and the elements that hold them."""

from __future__ import annotations

from dataclasses import dataclass

from herdsman.documents.extraction.looks import Look

PROSE, ITEM, ROW, TERM, CODE = "p", "l", "t", "d", "c"  # kinds of block; headings are "1" to "6"
PROSE_CHARS = 50  # unlinked characters from which on a block is prose rather than a label
BULLET = "• "  # not a Markdown marker, and what a reader sees on the page


@dataclass(slots=True)
class Block:
    """A paragraph, heading, list item, table row, term or code block.

    Attributes:
        kind: one of `PROSE`, `ITEM`, `ROW`, `TERM`, `CODE` or a heading's level.
        text: readable text; verbatim for code.
        link_chars, links: characters in anchors, and anchors.
        container: index of the innermost container.
        tight: stands on the line below the block before it, without an empty line between.
    """

    kind: str
    text: str
    link_chars: int
    links: int
    container: int
    tight: bool


@dataclass(slots=True)
class Container:
    """An element that holds blocks. What it sums up is filled in by `content`.

    Attributes:
        parent: index of the container around it, -1 for the body, which is container 0.
        tag: element name.
        look: what its attributes say.
        first, end: the range of its blocks.
        chars, link_chars, links: of all its blocks.
        prose_chars: characters of its code and of its blocks of prose.
    """

    parent: int
    tag: str
    look: Look
    first: int
    end: int = 0
    chars: int = 0
    link_chars: int = 0
    links: int = 0
    prose_chars: int = 0
