"""Main content of a page as readable plain text, and what later steps want to know of it.

No Markdown unless asked for: markers hurt a model for the web more than they help (Llama 3, section 3.1.1). Code stays
verbatim, tables keep a line a row, lists a line an item, formulas their LaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from herdsman.documents.extraction.blocks import BULLET, CODE, ITEM, PROSE, PROSE_CHARS, ROW, TERM, Block
from herdsman.documents.extraction.content import main_blocks
from herdsman.documents.extraction.markup import read_markup
from herdsman.documents.extraction.reader import read_blocks

_HARDLY_ANY_CHARS = 500  # of a page; then what it hides at first is read, too
_FORMULAS = 2  # from which on a page is one of mathematics
_FORMULA = re.compile(r"\\[(\[]")  # whatever the page wrote it with, see `maths`
_FENCE = re.compile(r"`{3,}")


@dataclass(frozen=True)
class Extract:
    """Main content of one page.

    Attributes:
        title: the main heading if the page's title names it, else the page's title.
        text: plain text; blocks are separated by an empty line, items and rows by a line end.
        kinds: for each line of `text` the kind of its block (see `blocks`), " " for an empty line.
        features: what later steps decide by; counts of characters, blocks, links, formulas (see `_features`).
    """

    title: str
    text: str
    kinds: str
    features: dict[str, float]


def extract(html: bytes, content_type: str = "", markdown: bool = False) -> Extract:
    """Extracts the main content of a page.

    Args:
        markdown: mark headings, items, code and tables as Markdown does.

    Raises:
        HostileMarkup: the page would cost a parser far more than its length; see `hostile`.
    """
    markup = read_markup(html, content_type)
    blocks, containers = read_blocks(markup.html)
    if sum(len(block.text) for block in blocks) < _HARDLY_ANY_CHARS < len(markup.html) // 10:
        blocks, containers = read_blocks(markup.html, hidden=True)  # a program was to show it
    technical = markup.formulas >= _FORMULAS or any(block.kind == CODE for block in blocks)
    kept = main_blocks(blocks, containers, technical)
    text, kinds = _render(kept, _in_markdown if markdown else _plainly)
    features = _features(kept, containers[0].chars, markup.undecodable)
    return Extract(_title(markup.title, kept), text, kinds, features)


def _render(blocks: list[Block], written: Callable[[Block, str], list[str]]) -> tuple[str, str]:
    lines: list[str] = []
    kinds: list[str] = []
    before = ""
    for block in blocks:
        if before and not (block.tight and CODE not in (block.kind, before)):
            lines.append("")
            kinds.append(" ")
        text = written(block, before)
        lines += text
        kinds += [block.kind if block.kind == CODE or line else " " for line in text]
        before = block.kind
    return "\n".join(lines), "".join(kinds)


def _plainly(block: Block, before: str) -> list[str]:
    return block.text.split("\n")


def _in_markdown(block: Block, before: str) -> list[str]:
    """The lines of a block, which stands after one of the kind `before`."""
    text = block.text
    if block.kind.isdigit():
        return [f"{'#' * int(block.kind)} {text}"]
    if block.kind == CODE:
        fence = "`" * max(3, 1 + max(map(len, _FENCE.findall(text)), default=0))
        return [fence, *text.split("\n"), fence]
    if block.kind == ROW:
        rule = [f"|{' --- |' * (text.count(' | ') + 1)}"] if before != ROW else []
        return [f"| {text} |", *rule]
    return text.replace(BULLET, "- ", 1).split("\n") if block.kind == ITEM else text.split("\n")


def _title(title: str, blocks: list[Block]) -> str:
    heading = next((block.text for block in blocks if block.kind == "1"), "")
    return heading if heading and (not title or heading in title) else title or heading


def _features(blocks: list[Block], body_chars: int, undecodable: float) -> dict[str, float]:
    chars = sum(len(block.text) for block in blocks)
    prose = [block for block in blocks if block.kind in (PROSE, ITEM) and len(block.text) >= PROSE_CHARS]
    return {
        "chars": chars,
        "kept_share": round(chars / max(body_chars, 1), 4),
        "code_chars": sum(len(block.text) for block in blocks if block.kind == CODE),
        "link_chars": sum(block.link_chars for block in blocks),
        "links": sum(block.links for block in blocks),
        "prose_chars": sum(len(block.text) for block in prose),
        "paragraphs": len(prose),
        "headings": sum(block.kind.isdigit() for block in blocks),
        "rows": sum(block.kind == ROW for block in blocks),
        "terms": sum(block.kind == TERM for block in blocks),
        "blocks": len(blocks),
        "formulas": sum(len(_FORMULA.findall(block.text)) for block in blocks if block.kind != CODE),
        "undecodable": round(undecodable, 4),
    }
