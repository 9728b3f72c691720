"""Options of what is measured while training, and who is told."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class MetricOptions(Options):
    """The curve and TensorBoard's files are always written, below `logs/`; Weights & Biases is told if asked to."""

    interval_seconds: float = Field(
        5.0,
        ge=0,
        description="Rates are means over the last steps that took this long together, and TensorBoard and Weights & "
        "Biases get a point this often, which stands for all steps since the one before; 0: every step alone.",
    )
    wandb_project: str | None = Field(
        None,
        description="Project of Weights & Biases to log to; none if left out. Its own environment variables say the "
        "rest, such as WANDB_API_KEY, WANDB_ENTITY, WANDB_NAME and WANDB_MODE=offline.",
    )
