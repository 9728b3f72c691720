"""Options of pretraining: the optimizer and the schedule as one table of phases."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from herdsman.options import Options


class OptimizerOptions(Options):
    """AdamW. Meta did not publish these for 405B; the defaults are Llama 2's, which torchtitan keeps for Llama 3."""

    beta1: float = Field(0.9, ge=0, lt=1, description="Decay of the gradient's running mean.")
    beta2: float = Field(0.95, ge=0, lt=1, description="Decay of the squared gradient's running mean.")
    epsilon: float = Field(1e-8, gt=0, description="Added to the root of the second moment.")
    weight_decay: float = Field(
        0.1, ge=0, description="Decoupled decay, a step: this times the learning rate; norms exempt."
    )
    clip_norm: float = Field(1.0, gt=0, description="Gradients are scaled down to this global norm.")


class Phase(Options):
    """One row of the schedule."""

    name: str = Field(description="Shown in the curves.")
    tokens: int = Field(gt=0, description="Training tokens of the phase; rounded to whole steps.")
    batch_tokens: int = Field(gt=0, description="Tokens a step.")
    sequence_length: int = Field(ge=2, description="Tokens a sequence.")
    learning_rate: Literal["cosine", "linear_to_zero"] = Field(
        "cosine",
        description="`cosine`: the common curve over all phases; `linear_to_zero`: from there to 0 by the phase's end.",
    )
    mix: Literal["pretrain", "anneal"] = Field("pretrain", description="Which data mix of the documents stage is read.")
    average_checkpoints: int = Field(
        0, ge=0, description="Checkpoints, spread evenly over the phase's second half, whose average becomes the model."
    )

    @model_validator(mode="after")
    def _whole_sequences(self) -> Phase:
        if self.batch_tokens % self.sequence_length:
            raise ValueError(
                f"batch_tokens ({self.batch_tokens}) must be a multiple of sequence_length ({self.sequence_length})"
            )
        return self

    @property
    def steps(self) -> int:
        return max(1, round(self.tokens / self.batch_tokens))


class PretrainOptions(Options):
    """Pretraining: warmup and cosine, then annealing with averaged checkpoints (paper, section 3.4)."""

    peak_learning_rate: float = Field(gt=0, description="Learning rate at the end of warmup.")
    final_learning_rate: float = Field(ge=0, description="Learning rate at the end of the cosine.")
    warmup_steps: int = Field(8000, ge=0, description="Steps of linear warmup from 0.")
    cosine_steps: int | None = Field(
        None,
        gt=0,
        description="Step at which the cosine ends, warmup included; the last step of the cosine phases if left out.",
    )
    phases: list[Phase] = Field(min_length=1, description="The schedule, in order.")
    optimizer: OptimizerOptions = Field(OptimizerOptions(), description="AdamW.")
    micro_batch_tokens: int = Field(
        8192, gt=0, description="Tokens that go through the model at once; at least one sequence."
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="Precision of matrix products; `auto` takes bfloat16 where the machine multiplies it in hardware.",
    )
    checkpoint_seconds: float = Field(600, gt=0, description="Time between checkpoints to resume from.")
    validations: int = Field(20, ge=1, description="Times the held-out loss is measured over the run.")
    validation_tokens: int = Field(1_000_000, gt=0, description="Held-out tokens each time, at most.")
    samples: int = Field(5, ge=0, description="Times the model is asked to continue the sample prompts over the run.")
    sample_prompts: list[str] = Field(
        ["The ", "To open a file, ", "def "], description="Beginnings that the model continues through training."
    )
