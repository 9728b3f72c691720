"""Markup that costs a parser far more than its length, told apart before it is parsed, in linear time.

HTML5 parsing is linear in practice and quadratic, in time or in memory, on a few shapes that only generators of
nonsense and attackers write. A time limit would make results depend on the machine; counting does not.
"""

from __future__ import annotations

import re

MAX_DEPTH = 1_000  # nested elements; the deepest real pages reach about 200, and browsers stop at 512
MAX_SEARCHES = 30_000_000  # open elements looked at by closing tags that close none of the innermost
MAX_COPIES = 3_000_000  # elements that unclosed formatting tags may be multiplied into
MAX_ATTRIBUTES = 5_000  # words in one tag
MAX_STRAY_CELLS = 10_000  # table cells outside of tables, which a parser ignores at a cost that grows with their number
MAX_BODIES = 1_000  # tags of html and body, whose attributes a parser gathers on the first
MAX_BYTES = 5 << 20  # of a page; Common Crawl cuts pages there, and one line of 50 MB keeps every later step busy
_TAGS_WORTH_COUNTING = 2_000  # below this, the worst markup costs less than a second
_TAGS_WORTH_NESTING = 8_000  # the same for what has few formatting tags
_LONG_TAG_CHARS = 50_000

# void elements, and those whose end tag is optional: they do not nest without others between
_UNCOUNTED = frozenset({
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr", "p",
    "li", "dt", "dd", "td", "th", "tr", "thead", "tbody", "tfoot", "option", "optgroup", "colgroup", "caption", "rp",
    "rt", "html", "head", "body",
})  # fmt: skip
_FORMATTING = frozenset({
    "a", "b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u",
})  # fmt: skip
# no end tag reaches out of these
_SCOPES = frozenset({
    "table", "template", "object", "applet", "marquee", "svg", "math",
})  # fmt: skip
_TABLE_PARTS = frozenset({"td", "th", "tr", "thead", "tbody", "tfoot", "colgroup", "col", "caption"})
_INLINE = frozenset({
    "span", "label", "abbr", "acronym", "cite", "dfn", "kbd", "samp", "var", "q", "sub", "sup", "ins", "del", "mark",
    "time", "bdi", "bdo", "ruby", "data",
})  # fmt: skip
_TAG = re.compile(r"<(/?[a-zA-Z][^\s/>]{0,20})")
_FORMATTING_NAME = r"<(?:a|b(?:ig)?|code|em|font|i|nobr|s(?:mall|tr(?:ike|ong))?|tt|u)"
_FORMATTING_START = re.compile(_FORMATTING_NAME + r"[\s>]", re.I)
_FORMATTING_TAG = re.compile(_FORMATTING_NAME + r"(?:\s[^<>]{0,200})?>", re.I)
_QUOTED_END = re.compile(r"""=\s*(?:"[^">]*>|'[^'>]*>)""")
_VALUE = r"""=\s*(?:"[^"]*"|'[^']*')?"""
_WHOLE_TAG = re.compile(
    rf"<(?:(?:script\b.*?(?:</script|\Z)|style\b.*?(?:</style|\Z)|!--.*?(?:-->|\Z))|([a-z](?:[^>=]+|{_VALUE})*+))",
    re.I | re.S,
)
_ATTRIBUTE = re.compile(rf"(?<![\s/])[\s/]++[^\s/>=]+(?:{_VALUE})?")


class HostileMarkup(ValueError):
    """The message is the reason the page is dropped with."""


def refuse_hostile(text: str) -> None:
    """Checks a page before it is parsed.

    Raises:
        HostileMarkup: elements nested beyond `MAX_DEPTH`, floods of stray closing tags, formatting tags that every
            later block repeats, thousands of table cells outside of tables, a tag with thousands of attributes, or a
            page of more than `MAX_BYTES`.
    """
    if len(text) > MAX_BYTES:
        raise HostileMarkup(f"more than {MAX_BYTES >> 20} MiB of HTML")
    tags = text.count("<")
    if tags > _TAGS_WORTH_NESTING or (
        tags > _TAGS_WORTH_COUNTING and len(_FORMATTING_START.findall(text)) * tags > MAX_COPIES
    ):
        _refuse_nesting(_TAG.findall(text.lower()), text)
    half = _LONG_TAG_CHARS // 2  # a longer tag has a stretch of this length without ">", or has one in quotes
    if len(text) > _LONG_TAG_CHARS and (
        any(text.find(">", at, at + half) < 0 for at in range(0, len(text) - half, half)) or _QUOTED_END.search(text)
    ):
        for match in _WHOLE_TAG.finditer(text):
            tag = match[1]
            if tag and len(tag) > _LONG_TAG_CHARS and len(_ATTRIBUTE.findall(tag)) > MAX_ATTRIBUTES:
                raise HostileMarkup(f"a tag with more than {MAX_ATTRIBUTES:,} attributes")


def _refuse_nesting(tags: list[str], text: str) -> None:
    if tags.count("html") + tags.count("body") > MAX_BODIES:
        raise HostileMarkup(f"more than {MAX_BODIES:,} bodies")
    stack: list[str] = []  # open elements as a parser would have them, formatting elements counted aside
    formatting: dict[str, int] = {}
    open_formatting = most_formatting = searches = tables = stray_cells = 0
    for tag in tags:
        if tag[0] != "/":
            if tag in _FORMATTING:
                formatting[tag] = formatting.get(tag, 0) + 1
                open_formatting += 1
                if open_formatting > most_formatting:
                    most_formatting = open_formatting
            elif tag not in _UNCOUNTED:
                stack.append(tag)
                tables += tag == "table"
                if len(stack) > MAX_DEPTH:
                    raise HostileMarkup(f"markup nested more than {MAX_DEPTH:,} elements deep")
            elif not tables and tag in _TABLE_PARTS:
                stray_cells += 1
                if stray_cells > MAX_STRAY_CELLS:
                    raise HostileMarkup(f"more than {MAX_STRAY_CELLS:,} parts of tables outside of tables")
            continue
        name = tag[1:]
        if stack and stack[-1] == name:
            stack.pop()
            tables -= name == "table"
        elif name in _FORMATTING:
            if formatting.get(name):
                formatting[name] -= 1
                open_formatting -= 1
        elif name not in _UNCOUNTED:
            searches += len(stack) + open_formatting
            if searches > MAX_SEARCHES:
                raise HostileMarkup("a flood of closing tags that close nothing")
            tables -= _close(stack, name)
    if most_formatting * len(tags) > MAX_COPIES:
        # Each later block opens them anew, though of equal ones at most three (HTML5 13.2.4.3).
        distinct = min(most_formatting, 3 * len(set(_FORMATTING_TAG.findall(text))))
        if distinct * len(tags) > MAX_COPIES:
            raise HostileMarkup(f"{most_formatting:,} unclosed formatting tags")


def _close(stack: list[str], name: str) -> int:
    """Closes the innermost open `name` and what is open in it, unless something the tag cannot reach through is.

    Returns:
        How many tables it closed.
    """
    for at in range(len(stack) - 1, -1, -1):
        if stack[at] == name:
            tables = stack[at:].count("table")
            del stack[at:]
            return tables
        if stack[at] in _SCOPES or (name in _INLINE and stack[at] not in _INLINE):
            return 0
    return 0
