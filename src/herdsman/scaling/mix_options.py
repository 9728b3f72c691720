"""Options of the search for a mix. Needs no torch."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, field_validator

from herdsman.documents.mix_options import CATEGORIES
from herdsman.options import Options


class MixSearchOptions(Options):
    """How `herdsman mix` looks for a better mix of the data.

    The recipe's mix and, for each part of it, the mixes with that part taken more and less often are trained at every
    small budget; a law fitted to all of them proposes a mix, which is trained too; after the last round the proposal
    and the recipe's mix are trained at the larger budget.
    """

    weights: dict[str, float] | None = Field(
        None,
        description="How much the held-out loss of each category counts in what is minimised; all the same if left "
        "out.",
    )
    factor: float = Field(
        2.0, gt=1, le=16, description="By how much a part of the mix is taken more and less often in the runs; no "
        "proposal goes further.",
    )  # fmt: skip
    flops: tuple[PositiveFloat, ...] | None = Field(
        None,
        min_length=1,
        description="Budgets of the small runs, in FLOPs; the two smallest of `scaling` if left out.",
    )
    check_flops: float | None = Field(
        None,
        gt=0,
        description="Budget of the larger runs that check the proposal; the largest of `scaling` if left out.",
    )
    rounds: int = Field(2, ge=1, le=10, description="Fits; before each but the first the last proposal is trained too.")
    seeds: int = Field(
        1, ge=1, description="Runs of each mix at each small budget; several where a run's chance is not small."
    )
    check_seeds: int = Field(3, ge=2, description="Runs of each of the two mixes at the larger budget.")

    @field_validator("weights")
    @classmethod
    def _weights_are_of_categories(cls, weights: dict[str, float] | None) -> dict[str, float] | None:
        if weights is not None:
            if unknown := sorted(set(weights) - set(CATEGORIES)):
                raise ValueError(f"there is no category {unknown[0]}; there are {', '.join(CATEGORIES)}")
            if min(weights.values(), default=0) < 0 or sum(weights.values()) <= 0:
                raise ValueError("weights must not be negative, and one must be above 0")
        return weights
