"""Options of the `documents` stage: which documents a herd reads, and how much of each kind."""

from __future__ import annotations

import math

from pydantic import Field, field_validator

from herdsman.documents.filter_options import FilterOptions
from herdsman.options import Options

CATEGORIES = ("general", "reasoning", "code", "multilingual")
PAPER_MIX = {"general": 0.50, "reasoning": 0.25, "code": 0.17, "multilingual": 0.08}


class DocumentsOptions(Options):
    """From pages to clean documents and their mix."""

    filters: FilterOptions = Field(FilterOptions(), description="What happens to each page by itself.")
    near_duplicate_similarity: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Estimated Jaccard similarity of word 5-grams from which on two documents are near duplicates.",
    )
    line_repeats: int = Field(
        6, ge=1, description="A line of prose that occurs more often than this in a bucket of documents is removed."
    )
    line_bucket_documents: int = Field(
        30_000_000, ge=1, description="Documents in each of the buckets that repeated lines are counted in."
    )
    lines_left_share: float = Field(
        0.3, ge=0, le=1, description="A document is dropped if removed lines leave less than this share of its text."
    )
    best_share: float = Field(
        0.25,
        gt=0,
        lt=1,
        description="Share of the documents, by quality, that make the tier `best`; the others are `rest`.",
    )
    held_out_share: float = Field(
        0.05, ge=0, le=0.5, description="Share of the documents, by a hash of their ids, that no model is trained on."
    )
    mix: dict[str, float] = Field(
        PAPER_MIX,
        description="Target shares of the tokens by category (general, reasoning, code, multilingual); they sum to 1. "
        "The default is Llama 3's (section 3.1.2).",
    )
    mix_tokens: int | None = Field(
        None, ge=1, description="Training tokens that the mix is made for; as many as there are if left out."
    )
    max_epochs: float = Field(
        4.0, gt=0, description="How often a category may be repeated; what it cannot give goes to the other categories."
    )
    anneal_best_weight: float = Field(
        4.0, ge=1, description="How many times more often a token of the tier `best` is read when annealing."
    )

    @field_validator("mix")
    @classmethod
    def _mix_is_whole(cls, mix: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(mix) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"there is no category {unknown[0]}; there are {', '.join(CATEGORIES)}")
        if any(share < 0 for share in mix.values()) or not math.isclose(sum(mix.values()), 1, abs_tol=1e-6):
            raise ValueError(f"shares must not be negative and must sum to 1, not to {sum(mix.values()):g}")
        return mix
