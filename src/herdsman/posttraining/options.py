"""Options of a post-training round (paper, section 4). Defaults are the paper's, or Llama 2's where it is silent."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from herdsman.options import Options
from herdsman.training.options import OptimizerOptions


class PromptOptions(Options):
    """How many prompts of each source are made; sources that run out give fewer."""

    tasks: int = Field(40_000, ge=1, description="Checkable tasks about words, numbers and Python.")
    open_book: int = Field(20_000, ge=0, description="Questions about a passage that they show.")
    closed_book: int = Field(20_000, ge=0, description="Questions about the documents that do not show them.")
    conversation: int = Field(1_000, ge=0, description="Greetings, questions about the model itself, thanks.")
    harmful: int = Field(1_000, ge=0, description="Harmful prompts of real test sets.")
    borderline: int = Field(1_000, ge=0, description="Harmless prompts that sound harmful.")
    held_out: int = Field(
        2_000, ge=1, description="Tasks to measure with; of each other source a quarter as many prompts."
    )
    difficulty: int = Field(3, ge=1, le=3, description="Hardest level of tasks: longer lists, larger numbers.")
    annotated_share: float = Field(
        0.4, gt=0, lt=1, description="Share of prompts whose reference is trained on, as if a person had written it."
    )
    preference_share: float = Field(
        0.2, gt=0, lt=1,
        description="Share of prompts whose sampled answers are ranked, the reference first, as if a person had edited "
        "one; the remaining prompts get the best of their sampled answers.",
    )  # fmt: skip
    more_turns: float = Field(
        0.2, ge=0, lt=1, description="Probability that an SFT dialog goes on with another exchange after each one."
    )

    @model_validator(mode="after")
    def _some_left(self) -> PromptOptions:
        if self.annotated_share + self.preference_share >= 1:
            raise ValueError("annotated_share and preference_share must leave some prompts for rejection sampling")
        return self


class SamplingOptions(Options):
    """How responses are drawn for preferences and rejection sampling."""

    samples_per_prompt: int = Field(16, ge=2, description="Responses a prompt (K; the paper takes 10 to 30).")
    temperature: float = Field(0.6, gt=0, description="Divides the logits.")
    top_p: float = Field(0.9, gt=0, le=1, description="Probability that the nucleus holds.")
    max_new_tokens: int = Field(512, ge=1, description="Longest response.")


class FineTuneOptions(Options):
    """One kind of fine-tuning: a cosine to a tenth of the rate after a short warmup, as Llama 2's reward model had."""

    learning_rate: float = Field(1e-5, gt=0, description="Highest learning rate.")
    epochs: float = Field(1.0, gt=0, description="Passes over the data.")
    batch_tokens: int = Field(65_536, gt=0, description="Tokens a step, padding included.")
    micro_batch_tokens: int = Field(8192, gt=0, description="Tokens that go through the model at once.")
    average: int = Field(2, ge=1, description="Models of different data order that are trained and averaged.")


class DpoOptions(FineTuneOptions):
    """Direct preference optimisation with the paper's two changes (section 4.1.4)."""

    beta: float = Field(0.1, gt=0, description="Strength of the pull towards the reference model.")
    nll: float = Field(0.2, ge=0, description="Weight of the chosen responses' mean negative log-likelihood a token.")


class PosttrainOptions(Options):
    """One round: prompts, samples, reward model, rejection sampling, SFT, DPO, each averaged."""

    prompts: PromptOptions = Field(PromptOptions(), description="Prompts by source.")
    sampling: SamplingOptions = Field(SamplingOptions(), description="Sampling of responses.")
    seed_policy: FineTuneOptions = Field(
        FineTuneOptions(average=1), description="SFT on references; it stands in for the previous round's model."
    )
    reward: FineTuneOptions = Field(FineTuneOptions(), description="The reward model, from the pretrained model.")
    sft: FineTuneOptions = Field(FineTuneOptions(epochs=2), description="Supervised fine-tuning.")
    sft_start: Literal["pretrained", "seed"] = Field(
        "pretrained",
        description="The model that supervised fine-tuning starts from; `seed` saves a small herd the time of learning "
        "the chat format twice.",
    )
    dpo: DpoOptions = Field(DpoOptions(), description="Preference optimisation, from the SFT model.")
    optimizer: OptimizerOptions = Field(OptimizerOptions(), description="AdamW of all trainings.")
    drop_similar: float = Field(
        0.9, gt=0, le=1, description="A response as similar as this to a better one is left out of its preference."
    )
    checkpoint_seconds: float = Field(300, gt=0, description="Time between checkpoints to resume from.")
