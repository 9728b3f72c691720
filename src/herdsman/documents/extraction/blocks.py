"""Markup as a list of text blocks in the order of the page, each with what decides whether it is main content.

One pass over the tags of well-formed markup with an explicit stack: no recursion, time linear in the page's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape

from herdsman.documents.extraction.looks import PLAIN, Look, look_at

PROSE, ITEM, ROW, TERM, CODE = "p", "l", "t", "d", "c"  # kinds of block; headings are "1" to "6"
PROSE_CHARS = 50  # unlinked characters from which on a block is prose rather than a label
BULLET = "• "  # not a Markdown marker, and what a reader sees on the page

_LINK, _UNLINK, _BREAK = "\x01", "\x02", "\x03"  # control characters never come from a page
_BODY = -1
_CONTAINERS = frozenset({
    "div", "section", "article", "main", "header", "footer", "aside", "nav", "ul", "ol", "dl", "menu", "table", "td",
    "th", "form", "fieldset", "details", "figure", "figcaption", "center", "blockquote", "address",
})  # fmt: skip
# Elements without an end tag, and the body itself: what their attributes say is about no text, or about all of it.
_BARE = frozenset({"body", "html", "area", "base", "br", "col", "embed", "hr", "link", "meta", "param", "track"})
_CODE = frozenset({"pre", "listing"})
_HEADINGS = {f"h{level}": str(level) for level in range(1, 7)}
# A table whose cells hold these is laid out by it, and holds no data.
_NOT_IN_DATA = frozenset({
    "table", "h1", "h2", "h3", "h4", "ul", "ol", "dl", "blockquote", "hr", "form", "section", "article",
})  # fmt: skip
_LISTS = frozenset({"ul", "menu", "dir", "ol"})
_STRUCTURE = _NOT_IN_DATA | _LISTS | frozenset(_HEADINGS) | {"li", "td", "th", "tr", "dt", "dd"}
_RAISED_TAGS = frozenset({"sup", "sub"})
_LINES_OF_CODE = frozenset({"div", "li", "tr", "p"})
_RAW = re.compile(r"<(xmp|plaintext)(?:\s[^>]*)?>(.*?)</\1>", re.S)
_INLINE = re.compile(
    r"</?(?:span|em|strong|b|i|u|code|tt|font|small|abbr|cite|var|kbd|samp|dfn|wbr|ins|del|s|strike|big|acronym|label"
    r"|time|mark|bdi|bdo|nobr|ruby|rb|rp|data|output|img|picture|source|input)(?:\s[^>]*)?>"
)
_ANCHOR = re.compile(r"<a(?:\s[^>]*)?>")
_LINE_BREAK = re.compile(r"<br(?:\s[^>]*)?>")
_BRACKETED = re.compile(r'<(a|span) class="[^"]*\bbrackets\b[^"]*"[^>]*>(.*?)</\1>')  # footnote marks of Docutils
_SELF_LINK = re.compile(f"{_LINK}\\s*[¶#§🔗]?\\s*{_UNLINK}")
_RAISED = re.compile(r"<(su[pb])(?:\s[^>]*)?>([^<]*)</\1>")
_TAG = re.compile(r"<(/?)([a-z][^\s>]*)([^>]*)>")
_START = re.compile(r'\bstart="(\d{1,9})"')
_LINKED = re.compile(f"{_LINK}([^{_UNLINK}]*)")
_FOOTNOTE = re.compile(r"\[\w{1,12}\]")
_BLANK_ENDS = re.compile(r"\A(?:[ \t]*\n)+|\s+\Z")
_SUFFIXES = frozenset({"st", "nd", "rd", "th", "TM", "®", "™", "SM", "er", "re", "e", "a", "o"})
_ZERO_WIDTH = "\xad\u200b\u200e\u200f\u2060\ufeff"  # not U+200C and U+200D, which Persian and Hindi are written with


Tag = tuple[str, str, str, str]
"""Text before it, "/" of an end tag, name, attributes."""


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


def read_blocks(markup: str, hidden: bool = False) -> tuple[list[Block], list[Container]]:
    """Reads a body as `markup.read_markup` serialises it. Containers stand in the order in which they open.

    Args:
        hidden: also read what the page does not show at first.
    """
    reader = _Reader()
    parts = _TAG.split(_plain(markup))
    tags = zip(parts[0::4], parts[1::4], parts[2::4], parts[3::4], strict=False)
    text_of_block, opened, closed = reader.text, reader.open, reader.close
    for text, slash, name, attributes in tags:
        if text and not text.isspace():
            text_of_block.append(text)
        if slash:
            closed(name)
        elif name in _CODE:
            reader.read_code(tags, name)
        else:
            look = look_at(attributes, name) if attributes and name not in _BARE else PLAIN
            if look.unseen and not hidden:
                reader.flush()
                _skip(tags, name)
            else:
                opened(name, attributes, look)
    text_of_block.append(parts[-1])
    reader.flush()
    reader.containers[0].end = len(reader.blocks)
    return reader.blocks, reader.containers


def _skip(tags: Iterator[Tag], name: str) -> None:
    """Moves on to the end tag of an element that was just opened."""
    depth = 1
    for _, slash, inner, _ in tags:
        if inner == name:
            depth += -1 if slash else 1
            if depth == 0:
                return


def _plain(markup: str) -> str:
    """Markup without inline elements; anchors, line breaks and raised text written as text."""
    if "<xmp" in markup or "<plaintext" in markup:
        markup = _RAW.sub(lambda match: f"<pre>{match[2].replace('<', '&lt;')}</pre>", markup)
    if "brackets" in markup:
        markup = _BRACKETED.sub(r"[\2]", markup)
    if not markup.isascii():
        for character in _ZERO_WIDTH:
            markup = markup.replace(character, "")
    markup = _INLINE.sub("", markup)
    markup = _ANCHOR.sub(_LINK, markup).replace("</a>", _UNLINK)
    markup = _SELF_LINK.sub("", _LINE_BREAK.sub(_BREAK, markup))
    return _RAISED.sub(_raised, markup) if "<su" in markup else markup


def _raised(match: re.Match[str]) -> str:
    """`10<sup>6</sup>` as 10^6 and `H<sub>2</sub>O` as H_2O; footnote marks and ordinals as they are."""
    text = match[2]
    bare = text.strip()
    if not bare or _LINK in text or bare[0] in "[(*†" or bare in _SUFFIXES or len(bare) > 20:
        return text
    return ("^" if match[1] == "sup" else "_") + (bare if len(bare) == 1 or bare.isdigit() else f"{{{bare}}}")


class _Reader:
    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.containers = [Container(_BODY, "body", PLAIN, 0)]
        self.text: list[str] = []  # of the block under way
        self.container = 0
        self.linked = False  # an anchor that began in an earlier block is open
        self.lists: list[int] = []  # number of the next item of each open list; 0 for bullets
        self.items = 0  # open list items
        self.marker = ""  # of an item whose first block has not come yet
        self.heading = ""
        self.term = False
        self.tight = False
        self.tables: list[bool] = []  # for each open table: does it hold data (else layout)?
        self.cells: list[str] = []
        self.cell_first = self.cell_container = self.cell_links = self.cell_link_chars = 0

    def open(self, name: str, attributes: str, look: Look) -> None:
        if self.text:
            if name in _RAISED_TAGS:
                return
            self.flush()
        if name in _CONTAINERS or look.chrome or look.hint or look.comments:
            self.containers.append(Container(self.container, name, look, len(self.blocks)))
            self.container = len(self.containers) - 1
        if name in _STRUCTURE:
            self.start(name, attributes)

    def close(self, name: str) -> None:
        if self.text:
            if name in _RAISED_TAGS:
                return
            self.flush()
        if name in _STRUCTURE:
            self.end(name)
        container = self.containers[self.container]
        if container.tag == name:
            container.end = len(self.blocks)
            self.container = container.parent

    def start(self, name: str, attributes: str) -> None:
        if name == "li":
            self.items += 1
            self.marker = self.next_marker()
        elif name == "td" or name == "th":
            self.cell_first, self.cell_container = len(self.blocks), self.container
        elif name == "tr":
            if self.in_data():
                self.cells, self.cell_links, self.cell_link_chars = [], 0, 0
        elif name in _HEADINGS:
            self.heading = _HEADINGS[name]
        elif name == "dt":
            self.term = True
            self.tight = bool(self.blocks) and self.blocks[-1].kind == TERM
        elif name == "ol":
            start = _START.search(attributes)
            self.lists.append(int(start[1]) if start else 1)
        elif name in _LISTS:
            self.lists.append(0)
        if name in _NOT_IN_DATA and self.in_data():
            self.take_for_layout()
        if name == "table":
            self.tables.append(True)

    def end(self, name: str) -> None:
        if name == "li":
            self.items, self.marker = max(self.items - 1, 0), ""
        elif name == "td" or name == "th":
            if self.in_data():
                self.end_cell()
        elif name == "tr":
            if self.in_data():
                self.end_row()
        elif name in _HEADINGS:
            self.heading = ""
        elif name == "dt":
            self.term, self.tight = False, True
        elif name == "dd" or name == "dl":
            self.tight = False
        elif name in _LISTS:
            if self.lists:
                self.lists.pop()
        elif name == "table" and self.tables:
            self.tables.pop()

    def read_code(self, tags: Iterator[Tag], name: str) -> None:
        """Reads preformatted text verbatim up to its closing tag; elements in it are lines (`div`, `li`, `tr`)."""
        self.flush()
        if self.in_data():
            self.take_for_layout()
        lines: list[str] = []
        for text, slash, inner, _ in tags:
            lines.append(text)
            if slash and inner == name:
                break
            if slash and inner in _LINES_OF_CODE and text[-1:] != "\n":
                lines.append("\n")
        code = "".join(lines).replace(_LINK, "").replace(_UNLINK, "").replace(_BREAK, "\n")
        code = unescape(code).replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
        if code and not code.isspace():
            self.add(CODE, _BLANK_ENDS.sub("", code))

    def flush(self) -> None:
        """Ends the block under way, if it has any text."""
        if not self.text:
            return
        raw = self.text[0] if len(self.text) == 1 else "".join(self.text)
        self.text.clear()
        link_chars = links = 0
        if self.linked or _LINK in raw:
            marked = _LINK + raw if self.linked else raw
            self.linked = marked.rfind(_LINK) > marked.rfind(_UNLINK)
            spans = [span for span in _LINKED.findall(marked) if span and not span.isspace()]
            link_chars, links = sum(map(len, spans)), len(spans)
            raw = raw.replace(_LINK, "").replace(_UNLINK, "")
        elif _UNLINK in raw:
            raw = raw.replace(_UNLINK, "")
        text = unescape(raw) if "&" in raw else raw
        if _BREAK in text:
            lines = [" ".join(line.split()) for line in text.split(_BREAK)]
            text = "\n".join([line for line in lines if line])
        else:
            text = " ".join(text.split())
        if text:
            self.add(self.heading or (TERM if self.term else PROSE), text, min(link_chars, len(text)), links)

    def add(self, kind: str, text: str, link_chars: int = 0, links: int = 0) -> None:
        tight, self.tight = self.tight, False
        if self.heading and kind == self.heading:
            text = text.replace("\n", " ")
        elif self.items and kind != CODE:
            indent = "  " * (len(self.lists) - 1)
            if kind == PROSE:
                kind = ITEM
            tight = bool(self.blocks) and self.blocks[-1].kind in (ITEM, TERM)
            text = (indent + (self.marker or "  ") + text).replace("\n", "\n  " + indent)
            self.marker = ""
        self.blocks.append(Block(kind, text, link_chars, links, self.container, tight))

    def next_marker(self) -> str:
        if not self.lists or self.lists[-1] == 0:
            return BULLET
        self.lists[-1] += 1
        return f"{self.lists[-1] - 1}. "

    def in_data(self) -> bool:
        return bool(self.tables) and self.tables[-1]

    def take_for_layout(self) -> None:
        """The innermost table lays out, after all: the cells of the row under way become blocks of their own."""
        self.tables[-1] = False
        cells = [Block(PROSE, text, 0, 0, self.cell_container, False) for text in self.cells if text]
        self.cells = []
        if cells:
            self.blocks[self.cell_first : self.cell_first] = cells
            for container in self.containers[self.cell_container :]:
                container.first += len(cells)
                container.end += len(cells) if container.end else 0

    def end_cell(self) -> None:
        first = self.cell_first
        parts = self.blocks[first:]
        if len(parts) > 2 and sum(part.kind == PROSE for part in parts) > 2:
            self.take_for_layout()
            return
        if parts:
            del self.blocks[first:]
            for container in self.containers[self.cell_container :]:
                container.first = container.end = first
        text = parts[0].text if len(parts) == 1 else " ".join([part.text for part in parts])
        self.cells.append(text.replace("\n", " "))
        for part in parts:
            self.cell_links += part.links
            self.cell_link_chars += part.link_chars

    def end_row(self) -> None:
        """A row as one line. A table of one column, and a footnote with its label, read as prose."""
        columns = len(self.cells)
        while self.cells and not self.cells[-1]:
            self.cells.pop()
        if not self.cells:
            return
        footnote = columns == 2 and _FOOTNOTE.fullmatch(self.cells[0])
        kind = PROSE if columns == 1 or footnote else ROW
        text = (" " if footnote else " | ").join(self.cells)
        tight = kind == ROW and bool(self.blocks) and self.blocks[-1].kind == ROW
        self.blocks.append(Block(kind, text, self.cell_link_chars, self.cell_links, self.container, tight))
        self.cells = []
