"""What all fine-tunings share: the rate's curve, the order of batches, several models of which the average is kept."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from herdsman.events import EventLog
from herdsman.files import read_jsonl
from herdsman.model.llama import Llama
from herdsman.model.store import save_model
from herdsman.posttraining.options import FineTuneOptions
from herdsman.posttraining.rows import cut, plan_batches
from herdsman.progress import Progress
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.course import Listed
from herdsman.training.loop import Training
from herdsman.training.objective import Batch, Objective
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.build import alone
from herdsman.training.parallel.running import Running

FINAL_SHARE = 0.1
WARMUP_SHARE, LEAST_WARMUP_STEPS = 0.03, 5
MODEL = "model"
SHOWN = ("step", "loss", "learning_rate", "gradient_norm", "accuracy", "margin", "nll")


@dataclass(frozen=True)
class Setting:
    """Where and how fine-tunings run.

    Attributes:
        scratch: folder for checkpoints and the models that are averaged.
        logs: folder for curves.
        precision: dtype of matrix products.
        filler: the token that fills rows up.
        events: what happened when.
    """

    optimizer: OptimizerOptions
    scratch: Path
    logs: Path
    device: torch.device
    precision: torch.dtype
    checkpoint_seconds: float
    progress: Progress
    seed: int
    filler: int
    events: EventLog


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Linear warmup over 3% of the steps (at least 5), then a cosine to a tenth of the peak (Llama 2, 3.2.2)."""
    warmup = min(max(LEAST_WARMUP_STEPS, round(WARMUP_SHARE * steps)), max(1, steps // 2))
    if step < warmup:
        return peak * (step + 1) / warmup
    share = (step - warmup) / max(1, steps - warmup)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * (1 + math.cos(math.pi * share)) / 2)


def fine_tune(
    name: str,
    start: Callable[[], Llama],
    lengths: Sequence[int],
    batch_of: Callable[[Sequence[int], Sequence[int]], Batch],
    objective: Objective,
    options: FineTuneOptions,
    setting: Setting,
) -> list[Path]:
    """Trains `options.average` models that differ in the order of their data; returns their folders.

    Args:
        start: the model to start from, anew for each.
        lengths: tokens of each item, all its rows together.
        batch_of: the items of a micro-batch, and those of its whole step, as a batch of the objective.
    """
    folders = []
    for version in range(options.average):
        scratch = setting.scratch / name / str(version)
        folders.append(scratch / MODEL)
        if folders[-1].exists():
            continue
        plan = plan_batches(lengths, options.batch_tokens, options.epochs, setting.seed, name, version)

        def batches(step: int, plan: list[list[int]] = plan) -> list[Batch]:
            return [batch_of(part, plan[step]) for part in cut(plan[step], lengths, options.micro_batch_tokens)]

        def rate(step: int, steps: int = len(plan)) -> float:
            return learning_rate(step, steps, options.learning_rate)

        label = f"{name} {version + 1} of {options.average}" if options.average > 1 else name
        with setting.progress.task(label, total=len(plan), unit="steps") as task:
            model = start()
            Training(
                alone(model, Running(setting.precision)),
                objective,
                Listed([sum(lengths[item] for item in items) for items in plan], rate, batches),
                setting.optimizer,
                folder=scratch / "checkpoints",
                log=_log(name, version, setting),
                events=setting.events,
                checkpoints=CheckpointOptions(every_seconds=setting.checkpoint_seconds),
                task=task,
            ).run()
            save_model(model, folders[-1])
    return folders


def read_curve(name: str, setting: Setting) -> list[dict[str, float]]:
    """The curve of the first model of a fine-tuning, one row a step, without times and rates."""
    rows = read_jsonl(_log(name, 0, setting))
    return [{key: row[key] for key in SHOWN if key in row} for row in rows]


def _log(name: str, version: int, setting: Setting) -> Path:
    return setting.logs / f"{name}-{version}.jsonl"
