"""Lines that stand in an article and are not its text: who wrote it and when, share this, read more, adverts."""

from __future__ import annotations

import re

from herdsman.documents.extraction.blocks import CODE, ITEM, PROSE, ROW, TERM, Block

_LINE_CHARS, _LEGAL_CHARS = 160, 200  # what is longer says something
_TEXT_CHARS = 80  # unlinked characters from which on a paragraph is the text, which furniture only surrounds
_MONTH = (
    r"(?:jan(?:uar[yi]?|vier)?|feb(?:ruar[yi]?)?|f[ée]vrier|m[aä]r(?:ch|z|s|zo)?|apr(?:il)?|avril|ma[iy]|june?"
    r"|juni?|juin"
    r"|july?|juli?|juillet|aug(?:ust)?|ao[uû]t|sep(?:t(?:ember|embre)?)?|o[ck]t(?:ober|obre)?|nov(?:embr?er?)?"
    r"|d[eé][cz](?:embr?er?)?)\b\.?"
)
_DATE = re.compile(
    rf"\b{_MONTH}\s+\d{{1,2}}(?:st|nd|rd|th)?\b,?(?:\s+(?:19|20)\d\d)?|\b\d{{1,2}}(?:st|nd|rd|th"
    rf"|\.)?\s+(?:de\s+)?{_MONTH}"
    r"|\b\d{1,2}[./]\d{1,2}[./](?:19|20)?\d\d\b|\b(?:19|20)\d\d[-/.]\d{1,2}[-/.]\d{1,2}\b|\b\d{1,2}:\d\d\b"
    r"|\d{4}年\d{1,2}月|\b\d+ (?:minutes?|hours?|days?|weeks?|months?|years?) ago\b|\b\d+[ -]?min(?:ute)?s? read\b",
    re.I,
)
_BYLINE = re.compile(
    r"^(?:by|von|par|por|written by|posted|published|updated|last (?:updated|modified)|first published|reported by"
    r"|authors?|autore?n?|story|reviewed by|edited by|photos?(?:graph)?(?: by|:)|posted (?:by|on|in)|in:"
    r"|filed under)\b",
    re.I,
)
_PHRASES = (
    # adverts and offers
    r"advert(?:isement|ising)?s?", "anzeige", "werbung", r"publicité", r"sponsored(?: content)?",
    r"add to (?:cart|basket|wishlist|bag)", "buy now", "in den warenkorb", "(?:out of|in) stock", r"sign up\b.*",
    r"subscribe\b.{0,100}", "get (?:the|our) (?:latest|newsletter).*", r"download the (?:free )?app.*",
    # sharing and following
    r"share(?: this.*| on .*|:)?", "tweet", "teilen", "partager", "compartir", r"e-?mail(?: this.*)?",
    r"print(?: this.*)?", "drucken", "imprimer", "save", "like this:?", "follow (?:us|me|him|her|them|@).*",
    "permalink",
    # other pages
    r"read (?:more|next|also|the full story|on)\b.{0,90}", "continue reading.*", r"see (?:also|more)\b.{0,90}",
    r"also (?:read|on|see)\b.*", r"related(?: (?:articles?|posts?|stories|topics|content|news|links|reading))?:?",
    r"more (?:on|from|in|about|stories)\b.{0,80}", "you (?:may|might) (?:also )?(?:like|enjoy|be interested).*",
    r"recommended(?: for you| reading)?:?", "most (?:read|popular|viewed)", "mehr (?:zum thema|dazu|lesen).*",
    "lesen sie (?:auch|mehr).*", "weiterlesen.*", "lire (?:aussi|la suite|[ée]galement).*",
    "leer (?:m[aá]s|tambi[eé]n).*", r"originally published (?:at|on|in)\b.*",
    # pictures and players
    r"watch(?: now| the video.*|:.*)", "play video", "view (?:all|gallery|comments|more).*",
    r"image (?:caption|copyright|source).*", r"loading\W*",
    # comments and votes
    "join the conversation.*", "(?:leave|post|add|write) a (?:comment|reply|review).*", "no comments.*",
    r"\d* ?(?:comments?|kommentare?|commentaires?|comentarios?|replies|shares?|views|likes)(?: \d+)?",
    "comments (?:are )?(?:closed|off).*", "be the first to (?:comment|review).*", "reply", r"report(?: abuse)?",
    "found this helpful", "was this .{0,40}helpful.*",
    # ways about the page and the site
    r"tags?:?.{0,100}", "back to top", "top", "nach oben", r"zur[üu]ck(?: zur .*)?", "home", "close", "menu",
    "skip to .*",
    r"(?:next|previous)(?: post| article| page)?", r"click (?:here|to)\b.{0,60}",
    "(?:story|article) continues (?:after|below).*", "all rights reserved.*", "terms of (?:use|service).*",
    "privacy policy.*", r"\W+",
)  # fmt: skip
# Both look at lower case, which is several times as fast as to ignore case.
_FURNITURE = re.compile("|".join(_PHRASES))
_LEGAL = re.compile(
    r"^(?:©|\(c\)|copyright\b.{0,40}\d{4}|all rights reserved|created using sphinx|last updated on"
    r"|page last (?:updated|modified)|built with|powered by|generated (?:by|on|with))",
)


def is_furniture(block: Block) -> bool:
    """Whether a short line is one of those that are never the text of a page."""
    if len(block.text) >= _LEGAL_CHARS:
        return False
    text = block.text.lower()
    if len(text) > _LINE_CHARS or block.kind in (CODE, ROW):
        return bool(_LEGAL.match(text))
    return bool(_LEGAL.match(text)) or (block.kind != TERM and bool(_FURNITURE.fullmatch(text.lstrip(" •"))))


def trimmed(blocks: list[Block]) -> list[Block]:
    """Without dates, names and links before the text begins, links after it ends, and headings left at the end."""
    texts = [at for at, block in enumerate(blocks) if _is_text(block)]
    if not texts:
        return blocks
    first, last = texts[0], texts[-1]
    kept = [block for at, block in enumerate(blocks) if first <= at <= last or not _is_around(block)]
    while kept and kept[-1].kind.isdigit() and len(kept) > 1:
        kept.pop()
    return kept


def _is_text(block: Block) -> bool:
    return block.kind in (CODE, ROW, TERM) or (
        not block.kind.isdigit() and len(block.text) - 2 * block.link_chars >= _TEXT_CHARS
    )


def _is_around(block: Block) -> bool:
    text = block.text
    if block.kind not in (PROSE, ITEM) or len(text) > _LINE_CHARS:
        return False
    return block.link_chars * 2 > len(text) or bool(_BYLINE.match(text) or _DATE.search(text))
