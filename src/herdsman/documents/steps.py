"""The steps from pages to documents, in order, with the names of what each drops by."""

from __future__ import annotations

# What the steps that see all documents drop by.
URL_DUPLICATE, NEAR_DUPLICATE, SEMANTIC_DUPLICATE = "url dedup", "near-duplicates", "semantic duplicates"
OUTLIER_TOKENS, PRIVATE_DOMAIN, REPEATED_LINES = "outlier tokens", "private domain", "lines"
# The funnel, with what each step drops by; "filters" are all names that no other step has.
STEPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("pages", ()),
    ("addresses", ("blocked address",)),
    ("extracted", ("hostile markup", "no text")),
    ("filters", ()),
    ("language", ("language unclear", "language not wanted")),
    (URL_DUPLICATE, (URL_DUPLICATE,)),
    (NEAR_DUPLICATE, (NEAR_DUPLICATE,)),
    (SEMANTIC_DUPLICATE, (SEMANTIC_DUPLICATE,)),
    (OUTLIER_TOKENS, (OUTLIER_TOKENS,)),
    (PRIVATE_DOMAIN, (PRIVATE_DOMAIN,)),
    (REPEATED_LINES, (REPEATED_LINES,)),
    ("kept", ()),
)
