"""What all fine-tunings share: the rate's curve, the order of batches, several models of which the average is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from herdsman.files import read_jsonl
from herdsman.posttraining.options import FineTuneOptions
from herdsman.progress import Progress
from herdsman.training.loop import train
from herdsman.training.losses import Loss
from herdsman.training.options import OptimizerOptions

Model = TypeVar("Model", bound=nn.Module)
FINAL_SHARE = 0.1
WARMUP_SHARE, LEAST_WARMUP_STEPS = 0.03, 5


@dataclass(frozen=True)
class Setting:
    """Where and how a fine-tuning runs.

    Attributes:
        scratch: folder for checkpoints.
        logs: folder for curves.
        precision: dtype of matrix products.
    """

    optimizer: OptimizerOptions
    scratch: Path
    logs: Path
    device: torch.device
    precision: torch.dtype
    checkpoint_seconds: float
    progress: Progress
    seed: int


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warmup over 3% of the steps (at least 5), then a cosine to a tenth of the peak (Llama 2, section 3.2.2)."""
    warmup = min(max(LEAST_WARMUP_STEPS, round(WARMUP_SHARE * steps)), max(1, steps // 2))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * share)) / 2)


def fine_tune(
    name: str,
    model: Model,
    plan: Sequence[Sequence[int]],
    batch_of: Callable[[Sequence[int]], Any],
    loss_of: Callable[[Model, Any], Loss],
    options: FineTuneOptions,
    setting: Setting,
) -> tuple[Model, list[dict[str, float]]]:
    """Trains the model in place over the planned batches; returns it and its curve, one row a step without times."""
    log = setting.logs / f"{name}.jsonl"
    with setting.progress.task(name, total=len(plan), unit="steps") as task:
        train(
            model,
            steps=len(plan),
            batch_at=lambda step: [batch_of(plan[step])],
            loss_of=loss_of,
            learning_rate=lambda step: learning_rate(step, len(plan), options.learning_rate),
            optimizer=setting.optimizer,
            scratch=setting.scratch / name,
            log=log,
            task=task,
            precision=setting.precision,
            checkpoint_seconds=setting.checkpoint_seconds,
        )
    rows = read_jsonl(log)
    return model, [{key: value for key, value in row.items() if key != "seconds"} for row in rows]
