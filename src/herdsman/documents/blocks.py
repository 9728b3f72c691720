"""Markup as a list of text blocks in the order of the page, each with what decides whether it is main content.

One pass over the tags of well-formed markup with an explicit stack: no recursion, time linear in the page's length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape

PROSE, ITEM, ROW, TERM, CODE = "p", "l", "t", "d", "c"  # kinds of block; headings are "1" to "6"
PROSE_CHARS = 50  # unlinked characters from which on a block is prose rather than a label
BULLET = "• "  # not a Markdown marker, and what a reader sees on the page

_LINK, _UNLINK, _BREAK = "\x01", "\x02", "\x03"  # control characters never come from a page
_BODY = -1
_CONTAINERS = frozenset({
    "div", "section", "article", "main", "header", "footer", "aside", "nav", "ul", "ol", "dl", "menu", "table", "td",
    "th", "form", "fieldset", "details", "figure", "center", "blockquote",
})  # fmt: skip
_HEADINGS = {f"h{level}": str(level) for level in range(1, 7)}
_RAW = re.compile(r"<(xmp|plaintext)(?:\s[^>]*)?>(.*?)</\1>", re.S)
_INLINE = re.compile(
    r"</?(?:span|em|strong|b|i|u|code|tt|font|small|abbr|cite|var|kbd|samp|dfn|wbr|ins|del|s|strike|big|acronym|label"
    r"|time|mark|bdi|bdo|nobr|ruby|rb|rp|data|output|img|picture|source)(?:\s[^>]*)?>|<!--.*?-->",
    re.S,
)
_ANCHOR = re.compile(r"<a(?:\s[^>]*)?>")
_LINE_BREAK = re.compile(r"<br(?:\s[^>]*)?>")
_BRACKETED = re.compile(r'<(a|span) class="[^"]*\bbrackets\b[^"]*"[^>]*>(.*?)</\1>')  # footnote marks of Docutils
_SELF_LINK = re.compile(f"{_LINK}\\s*[¶#§🔗]?\\s*{_UNLINK}")
_RAISED = re.compile(r"<(su[pb])(?:\s[^>]*)?>([^<]*)</\1>")
_TAG = re.compile(r"<(/?)([a-z][^\s>]*)([^>]*)>")
_NAMES = re.compile(r'\b(?:class|id|role)="([^"]*)"')
_SECTION_NAMES = re.compile(r'\b(?:class|role)="([^"]*)"')
_SECTION = re.compile(r'\bclass="(?:[^"]* )?section[ "]')
_TOPICS = re.compile(r"(?<!\S)(?:tag|category)-\S+")  # of a post, which may be about cookies, too
_START = re.compile(r'\bstart="(\d{1,9})"')
_LINKED = re.compile(f"{_LINK}([^{_UNLINK}]*)")
_SUFFIXES = frozenset({"st", "nd", "rd", "th", "TM", "®", "™", "SM", "er", "re", "e", "a", "o"})
_ZERO_WIDTH = dict.fromkeys((0xAD, 0x200B, 0x200C, 0x200D, 0x200E, 0x200F, 0x2060, 0xFEFF))


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
    """An element that holds blocks, with sums over all blocks in it.

    Attributes:
        parent: index of the container around it, -1 for the body, which is container 0.
        tag: element name.
        names: its class, id (but of a section) and role, lower case, separated by spaces.
        first, end: the range of its blocks.
        prose_chars: characters of its code and of its blocks of prose.
    """

    parent: int
    tag: str
    names: str
    first: int
    end: int = 0
    chars: int = 0
    link_chars: int = 0
    links: int = 0
    prose_chars: int = 0


def read_blocks(markup: str) -> tuple[list[Block], list[Container]]:
    """Reads a body as `markup.read_markup` serialises it. Containers stand in the order in which they open."""
    reader = _Reader()
    parts = _TAG.split(_plain(markup))
    index, last = 0, len(parts) - 1
    while index < last:
        text, slash, name, attributes = parts[index : index + 4]
        index += 4
        if text and not text.isspace():
            reader.text.append(text)
        if slash:
            reader.close(name)
        elif name == "pre" or name == "listing":
            index = reader.read_code(parts, index, name)
        else:
            reader.open(name, attributes)
    reader.text.append(parts[last])
    reader.flush()
    _sum_up(reader.blocks, reader.containers)
    return reader.blocks, reader.containers


def _plain(markup: str) -> str:
    """Markup without inline elements; anchors, line breaks and raised text written as text."""
    if "<xmp" in markup or "<plaintext" in markup:
        markup = _RAW.sub(lambda match: f"<pre>{match[2].replace('<', '&lt;')}</pre>", markup)
    if "brackets" in markup:
        markup = _BRACKETED.sub(r"[\2]", markup)
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
        self.containers = [Container(_BODY, "body", "", 0)]
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
        self.cell_first = self.cell_links = self.cell_link_chars = 0

    def open(self, name: str, attributes: str) -> None:
        if name in ("sup", "sub"):
            return
        self.flush()
        if name in _CONTAINERS:
            self.open_container(name, attributes)
        if name in _HEADINGS:
            self.heading = _HEADINGS[name]
        elif name == "li":
            self.items += 1
            self.marker = self.next_marker()
        elif name == "dt":
            self.term = True
            self.tight = bool(self.blocks) and self.blocks[-1].kind == TERM
        elif name in ("ul", "menu", "dir"):
            self.lists.append(0)
        elif name == "ol":
            start = _START.search(attributes)
            self.lists.append(int(start[1]) if start else 1)
        elif name == "table":
            self.tables.append("data-layout" not in attributes)
        elif name == "tr" and self.in_data():
            self.cells, self.cell_links, self.cell_link_chars = [], 0, 0
        elif name in ("td", "th"):
            self.cell_first = len(self.blocks)

    def close(self, name: str) -> None:
        if name in ("sup", "sub"):
            return
        self.flush()
        if name in _HEADINGS:
            self.heading = ""
        elif name == "li":
            self.items, self.marker = max(self.items - 1, 0), ""
        elif name == "dt":
            self.term, self.tight = False, True
        elif name in ("dd", "dl"):
            self.tight = False
        elif name in ("ul", "menu", "dir", "ol") and self.lists:
            self.lists.pop()
        elif name in ("td", "th") and self.in_data():
            self.end_cell()
        elif name == "tr" and self.in_data():
            self.end_row()
        elif name == "table" and self.tables:
            self.tables.pop()
        if name in _CONTAINERS:
            self.close_container(name)

    def read_code(self, parts: list[str], index: int, name: str) -> int:
        """Reads preformatted text verbatim up to its closing tag; elements in it are lines (`div`, `li`, `tr`)."""
        self.flush()
        lines: list[str] = []
        while index < len(parts) - 1:
            text, slash, inner, _ = parts[index : index + 4]
            index += 4
            lines.append(text)
            if slash and inner == name:
                break
            if slash and inner in ("div", "li", "tr", "p") and text[-1:] != "\n":
                lines.append("\n")
        code = "".join(lines).replace(_LINK, "").replace(_UNLINK, "").replace(_BREAK, "\n")
        code = unescape(code).replace("\r\n", "\n").replace("\r", "\n").replace("\xa0", " ")
        if code.strip():
            self.add(CODE, re.sub(r"\A(?:[ \t]*\n)+|\s+\Z", "", code))
        return index

    def flush(self) -> None:
        """Ends the block under way, if it has any text."""
        if not self.text:
            return
        raw = "".join(self.text)
        self.text.clear()
        link_chars = links = 0
        if self.linked or _LINK in raw:
            marked = _LINK + raw if self.linked else raw
            self.linked = marked.rfind(_LINK) > marked.rfind(_UNLINK)
            spans = [span for span in _LINKED.findall(marked) if span.strip()]
            link_chars, links = sum(map(len, spans)), len(spans)
            raw = raw.replace(_LINK, "").replace(_UNLINK, "")
        elif _UNLINK in raw:
            raw = raw.replace(_UNLINK, "")
        text = unescape(raw) if "&" in raw else raw
        if not text.isascii():
            text = text.translate(_ZERO_WIDTH)
        if _BREAK in text:
            lines = (" ".join(line.split()) for line in text.split(_BREAK))
            text = "\n".join(line for line in lines if line)
        else:
            text = " ".join(text.split())
        if text:
            self.add(self.heading or (TERM if self.term else PROSE), text, min(link_chars, len(text)), links)

    def add(self, kind: str, text: str, link_chars: int = 0, links: int = 0) -> None:
        tight, self.tight = self.tight, False
        if kind in _HEADINGS.values():
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

    def end_cell(self) -> None:
        parts = self.blocks[self.cell_first :]
        del self.blocks[self.cell_first :]
        self.cells.append(" ".join(part.text.replace("\n", " ") for part in parts))
        self.cell_links += sum(part.links for part in parts)
        self.cell_link_chars += sum(part.link_chars for part in parts)

    def end_row(self) -> None:
        """A row as one line. A table of one column, and a footnote with its label, read as prose."""
        columns = len(self.cells)
        while self.cells and not self.cells[-1]:
            self.cells.pop()
        if not self.cells:
            return
        footnote = columns == 2 and re.fullmatch(r"\[\w{1,12}\]", self.cells[0])
        kind = PROSE if columns == 1 or footnote else ROW
        text = (" " if footnote else " | ").join(self.cells)
        tight = kind == ROW and bool(self.blocks) and self.blocks[-1].kind == ROW
        self.blocks.append(Block(kind, text, self.cell_link_chars, self.cell_links, self.container, tight))
        self.cells = []

    def open_container(self, name: str, attributes: str) -> None:
        names = ""
        if "=" in attributes:
            # Generators make a section's id from its heading, which may be about cookies, sharing or navigation.
            pattern = _SECTION_NAMES if name == "section" or _SECTION.search(attributes) else _NAMES
            names = _TOPICS.sub("", " ".join(pattern.findall(attributes)).lower())
        self.containers.append(Container(self.container, name, names, len(self.blocks)))
        self.container = len(self.containers) - 1

    def close_container(self, name: str) -> None:
        current = self.containers[self.container]
        if current.tag == name:  # always, in well-formed markup
            current.end = len(self.blocks)
            self.container = current.parent


def _sum_up(blocks: list[Block], containers: list[Container]) -> None:
    containers[0].end = len(blocks)
    for block in blocks:
        container = containers[block.container]
        chars = len(block.text)
        container.chars += chars
        container.link_chars += block.link_chars
        container.links += block.links
        if block.kind == CODE or (chars - block.link_chars >= PROSE_CHARS and block.link_chars * 2 < chars):
            container.prose_chars += chars
    for container in reversed(containers[1:]):  # children come after their parents
        parent = containers[container.parent]
        parent.chars += container.chars
        parent.link_chars += container.link_chars
        parent.links += container.links
        parent.prose_chars += container.prose_chars
