"""Options of the value of data by annealing. Needs no torch."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class ProbeOptions(Options):
    """How `herdsman probe` tells what a data set is worth (paper, section 3.1.3).

    A model in the middle of its pretraining is annealed twice from the same checkpoint: on the default data, and with a
    share of the new data set among them.
    """

    at: float = Field(0.5, gt=0, lt=1, description="The part of pretraining after which annealing begins.")
    share: float = Field(0.3, gt=0, le=1, description="Share of the new data in the annealing.")
    tokens: int | None = Field(
        None,
        gt=0,
        description="Tokens of the annealing, 40 billion for Llama 3 8B; a tenth of pretraining if left out.",
    )
    seeds: int = Field(
        3, ge=2, description="Annealings of each kind, each on other tokens of the default data, for the intervals."
    )
    held_out_share: float = Field(
        0.05, ge=0, le=0.5, description="Share of the new documents that is not trained on but measured."
    )
    checkpoint: str | None = Field(
        None,
        description="A folder of checkpoints of this recipe's pretraining (`pretrain/scratch/training`, or a copy) to "
        "start from: the newest up to `at` is taken. If left out, the recipe is trained up to `at` first.",
    )
