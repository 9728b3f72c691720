"""Options of what happens to each page by itself: which documents pass, and whether private data is masked."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class FilterOptions(Options):
    """`[documents.filters]` of the recipe. Thresholds that come from publications stand in `filters`, with sources."""

    enabled: bool = Field(
        default=True, description="Judge documents by the heuristic filters; false keeps all that have text."
    )
    off: tuple[str, ...] = Field(
        default=(), description='Names of single filters that are not applied, such as "few stop words".'
    )
    languages: tuple[str, ...] = Field(
        default=(),
        description='Languages to keep, as ISO 639 codes ("en", "de"); empty keeps all 176 that are told apart.',
    )
    min_language_score: float = Field(
        default=0.4,
        ge=0,
        le=1,
        description="Probability of the most likely language below which a text counts as none.",
    )
    min_words: int = Field(default=50, ge=0, description="Words below which a document is too short.")
    max_words: int = Field(default=1_000_000, ge=1, description="Words above which a document is too long.")
    mask_private: bool = Field(
        default=True, description="Replace e-mail addresses, phone, card and account numbers and public IP addresses."
    )
