"""Options of the mix: how much of which category, and of which topic within it, a herd reads."""

from __future__ import annotations

import math

from pydantic import Field, field_validator

from herdsman.documents.quality.topics import TOPICS
from herdsman.options import Options

CATEGORIES = ("general", "reasoning", "code", "multilingual")
PAPER_MIX = {"general": 0.50, "reasoning": 0.25, "code": 0.17, "multilingual": 0.08}


class MixOptions(Options):
    """How often documents of each kind are read."""

    shares: dict[str, float] = Field(
        PAPER_MIX,
        description="Target shares of the tokens by category (general, reasoning, code, multilingual); they sum to 1. "
        "The default is Llama 3's (section 3.1.2).",
    )
    tokens: int | None = Field(
        None, ge=1, description="Training tokens that the mix is made for; as many as there are if left out."
    )
    max_epochs: float = Field(
        4.0,
        gt=0,
        description="How often anything may be repeated; what a category or topic cannot give goes to the others.",
    )
    topic_weights: dict[str, float] = Field(
        {},
        description="How often documents of a topic are read, within their category, in proportion to those of topics "
        "without a weight, which have 1; 0 leaves a topic out.",
    )
    anneal_shares: dict[str, float] | None = Field(
        None, description="Target shares by category for annealing; those of `shares` if left out."
    )
    anneal_tokens: int | None = Field(
        None, ge=1, description="Tokens of annealing, against which `max_epochs` is held; `tokens` if left out."
    )
    anneal_best_weight: float = Field(
        4.0, ge=1, description="How many times more often a token of the tier `best` is read when annealing."
    )

    @field_validator("shares", "anneal_shares")
    @classmethod
    def _shares_are_whole(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is None:
            return None
        unknown = sorted(set(shares) - set(CATEGORIES))
        if unknown:
            raise ValueError(f"there is no category {unknown[0]}; there are {', '.join(CATEGORIES)}")
        if any(share < 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
            raise ValueError(f"shares must not be negative and must sum to 1, not to {sum(shares.values()):g}")
        return shares

    @field_validator("topic_weights")
    @classmethod
    def _weights_are_of_topics(cls, weights: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(weights) - set(TOPICS))
        if unknown:
            raise ValueError(f"there is no topic {unknown[0]}; there are {', '.join(TOPICS)}")
        if any(not (math.isfinite(weight) and weight >= 0) for weight in weights.values()):
            raise ValueError("weights must be finite and not negative")
        return weights
