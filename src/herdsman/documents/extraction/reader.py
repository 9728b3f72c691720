"""Markup as a list of text blocks in the order of the page, each with what decides whether it is main content.

One pass over the tags of well-formed markup with an explicit stack: no recursion, time linear in the page's length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape, unescape

from herdsman.documents.extraction.blocks import BULLET, CODE, ITEM, PROSE, ROW, TERM, Block, Container
from herdsman.documents.extraction.looks import PLAIN, Look, look_at

# Written into the text for the tags of line breaks and raised text; control characters never come from a page.
_BREAK, _SUP, _SUB, _LEVEL = "\x03", "\x04", "\x05", "\x06"
_MARKS = {"br": _BREAK, "sup": _SUP, "sub": _SUB, "/sup": _LEVEL, "/sub": _LEVEL}
_LEVELS = re.compile(f"[{_SUP}{_SUB}{_LEVEL}]")
_BODY = -1
_CONTAINERS = frozenset({
    "div", "section", "article", "main", "header", "footer", "aside", "nav", "ul", "ol", "dl", "menu", "table", "td",
    "th", "form", "fieldset", "details", "figure", "figcaption", "center", "blockquote", "address",
})  # fmt: skip
# Elements without an end tag, and the body itself: what their attributes say is about no text, or about all of it.
_BARE = frozenset({
    "body", "html", "area", "base", "basefont", "bgsound", "br", "col", "embed", "frame", "hr", "keygen", "link",
    "meta", "param", "track",
})  # fmt: skip
_CODE = frozenset({"pre", "listing"})
_HEADINGS = {f"h{level}": str(level) for level in range(1, 7)}
# A table whose cells hold these is laid out by it, and holds no data.
_NOT_IN_DATA = frozenset({
    "table", "h1", "h2", "h3", "h4", "ul", "ol", "dl", "blockquote", "hr", "form", "section", "article",
})  # fmt: skip
_LISTS = frozenset({"ul", "menu", "dir", "ol"})
_STRUCTURE = _NOT_IN_DATA | _LISTS | frozenset(_HEADINGS) | {"li", "td", "th", "tr", "dt", "dd"}
_LINES_OF_CODE = frozenset({"/div", "/li", "/tr", "/p"})
_INLINE = frozenset({
    "span", "em", "strong", "b", "i", "u", "code", "tt", "font", "small", "abbr", "cite", "var", "kbd", "samp", "dfn",
    "ins", "del", "s", "strike", "big", "acronym", "label", "time", "mark", "bdi", "bdo", "nobr", "ruby", "rb", "q",
    "data", "output", "picture",
})  # fmt: skip
_PASSED_OVER, _OPENED, _MARK, _ANCHOR, _ANCHOR_END, _READING = range(
    6
)  # what is to do for a tag that is none of a block
_WITHIN = (
    {f"/{name}": _PASSED_OVER for name in _INLINE}
    | dict.fromkeys(("img", "source", "input", "wbr"), _PASSED_OVER)
    | dict.fromkeys(_INLINE, _OPENED)
    | dict.fromkeys(_MARKS, _MARK)
    | {"a": _ANCHOR, "/a": _ANCHOR_END, "rt": _READING, "rp": _READING, "rtc": _READING}
)
# Footnote marks of Docutils.
_BRACKETED = re.compile(r'<(a|span) class="(?>[^"]*?\bbrackets\b[^"]*)"[^>]*>([^\n]{0,40}?)</\1>')
_SELF_LINKS = frozenset("¶#§🔗")
_RAISED = re.compile(f"([{_SUP}{_SUB}])([^{_SUP}{_SUB}{_LEVEL}]*){_LEVEL}")
_TAG = re.compile(r"<(/?[a-z][^\s<>]*+)([^<>]*+)>")  # nothing to try again, where a raw "<" begins no tag
_HREF = re.compile(r' href="[^"]*"')
_START = re.compile(r'\bstart="(\d{1,9})"')
_FOOTNOTE = re.compile(r"\[\w{1,12}\]")
_BLANK_LINES = re.compile(r"\A(?:[ \t]*\n)+")
_SUFFIXES = frozenset({"st", "nd", "rd", "th", "TM", "®", "™", "SM", "er", "re", "e", "a", "o"})
_ZERO_WIDTH = "\xad\u200b\u200e\u200f\u2060\ufeff"  # not U+200C and U+200D, which Persian and Hindi are written with


Tag = tuple[str, str, str]
"""Text before it, name (of an end tag with its slash), attributes."""


def read_blocks(markup: str, hidden: bool = False) -> tuple[list[Block], list[Container]]:
    """Reads a body as `markup.read_markup` serialises it. Containers stand in the order in which they open.

    Args:
        hidden: also read what the page does not show at first.
    """
    if "brackets" in markup:
        markup = _BRACKETED.sub(r"[\2]", markup)
    reader = _Reader()
    parts = iter([*_TAG.split(markup), "/body", ""])
    tags = zip(parts, parts, parts, strict=True)
    pending, opened, closed = reader.text, reader.open, reader.close
    for text, name, attributes in tags:
        if text and (pending or not text.isspace()):
            pending.append(text)
        within = _WITHIN.get(name)
        if within is not None:
            if within == _PASSED_OVER:
                pass
            elif within == _ANCHOR_END:
                reader.end_link()
            elif within == _READING or (attributes and name != "br" and _is_unseen(name, attributes)):
                _skip(tags, name)
            elif within == _MARK:
                pending.append(_MARKS[name])
            elif within == _ANCHOR:
                reader.link, reader.leads_here = len(pending), 'href="#' in attributes
        elif name[0] == "/":
            closed(name[1:])
        elif name in _CODE:
            reader.read_code(tags, name)
        else:
            look = look_at(attributes, name) if attributes and name not in _BARE else PLAIN
            if look.unseen and not hidden:
                reader.flush()
                _skip(tags, name)
            else:
                opened(name, attributes, look)
    reader.containers[0].end = len(reader.blocks)
    return reader.blocks, reader.containers


def _is_unseen(name: str, attributes: str) -> bool:
    """Whether an inline element is not shown, or says again what stands beside it."""
    if name == "a":
        if "class=" not in attributes and "aria-hidden=" not in attributes:
            return False
        attributes = _HREF.sub("", attributes)  # the rest is the same for many, and looked up
    look = look_at(attributes)
    return look.unseen or look.doubled


def _skip(tags: Iterator[Tag], name: str) -> None:
    """Moves on to the end tag of an element that was just opened."""
    depth, ending = 1, "/" + name
    for _, inner, _ in tags:
        if inner == ending:
            depth -= 1
            if depth == 0:
                return
        elif inner == name:
            depth += 1


def _raised(match: re.Match[str]) -> str:
    """`10<sup>6</sup>` as 10^6 and `H<sub>2</sub>O` as H_2O; footnote marks and ordinals as they are."""
    text = match[2]
    bare = unescape(text).strip()
    if not bare or bare[0] in "[(*†" or bare in _SUFFIXES or len(bare) > 20:
        return text
    return ("^" if match[1] == _SUP else "_") + (
        escape(bare, quote=False) if len(bare) == 1 or bare.isdigit() else f"{{{escape(bare, quote=False)}}}"
    )


def _tidied(text: str) -> str:
    """Text with raised text written out, and without characters that have no width."""
    if not text.isascii():
        for character in _ZERO_WIDTH:
            text = text.replace(character, "")
    return _LEVELS.sub("", _RAISED.sub(_raised, text)) if _LEVEL in text or _SUP in text or _SUB in text else text


class _Reader:
    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.containers = [Container(_BODY, "body", PLAIN, 0)]
        self.text: list[str] = []  # of the block under way
        self.container = 0
        self.link = -1  # where in `text` the open anchor begins; 0 where it began in an earlier block
        self.leads_here = False  # the open anchor leads to a place on this page
        self.links = self.link_chars = 0  # of the block under way
        self.lists: list[int] = []  # number of the next item of each open list; 0 for bullets
        self.items = 0  # open list items
        self.marker = ""  # of an item whose first block has not come yet
        self.heading = ""
        self.term = False
        self.tight = False
        self.tables: list[bool] = []  # for each open table: does it hold data (else layout)?
        self.cells: list[Block] = []  # of the row under way; one without text keeps the place of an empty cell
        self.cell_first = self.cell_container = 0

    def open(self, name: str, attributes: str, look: Look) -> None:
        if self.text:
            self.flush()
        if name in _CONTAINERS or look.telling:
            self.containers.append(Container(self.container, name, look, len(self.blocks)))
            self.container = len(self.containers) - 1
        if name in _STRUCTURE:
            self.start(name, attributes)

    def close(self, name: str) -> None:
        if self.text:
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
                self.cells = []
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
        ending = "/" + name
        for text, inner, attributes in tags:
            if text:
                lines.append(text)
            if inner == ending:
                break
            if inner in _LINES_OF_CODE:
                if lines and lines[-1][-1] not in ("\n", _BREAK):
                    lines.append("\n")
            elif inner in _MARKS:
                lines.append(_MARKS[inner])
            elif attributes and (inner == "a" or inner in _INLINE) and _is_unseen(inner, attributes):
                _skip(tags, inner)
        code = _tidied("".join(lines)).replace(_BREAK, "\n")
        code = unescape(code).replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
        if code and not code.isspace():
            self.add(CODE, _BLANK_LINES.sub("", code).rstrip())

    def end_link(self) -> None:
        """Counts the anchor that ends here; one that only links a heading to itself is no text."""
        if self.link >= 0:
            linked = "".join(self.text[self.link :])
            bare = linked.strip()
            if bare in _SELF_LINKS and (self.leads_here or bare in "¶🔗"):
                del self.text[self.link :]
            elif bare:
                self.link_chars += len(bare)
                self.links += 1
            self.link = -1

    def flush(self) -> None:
        """Ends the block under way, if it has any text."""
        if not self.text:
            return
        if self.link >= 0:
            self.end_link()
            self.link = 0
        raw = self.text[0] if len(self.text) == 1 else "".join(self.text)
        self.text.clear()
        link_chars, links = self.link_chars, self.links
        self.link_chars = self.links = 0
        if not raw.isascii() or _LEVEL in raw or _SUP in raw or _SUB in raw:
            raw = _tidied(raw)
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
        cells = [cell for cell in self.cells if cell.text]
        self.cells = []
        for cell in cells:
            cell.container = self.cell_container
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
        links, link_chars = sum(part.links for part in parts), sum(part.link_chars for part in parts)
        self.cells.append(Block(PROSE, text.replace("\n", " "), link_chars, links, self.container, False))

    def end_row(self) -> None:
        """A row as one line. A table of one column, and a footnote with its label, read as prose."""
        columns = len(self.cells)
        while self.cells and not self.cells[-1].text:
            self.cells.pop()
        if not self.cells:
            return
        footnote = columns == 2 and _FOOTNOTE.fullmatch(self.cells[0].text)
        kind = PROSE if columns == 1 or footnote else ROW
        text = (" " if footnote else " | ").join([cell.text for cell in self.cells])
        links, link_chars = sum(cell.links for cell in self.cells), sum(cell.link_chars for cell in self.cells)
        tight = kind == ROW and bool(self.blocks) and self.blocks[-1].kind == ROW
        self.blocks.append(Block(kind, text, link_chars, links, self.container, tight))
        self.cells = []
