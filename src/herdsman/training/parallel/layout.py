"""How a model is laid out over processes, and the mesh they form."""

from __future__ import annotations

from dataclasses import dataclass
from math import lcm, prod
from typing import Literal

from pydantic import Field

from herdsman.errors import RecipeError
from herdsman.model.options import ModelOptions
from herdsman.options import Options

ScheduleName = Literal[
    "GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"
]
ONE_STAGE = ("GPipe", "1F1B")
V_SHAPED = ("ZBVZeroBubble", "DualPipeV")


class LayoutOptions(Options):
    """Degrees of parallelism, in the paper's order from the innermost (section 3.3.2).

    Ranks that share a tensor or a context sit next to each other, where the network is fastest.
    """

    tensor: int = Field(1, ge=1, description="Ranks that split every matrix (TP), with the sequence split in between.")
    context: int = Field(1, ge=1, description="Ranks that split every sequence (CP).")
    pipeline: int = Field(1, ge=1, description="Ranks that split the layers (PP).")
    data: int | None = Field(
        None, ge=1, description="Ranks, or groups of them, that split the batch (DP); all that are left if left out."
    )
    shards: int | None = Field(
        None,
        ge=1,
        description="Data ranks that weights are sharded over, a divisor of `data`; the groups hold replicas of each "
        "other (HSDP). All if left out (FSDP).",
    )
    schedule: ScheduleName = Field("Interleaved1F1B", description="The pipeline's schedule.")
    stages_per_rank: int = Field(
        2, ge=1, description="Stages of the pipeline on each rank, where the schedule has several."
    )
    reshard_after_forward: bool = Field(
        False, description="Free gathered weights between forward and backward: less memory, one more all-gather."
    )


@dataclass(frozen=True)
class Layout:
    """Degrees that multiply to the number of processes.

    Attributes:
        tensor, context, pipeline, data: ranks along each axis.
        shards: data ranks a weight is sharded over.
    """

    tensor: int
    context: int
    pipeline: int
    data: int
    shards: int
    schedule: ScheduleName
    stages: int
    reshard_after_forward: bool

    @staticmethod
    def of(options: LayoutOptions, processes: int) -> Layout:
        """The layout of these options on so many processes.

        Raises:
            RecipeError: the degrees do not multiply to their number.
        """
        inner = options.tensor * options.context * options.pipeline
        data = options.data or max(1, processes // inner)
        if inner * data != processes:
            raise RecipeError(
                f"tensor {options.tensor} x context {options.context} x pipeline {options.pipeline} x data {data} "
                f"is {inner * data} processes, but there are {processes}",
                where="pretrain.layout",
                do="change the degrees or the number of processes",
            )
        shards = options.shards or data
        if data % shards:
            raise RecipeError(
                f"{data} data ranks cannot be cut into groups of {shards}",
                where="pretrain.layout.shards",
                do="choose a divisor",
            )
        several = options.schedule not in ONE_STAGE
        per_rank = 2 if options.schedule in V_SHAPED else options.stages_per_rank if several else 1
        return Layout(
            options.tensor, options.context, options.pipeline, data, shards, options.schedule,
            options.pipeline * per_rank if options.pipeline > 1 else 1, options.reshard_after_forward,
        )  # fmt: skip

    @property
    def processes(self) -> int:
        return prod((self.tensor, self.context, self.pipeline, self.data))

    @property
    def sequence_unit_tokens(self) -> int:
        """Sequences must be multiples of this to be split: in two chunks for each context rank, and each rank's part
        over the tensor ranks."""
        return self.context * lcm(2, self.tensor) if self.context > 1 else self.tensor

    def check(self, model: ModelOptions, sequence_lengths: list[int]) -> None:
        """Says what cannot be split in this way.

        Raises:
            RecipeError: a degree does not divide what it splits.
        """
        split = {
            "query heads": model.heads,
            "key and value heads": model.kv_heads,
            "feed-forward columns": model.ffn_dim,
        }
        for what, count in split.items():
            if count % self.tensor:
                raise _cannot(f"{count} {what}", f"tensor = {self.tensor}")
        if self.stages > model.layers + 2:
            what = f"{model.layers} layers, the embedding and the output"
            raise _cannot(what, f"{self.stages} pipeline stages", "choose fewer stages")
        for length in sequence_lengths:
            if length % self.sequence_unit_tokens:
                over = f"context = {self.context}, in two chunks each, and tensor = {self.tensor}"
                do = f"choose a multiple of {self.sequence_unit_tokens} tokens"
                raise _cannot(f"a sequence of {length} tokens", over, do)


def _cannot(what: str, over: str, do: str = "choose a divisor") -> RecipeError:
    return RecipeError(f"{what} cannot be split evenly over {over}", where="pretrain.layout", do=do)
