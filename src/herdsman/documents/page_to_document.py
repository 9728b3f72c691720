"""From one page to one document or to the reason why there is none; what worker processes run, page by page.

Nothing here depends on any other page, so pages may be cut into batches in any way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from herdsman.documents.extraction.extract import extract
from herdsman.documents.extraction.hostile import HostileMarkup
from herdsman.documents.filtering.domains import adult_words, block_list
from herdsman.documents.filtering.filters import first_broken
from herdsman.documents.filtering.language import identify
from herdsman.documents.filtering.measures import measure
from herdsman.documents.filtering.privacy import mask
from herdsman.documents.filtering.urls import identity, normalise
from herdsman.documents.options import DocumentsOptions

BLOCKED = "blocked address"
DROPPED_CHARS = 2_000  # of a dropped document's text that are kept to look at


@dataclass(slots=True)
class Candidate:
    """A document that passed everything that can be judged from its page alone.

    Attributes:
        id: 128 bits in hex, from the address and the text as extracted, before private data was masked.
        normalised_url: equal for addresses that lead to the same page; of those the newest is kept.
        language: ISO 639 code, "und" where there is no text to tell it from.
        kinds: for each line of `text` the kind of its block (see `blocks`), " " for an empty line.
        features: what was measured, see `filters.FEATURES`.
        masked: how many pieces of private data were masked, by kind.
    """

    id: str
    url: str
    normalised_url: str
    domain: str
    crawled_at: str
    title: str
    language: str
    language_score: float
    text: str
    kinds: str
    source: str
    licence: str
    features: dict[str, float]
    masked: dict[str, int]


@dataclass(slots=True)
class Dropped:
    """A page of which no document came.

    Attributes:
        text: the first `DROPPED_CHARS` of it.
        dropped_by: name of the filter.
        reason: a sentence for people, with the number that decided.
        twin: id of the kept document that it duplicates, else "".
        characters: of the whole text; None, and no language and no features, if nothing was extracted.
        features, masked: as in `Candidate`.
    """

    id: str
    url: str
    text: str
    dropped_by: str
    reason: str
    twin: str = ""
    characters: int | None = None
    language: str = ""
    language_score: float | None = None
    features: dict[str, float] = field(default_factory=dict)
    masked: dict[str, int] = field(default_factory=dict)


def document_of(page: dict[str, Any], options: DocumentsOptions) -> Candidate | Dropped:
    """The document of one page, or the reason why there is none."""
    url: str = page["url"]
    lists = options.filters.enabled and options.filters.block_lists and url.startswith(("http://", "https://"))
    if lists and (listed := block_list(options.filters).category(url)):
        reason = f"the block list {listed} has the address or its domain"
        return Dropped(identity(url, page["html"]), url, "", BLOCKED, reason)
    try:
        found = extract(page["html"], page["content_type"], options.markdown)
    except HostileMarkup as error:
        # There is no text; the page itself tells two hostile pages of one address apart.
        return Dropped(identity(url, page["html"]), url, "", "hostile markup", str(error))
    key = identity(url, found.text)
    language, score = identify(found.text, found.kinds)
    features = measure(found.text, found.kinds, language, found.features)
    text, masked = mask(found.text)
    pieces = sum(masked.values())
    features |= {"adult_url_words": adult_words(url), "masked": pieces}
    features["private"] = round(1000 * pieces / max(features["words"], 1), 4)
    verdict = first_broken({**features, "language": language, "language_score": score}, options.filters)
    if not options.filters.mask_private:
        text, masked = found.text, {}
    if verdict:
        dropped_by, reason = verdict
        return Dropped(
            key, url, text[:DROPPED_CHARS], dropped_by, reason, characters=len(text), language=language,
            language_score=score, features=features, masked=masked,
        )  # fmt: skip
    return Candidate(
        id=key,
        url=url,
        normalised_url=normalise(url),
        domain=page["domain"],
        crawled_at=page["crawled_at"],
        title=mask(found.title)[0] if options.filters.mask_private else found.title,
        language=language,
        language_score=score,
        text=text,
        kinds=found.kinds,
        source=page["source"],
        licence=page["licence"],
        features=features,
        masked=masked,
    )
