"""Main content of a page as readable plain text, and what later steps want to know of it.

What is content is decided on containers (the elements that hold text), by three kinds of evidence: what authors say
(`main`, `article`, names that site generators agree on), where the prose lies, and how much of the text is links.
No Markdown: markers hurt a model for the web more than they help (Llama 3, section 3.1.1). Code stays verbatim, tables
keep a line a row, lists a line an item, formulas their LaTeX.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from herdsman.documents.blocks import CODE, ITEM, PROSE, PROSE_CHARS, ROW, TERM, Block, Container, read_blocks
from herdsman.documents.markup import read_markup

_MAIN_SHARE = 0.4  # of a page's prose that a container which calls itself main must hold to be believed
_DOMINANT_SHARE = 0.7  # of its parent's prose that a container must hold to be the one to descend into
_CHROME_SHARE = 0.4  # of the main prose above which a container is content, whatever its name says
_LINKED_SHARE = 0.7  # of a container's characters in anchors from which on it is navigation
_MAIN_NAMES = re.compile(
    r"(?:^|\s)(?:main(?:-?content)?|content-?main|article-?body|post-?(?:content|body)|entry-?content|bd-article|markdown-body"
    r"|docs-body|documentwrapper|bodywrapper|mw-content-text|page-content)(?:\s|$)"
)
_CHROME_NAMES = re.compile(
    r"(?:^|[\s_-])(?:nav|navbar|navigation|navheader|navfooter|menu|submenu|sidebar|sidenav|sphinxsidebar\w*|toc|toctree|"
    r"contents|localtoc|globaltoc|breadcrumbs?|related|footer|prev-next|pager|pagination|paginator|search|searchbox|"
    r"share|sharing|social|sharedaddy|jp-relatedposts|cookies?|consent|banner|advert\w*|ads?|promo|sponsors?|newsletter|"
    r"subscribe|subscription|signup|login|widget|widgets|comments?|respond|disqus\w*|replies|modal|popup|tooltip|toolbar|"
    r"masthead|copyright|colophon|byline|postmeta|post-meta|entry-meta|entry-footer|post-tags|tagcloud|author-box|skip|"
    r"bd-header-article|onlyprint|headerlink|edit-on|version-switch\w*|bottom-?nav\w*|top-?nav\w*)(?:[\s_-]|$)"
)
_KEPT_ASIDES = re.compile(r"footnote|admonition|note|warning|tip|example|topic|sidebar|system-message|citation")
_LEGAL = re.compile(
    r"^(?:©|\(c\)|copyright\b.{0,40}\d{4}|all rights reserved|created using sphinx|last updated on"
    r"|page last (?:updated|modified)|built with|powered by|generated (?:by|on|with))",
    re.I,
)


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


def extract(html: bytes, content_type: str = "") -> Extract:
    """Extracts the main content of a page.

    Raises:
        HostileMarkup: the page would cost a parser far more than its length; see `hostile`.
    """
    markup = read_markup(html, content_type)
    blocks, containers = read_blocks(markup.html)
    main = _main_container(containers)
    kept = _without_chrome(blocks, containers, main)
    text, kinds = _render(kept)
    features = _features(kept, text, markup.body_chars, markup.formulas, markup.undecodable)
    return Extract(_title(markup.title, kept), text, kinds, features)


def _main_container(containers: list[Container]) -> int:
    """The container that says it is the main one, if most of the prose agrees; else the one where the prose lies."""
    total = containers[0].prose_chars
    if total == 0:
        named = [at for at, container in enumerate(containers) if _is_main(container) and container.chars]
        return max(named, key=lambda at: containers[at].chars, default=0)
    best = 0
    for at, container in enumerate(containers):
        # Of nested ones the innermost wins as long as it holds nearly as much.
        enough = max(_MAIN_SHARE * total, 0.8 * containers[best].prose_chars if best else 0)
        if _is_main(container) and container.prose_chars >= enough:
            best = at
    return best or _densest(containers)


def _is_main(container: Container) -> bool:
    return container.tag in ("main", "article") or bool(_MAIN_NAMES.search(container.names))


def _densest(containers: list[Container]) -> int:
    """Descends from the body into the child that holds most of the prose, for as long as one does."""
    children: dict[int, list[int]] = {}
    for at, container in enumerate(containers):
        children.setdefault(container.parent, []).append(at)
    best = 0
    while True:
        into = max(children.get(best, []), key=lambda at: containers[at].prose_chars, default=None)
        if into is None or containers[into].prose_chars < _DOMINANT_SHARE * containers[best].prose_chars:
            return best
        best = into


def _without_chrome(blocks: list[Block], containers: list[Container], main: int) -> list[Block]:
    """Blocks of the main container without navigation, legal lines, and headings left with nothing below them."""
    root = containers[main]
    removed = bytearray(len(blocks))
    for container in containers[main + 1 :]:
        if container.first >= root.end:
            break
        if container.end > container.first and not removed[container.first] and _is_chrome(container, root):
            removed[container.first : container.end] = b"\1" * (container.end - container.first)
    for at in range(root.first, root.end):
        if len(blocks[at].text) < 200 and _LEGAL.match(blocks[at].text):
            removed[at] = 1
    kept: list[Block] = []
    for at in range(root.first, root.end):
        block = blocks[at]
        if removed[at]:
            continue
        # What stood between two headings was removed: the first now introduces nothing.
        if kept and block.kind.isdigit() and removed[at - 1] and "1" < block.kind <= kept[-1].kind <= "6":
            kept.pop()
        kept.append(block)
    while kept and kept[-1].kind.isdigit() and len(kept) > 1:
        kept.pop()
    return kept


def _is_chrome(container: Container, root: Container) -> bool:
    if container.prose_chars > _CHROME_SHARE * root.prose_chars and root.prose_chars:
        return False
    if container.tag in ("nav", "footer"):
        return True
    if container.tag == "aside" and not _KEPT_ASIDES.search(container.names):
        return True
    if container.names and _CHROME_NAMES.search(container.names):
        return True
    # Lists of short links. Long link texts are titles: of papers, of further reading.
    linked = container.link_chars >= _LINKED_SHARE * container.chars
    return linked and container.links >= 4 and container.link_chars < 40 * container.links


def _render(blocks: list[Block]) -> tuple[str, str]:
    lines: list[str] = []
    kinds: list[str] = []
    before = None
    for block in blocks:
        if before is not None and not (block.tight and CODE not in (block.kind, before)):
            lines.append("")
            kinds.append(" ")
        text = block.text.split("\n")
        lines += text
        kinds += [block.kind if block.kind == CODE or line else " " for line in text]
        before = block.kind
    return "\n".join(lines), "".join(kinds)


def _title(title: str, blocks: list[Block]) -> str:
    heading = next((block.text for block in blocks if block.kind == "1"), "")
    return heading if heading and (not title or heading in title) else title or heading


def _features(blocks: list[Block], text: str, body_chars: int, formulas: int, undecodable: float) -> dict[str, float]:
    chars = sum(len(block.text) for block in blocks)
    prose = [block for block in blocks if block.kind in (PROSE, ITEM) and len(block.text) >= PROSE_CHARS]
    return {
        "chars": chars,
        "kept_share": round(len("".join(text.split())) / max(body_chars, 1), 4),
        "code_chars": sum(len(block.text) for block in blocks if block.kind == CODE),
        "link_chars": sum(block.link_chars for block in blocks),
        "links": sum(block.links for block in blocks),
        "prose_chars": sum(len(block.text) for block in prose),
        "paragraphs": len(prose),
        "headings": sum(block.kind.isdigit() for block in blocks),
        "rows": sum(block.kind == ROW for block in blocks),
        "terms": sum(block.kind == TERM for block in blocks),
        "blocks": len(blocks),
        "formulas": formulas + len(re.findall(r"\\\(|\\\[", text)) if "\\" in text else formulas,
        "undecodable": round(undecodable, 4),
    }
