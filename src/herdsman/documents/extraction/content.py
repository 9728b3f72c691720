"""Which blocks of a page are its main content.

What is content is decided on containers (the elements that hold text), by three kinds of evidence: what authors say
(`main`, `article`, names that site kits agree on), where the prose lies, and how much of the text is links. First what
calls itself navigation, advertising or comments is set aside; then the main container is chosen by the prose that is
left; then what is in it is judged block by block.
"""

from __future__ import annotations

from herdsman.documents.extraction.blocks import CODE, PROSE_CHARS, Block, Container
from herdsman.documents.extraction.furniture import is_furniture, trimmed

_CHROME_SHARE = 0.4  # of a page's prose above which a container is content, whatever its name says
_COMMENTS_SHARE = 0.9  # the same for comments: on the page of a forum they are the content
_FIRST_DENSE, _DENSE = "\u2e7f", 3  # an East Asian character says about as much as three letters
_FEW_LINKED_SHARE = 0.15  # of a container's characters in anchors below which it is nothing but prose
_LEFT_SHARE = 0.15  # of a page's prose that must be left, or names are not believed where much prose is
_LITTLE_CHARS = 200  # of prose, below which a mere hint in a name is believed
_HELD_SHARE = 0.75  # of the prose in hand that a container must hold to be the one to descend into
_HELD_SHARE_TECHNICAL = 0.95  # the same of a page whose sections may be short
_MAIN_SHARE = 0.3  # of a page's prose that elements which call themselves main must hold to be believed
_LINKED_SHARE = 0.7  # of a container's characters in anchors from which on it is navigation
_ALL_LINKED_SHARE = 0.9  # the same for lists of any links, however long
_HELD_INSIDE = 0.4  # of a container's prose that a body of text in it must hold to speak against the container's name
_FEW_PROSE_CHARS = 250  # a page with less is no article; what there is of it is taken whole


def main_blocks(blocks: list[Block], containers: list[Container], technical: bool = False) -> list[Block]:
    """The blocks that are main content, in the order of the page.

    Args:
        technical: a page of code or mathematics, on which short lines, dates and lists of links are content, too.
    """
    own = _sum_up(blocks, containers)
    chrome = _chrome(containers)
    main = _main_container(containers, chrome, own, technical)
    kept = _kept(blocks, containers, chrome, main, technical)
    return kept if technical else trimmed(kept)


def _sum_up(blocks: list[Block], containers: list[Container]) -> list[int]:
    """Fills in the sums of the containers; returns the characters of prose that each holds directly."""
    own = [0] * len(containers)
    for block in blocks:
        at = block.container
        container = containers[at]
        chars, linked = len(block.text), block.link_chars
        container.chars += chars
        container.link_chars += linked
        container.links += block.links
        if block.kind == CODE:
            own[at] += max(chars, _LITTLE_CHARS)  # a line of code is as much content as a paragraph
        elif linked * 2 < chars:
            dense = _DENSE if block.text[chars // 2] > _FIRST_DENSE else 1
            if (chars - linked) * dense >= PROSE_CHARS:
                own[at] += chars * dense
    for container, prose in zip(containers, own, strict=True):
        container.prose_chars = prose
    for container in reversed(containers[1:]):  # children come after their parents
        parent = containers[container.parent]
        parent.chars += container.chars
        parent.link_chars += container.link_chars
        parent.links += container.links
        parent.prose_chars += container.prose_chars
    return own


def _chrome(containers: list[Container]) -> bytearray:
    """For each container whether it, or one around it, is not content by what it calls itself."""
    total = containers[0].prose_chars
    chrome = _believed(containers, doubting=False)
    left = total - sum(
        container.prose_chars
        for at, container in enumerate(containers)
        if chrome[at] and not (at and chrome[container.parent])
    )
    if left >= max(_FEW_PROSE_CHARS, _LEFT_SHARE * total):
        return chrome
    return _believed(containers, doubting=True)


def _believed(containers: list[Container], doubting: bool) -> bytearray:
    """The same.

    Args:
        doubting: believe nothing of what holds much of the page's prose; else no names of what is nearly all prose.
    """
    total = max(containers[0].prose_chars, 1)
    much, most = _CHROME_SHARE * total, _COMMENTS_SHARE * total
    body_inside = [0] * len(containers)  # prose of the largest container in it that calls itself a body of text
    for at in range(len(containers) - 1, 0, -1):
        container = containers[at]
        inside = container.prose_chars if container.look.body else body_inside[at]
        body_inside[container.parent] = max(body_inside[container.parent], inside)
    chrome = bytearray(len(containers))
    for at, container in enumerate(containers):
        if at and chrome[container.parent]:
            chrome[at] = 1
            continue
        look, tag = container.look, container.tag
        if body_inside[at] >= max(_LITTLE_CHARS, _HELD_INSIDE * container.prose_chars):
            continue
        if look.comments:
            chrome[at] = not doubting or container.prose_chars < most
        elif tag == "nav" or tag == "footer" or tag == "form" or (tag == "aside" and not look.aside):
            chrome[at] = not doubting or container.prose_chars < much
        elif look.chrome:
            dense = container.link_chars < _FEW_LINKED_SHARE * container.chars
            chrome[at] = container.prose_chars < much or not (dense or doubting)
        elif look.hint:
            chrome[at] = container.prose_chars < _LITTLE_CHARS or container.link_chars * 2 > container.chars
    return chrome


def _main_container(containers: list[Container], chrome: bytearray, own: list[int], technical: bool) -> int:
    """The innermost container that holds nearly all prose of what calls itself main, or else of the page."""
    free = [0 if gone else prose for gone, prose in zip(chrome, own, strict=True)]
    total = sum(free)
    if total < _FEW_PROSE_CHARS:
        return _named(containers, chrome)
    held = _HELD_SHARE_TECHNICAL if technical else _HELD_SHARE
    for trusted in (_is_body, _is_article, _is_main):
        if not any(map(trusted, containers)):
            continue
        inside = bytearray(len(containers))
        for at, container in enumerate(containers):
            inside[at] = trusted(container) or (at > 0 and inside[container.parent])
        prose = [chars if trust else 0 for chars, trust in zip(free, inside, strict=True)]
        if sum(prose) >= max(_MAIN_SHARE * total, _FEW_PROSE_CHARS):
            return _holding(containers, prose, inside, held)
    return _holding(containers, free, bytearray(len(containers)), held)


def _is_body(container: Container) -> bool:
    return container.look.body


def _is_article(container: Container) -> bool:
    return container.tag == "article"


def _is_main(container: Container) -> bool:
    return container.tag == "main" or container.look.main


def _holding(containers: list[Container], own: list[int], inside: bytearray, held: float) -> int:
    """Descends from the body into the child that holds nearly all prose, for as long as one does."""
    sums = own[:]
    children: dict[int, list[int]] = {}
    for at in range(len(containers) - 1, 0, -1):
        parent = containers[at].parent
        sums[parent] += sums[at]
        if sums[at]:
            children.setdefault(parent, []).append(at)
    best = 0
    while best in children:
        into = max(children[best], key=sums.__getitem__)
        if sums[into] < max(held, 0.98 * inside[best]) * sums[best]:
            break
        best = into
    return best


def _named(containers: list[Container], chrome: bytearray) -> int:
    """Of a page with hardly any prose the largest container that calls itself main, else the body."""
    for trusted in (_is_body, _is_article, _is_main):
        named = [at for at, found in enumerate(containers) if found.chars and not chrome[at] and trusted(found)]
        if named:
            return max(named, key=lambda at: containers[at].chars - containers[at].link_chars)
    return 0


def _kept(
    blocks: list[Block], containers: list[Container], chrome: bytearray, main: int, technical: bool
) -> list[Block]:
    """Blocks of the main container without navigation, legal lines, and headings left with nothing below them."""
    root = containers[main]
    gone = bytearray(chrome)
    for at in range(main + 1, len(containers)):
        container = containers[at]
        if container.first >= root.end:
            break
        gone[at] = gone[at] or gone[container.parent] or _is_navigation(container, root, technical)
    kept: list[Block] = []
    removed_before = False
    for block in blocks[root.first : root.end]:
        if gone[block.container] or is_furniture(block):
            removed_before = True
            continue
        # What stood between two headings was removed: the first now introduces nothing.
        if kept and block.kind.isdigit() and removed_before and "1" < block.kind <= kept[-1].kind <= "6":
            kept.pop()
        removed_before = False
        kept.append(block)
    while kept and kept[-1].kind.isdigit() and len(kept) > 1:
        kept.pop()
    return kept


def _is_navigation(container: Container, root: Container, technical: bool) -> bool:
    """Lists of links, unless there is more to them: further reading, with a few words on each, is content."""
    if container.prose_chars > _CHROME_SHARE * root.prose_chars and root.prose_chars:
        return False
    chars, linked, links = container.chars, container.link_chars, container.links
    if not technical and links >= 3 and linked >= _ALL_LINKED_SHARE * chars and container.tag in ("ul", "ol"):
        return True
    return links >= 4 and linked >= _LINKED_SHARE * chars and linked < 40 * links
