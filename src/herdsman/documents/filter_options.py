"""Options of what happens to each page by itself: which documents pass, and whether private data is masked."""

from __future__ import annotations

from pydantic import Field, field_validator

from herdsman.options import Options

# Names of the rules in `filters`, in their order, except "no text", which nothing can switch off.
FILTERS = (
    "undecodable", "too short", "too long", "link list", "few letters", "odd word length", "symbols", "ellipsis lines",
    "bullet lines", "script in the text", "outlier words", "duplicate lines", "duplicate paragraphs", "frequent phrase",
    "duplicate n-grams", "few stop words", "language unclear", "language not wanted",
)  # fmt: skip


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

    @field_validator("off")
    @classmethod
    def _filters_exist(cls, off: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := sorted(set(off) - set(FILTERS)):
            raise ValueError(f'there is no filter "{unknown[0]}"; there are {", ".join(FILTERS)}')
        return off
