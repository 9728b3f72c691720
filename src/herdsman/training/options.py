"""Options of pretraining: the optimizer and the schedule as one table of phases."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from herdsman.documents.mix_options import CATEGORIES
from herdsman.options import Options
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.health.options import HealthOptions
from herdsman.training.metric_options import MetricOptions
from herdsman.training.parallel.layout import LayoutOptions

MANNER: Any = {
    **dict.fromkeys(("checkpoints", "health", "metrics", "layout", "attention", "recompute", "compile"), True),
    "phases": {"__all__": {"layout": True, "gate": {"most_tokens": True, "at_limit": True}}},
}
"""Options of pretraining that change how it runs and not, but for rounding, what comes out."""


class OptimizerOptions(Options):
    """AdamW, or Muon for the matrices of the blocks beside AdamW for the rest.

    Meta did not publish AdamW's settings for 405B; the defaults are Llama 2's, which torchtitan keeps for Llama 3.
    """

    name: Literal["adamw", "muon"] = Field(
        "adamw",
        description="`adamw` as in the paper, or `muon`, which orthogonalises the momentum of the blocks' matrices.",
    )
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW: decay of the gradient's running mean.")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW: decay of the squared gradient's running mean.")
    epsilon: float = Field(1e-8, gt=0, description="AdamW: added to the root of the second moment.")
    momentum: float = Field(0.95, ge=0, lt=1, description="Muon: decay of the gradient's running mean.")
    momentum_start: float = Field(0.85, ge=0, lt=1, description="Muon: that decay at the first step.")
    momentum_warmup_steps: int = Field(300, ge=0, description="Muon: steps in which it rises to `momentum`.")
    embedding_rate: float = Field(
        1.0,
        gt=0,
        description="Learning rate of embedding and output, as a multiple of the schedule's; narrow models learn "
        "faster with more than 1.",
    )
    weight_decay: float = Field(
        0.1, ge=0, description="Decoupled decay, a step: this times the learning rate; norms exempt."
    )
    clip_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this global norm.")


class GateOptions(Options):
    """What a phase of longer sequences must have reached before the next one begins (paper, section 3.4.2)."""

    needle: float = Field(
        1.0, ge=0, le=1, description="Share of needles that must be found at the phase's sequence length."
    )
    short_context: float = Field(
        0.02, ge=0, description="How far the loss on short text may stay above that before the phase, relatively."
    )
    every_tokens: int = Field(gt=0, description="Tokens by which the phase is prolonged each time it has not passed.")
    most_tokens: int = Field(gt=0, description="Tokens by which the phase is prolonged in all, at most.")
    at_limit: Literal["stop", "go_on"] = Field(
        "stop",
        description="What happens when it has still not passed: the run ends with an error, or warns and goes on.",
    )


class Phase(Options):
    """One row of the schedule."""

    name: str = Field(description="Shown in the curves.")
    tokens: int = Field(
        gt=0, description="Training tokens of the phase; rounded to the nearest whole steps, at least one."
    )
    batch_tokens: int = Field(gt=0, description="Tokens a step.")
    sequence_length: int = Field(ge=2, description="Tokens a sequence.")
    learning_rate: Literal["cosine", "linear_to_zero"] = Field(
        "cosine",
        description="`cosine`: the common curve over all phases; `linear_to_zero`: from there to 0 by the end of this "
        "and any such phases that follow.",
    )
    mix: Literal["pretrain", "anneal"] = Field("pretrain", description="Which data mix of the documents stage is read.")
    shares: dict[str, float] | None = Field(
        None,
        description="Target shares of the tokens by category in place of the mix's own, as in `documents.mix.shares`; "
        "within a category the mix stays as it is, and the share of one without documents goes to the others.",
    )
    gate: GateOptions | None = Field(
        None, description="What must have been reached before the next phase begins; nothing if left out."
    )
    layout: LayoutOptions | None = Field(
        None, description="How the model is spread over processes in this phase, if not as `pretrain.layout` says."
    )
    average_checkpoints: int = Field(
        0, ge=0, description="Checkpoints, spread evenly over `average_share` of the phase, that are averaged."
    )
    average_share: float = Field(
        0.5, gt=0, le=1, description="The part of the phase, at its end, whose checkpoints are averaged."
    )

    @field_validator("shares")
    @classmethod
    def _shares_are_whole(cls, shares: dict[str, float] | None) -> dict[str, float] | None:
        if shares is not None:
            if unknown := sorted(set(shares) - set(CATEGORIES)):
                raise ValueError(f"there is no category {unknown[0]}; there are {', '.join(CATEGORIES)}")
            if any(share < 0 for share in shares.values()) or not math.isclose(sum(shares.values()), 1, abs_tol=1e-6):
                raise ValueError(f"shares must not be negative and must sum to 1, not to {sum(shares.values()):g}")
        return shares

    @model_validator(mode="after")
    def _whole_sequences(self) -> Phase:
        if self.batch_tokens % self.sequence_length:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) must be a multiple of sequence_length ({self.sequence_length})"
            )
        if self.gate and self.learning_rate != "cosine":
            raise ValueError("a phase whose learning rate ends at 0 cannot be prolonged, so it cannot have a gate")
        return self

    @property
    def steps(self) -> int:
        """Steps of the phase, if no gate prolongs it."""
        return max(1, round(self.tokens / self.batch_tokens))


class PretrainOptions(Options):
    """Pretraining: warmup and cosine, then annealing with averaged checkpoints (paper, section 3.4)."""

    start: str | None = Field(
        None,
        description="Folder of a model to go on from (`herdsman import` makes them, `pretrain/model` is one) instead "
        "of random weights; `tokenizer.base` must be its vocabulary.",
    )
    peak_learning_rate: float | None = Field(
        None, gt=0, description="Learning rate at the end of warmup; by the model's size if left out."
    )
    final_learning_rate: float | None = Field(
        None, ge=0, description="Learning rate at the end of the cosine; by the model's size if left out."
    )
    warmup_steps: int | None = Field(
        None, ge=0, description="Steps of linear warmup from 0; by the model's size if left out."
    )
    cosine_steps: int | None = Field(
        None,
        gt=0,
        description="Step at which the cosine ends, warmup included; the last step of the cosine phases if left out.",
    )
    warmup_tokens: int | None = Field(
        None, ge=0, description="Counts warmup and cosine in tokens instead of steps: tokens of warmup."
    )
    cosine_tokens: int | None = Field(
        None, gt=0, description="Beside `warmup_tokens`: tokens after which the cosine ends; as above if left out."
    )
    phases: list[Phase] = Field(min_length=1, description="The schedule, in order.")
    optimizer: OptimizerOptions = Field(OptimizerOptions(), description="AdamW or Muon.")
    z_loss: float = Field(
        0.0,
        ge=0,
        description="Weight of the squared log of the softmax's denominator, added to the loss (PaLM took 1e-4); it "
        "keeps logits from drifting.",
    )
    average: Literal["uniform", "exponential", "none"] = Field(
        "uniform",
        description="Which weights become the base model: a mean of the phases' `average_checkpoints`, all alike or "
        "later ones more, or the last weights. All three are evaluated.",
    )
    average_decay: float = Field(
        0.5, gt=0, lt=1, description="Weight of a checkpoint in the exponential average, relative to the next one's."
    )
    micro_batch_tokens: int = Field(
        8192, gt=0, description="Tokens that go through the model at once; at least one sequence."
    )
    precision: Literal["auto", "float32", "bfloat16", "float8"] = Field(
        "auto",
        description="Precision of matrix products; `auto` takes bfloat16 where the machine multiplies it in hardware; "
        "`float8` those of the blocks in 8 bits, scaled by row, on GPUs that have it.",
    )
    attention: Literal["auto", "dense", "tiled", "flex", "varlen"] = Field(
        "auto",
        description="How attention is computed: `dense` with a written mask, `tiled` for CPUs, `flex` and `varlen` on "
        "CUDA; `auto` takes what is fastest there.",
    )
    recompute: Literal["none", "selective", "full"] = Field(
        "none",
        description="What the backward pass computes again to save memory: `selective` all but matrix products and "
        "attention, `full` whole blocks.",
    )
    compile: bool = Field(False, description="Compile each block with torch.compile.")
    layout: LayoutOptions = Field(LayoutOptions(), description="How the model is spread over processes.")
    checkpoints: CheckpointOptions = Field(CheckpointOptions(), description="What a run resumes from.")
    metrics: MetricOptions = Field(MetricOptions(), description="What is measured, and who is told.")
    health: HealthOptions = Field(HealthOptions(), description="Spikes, slow ranks, hangs.")
    validations: int = Field(20, ge=1, description="Times the held-out loss is measured over the run.")
    validation_tokens: int = Field(1_000_000, gt=0, description="Held-out tokens each time, at most.")
    samples: int = Field(5, ge=0, description="Times the model is asked to continue the sample prompts over the run.")
    sample_prompts: list[str] = Field(
        ["The ", "To open a file, ", "def "], description="Beginnings that the model continues through training."
    )

    @model_validator(mode="after")
    def _one_measure_of_the_curve(self) -> PretrainOptions:
        if self.warmup_tokens is None and self.cosine_tokens is not None:
            raise ValueError("cosine_tokens needs warmup_tokens, which counts the curve in tokens")
        if self.warmup_tokens is not None and (self.warmup_steps is not None or self.cosine_steps is not None):
            raise ValueError("count warmup and cosine in steps or in tokens, not in both")
        return self
