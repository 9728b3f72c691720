"""Options of scaling-law sweeps."""

from __future__ import annotations

from itertools import pairwise

from pydantic import Field, field_validator, model_validator

from herdsman.options import Options
from herdsman.scaling.mix_options import MixSearchOptions
from herdsman.scaling.probe_options import ProbeOptions

PUBLISHED_BUDGETS = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21, 1e22]


class ScalingOptions(Options):
    """IsoFLOP sweeps: small models of several sizes at several budgets (paper, section 3.2.1).

    Everything else (data, optimizer, peak learning rate if the recipe has one, precision) is the recipe's own.
    """

    budgets: list[float] = Field(
        PUBLISHED_BUDGETS,
        min_length=2,
        description="FLOPs of one run, for each of the IsoFLOP curves that are fitted. The default is Llama 3's.",
    )
    check_budget: float | None = Field(
        None,
        gt=0,
        description="A further budget, larger than all others, that is run but not fitted: the law must foretell its "
        "best size and loss.",
    )
    sizes: int = Field(6, ge=4, description="Models at each budget, spread evenly around the expected optimum.")
    most_sizes: int = Field(
        10, ge=4, description="Models at each budget at most: one is added as long as the curve's minimum lies outside."
    )
    spread: float = Field(
        4.0,
        gt=1,
        description="Runs of a budget read from the expected optimum divided by this to the optimum times this.",
    )
    expected_tokens: float = Field(
        1.0, gt=0, description="Expected optimum of tokens, as a multiple of Llama 3's law; the middle of each curve."
    )
    batch_tokens: int | None = Field(
        None,
        gt=0,
        description="Tokens a step of all runs; if left out, by budget from 250K at 6e18 FLOPs to 4M at 1e22 as "
        "published, and on the same line below.",
    )
    mix: MixSearchOptions = Field(MixSearchOptions(), description="The search for a better mix: `herdsman mix`.")
    probe: ProbeOptions = Field(ProbeOptions(), description="The value of a data set: `herdsman probe`.")

    @model_validator(mode="after")
    def _check_lies_beyond(self) -> ScalingOptions:
        if self.check_budget is not None and self.check_budget < 1.2 * self.budgets[-1]:
            raise ValueError(f"check_budget ({self.check_budget:g}) must lie above all budgets by at least a fifth")
        return self

    @field_validator("budgets")
    @classmethod
    def _positive_and_apart(cls, budgets: list[float]) -> list[float]:
        ordered = sorted(budgets)
        if ordered[0] <= 0 or any(b < 1.2 * a for a, b in pairwise(ordered)):
            raise ValueError("budgets must be above 0 and differ by at least a fifth")
        return ordered
