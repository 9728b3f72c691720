"""The one training loop: pretraining, reward model, SFT and DPO differ only in what a batch is and what the loss is."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from herdsman.errors import HerdsmanError
from herdsman.files import atomic_open, read_jsonl, write_jsonl
from herdsman.progress import Task
from herdsman.training.losses import Loss
from herdsman.training.optimizer import make_optimizer, matmul_precision, set_learning_rate
from herdsman.training.options import OptimizerOptions

MicroBatch = TypeVar("MicroBatch")
CHECKPOINT = "checkpoint.pt"


def train(
    model: nn.Module,
    *,
    steps: int,
    batch_at: Callable[[int], Sequence[MicroBatch]],
    loss_of: Callable[[Any, MicroBatch], Loss],
    learning_rate: Callable[[int], float],
    optimizer: OptimizerOptions,
    scratch: Path,
    log: Path,
    task: Task | None = None,
    after_step: Callable[[int, Any], None] | None = None,
    precision: torch.dtype = torch.float32,
    checkpoint_seconds: float = 30.0,
) -> None:
    """Trains the model in place, resuming exactly from the checkpoint in `scratch` if there is one.

    Args:
        steps: optimizer steps in all.
        batch_at: micro-batches of a step; a pure function of it, for exact resumes.
        loss_of: model and micro-batch to `Loss`; a step's gradient is the sum of totals over the sum of weights.
        learning_rate: rate of a step.
        optimizer: AdamW's options.
        scratch: folder for the checkpoint.
        log: JSON lines, one a step: step, loss, learning_rate, gradient_norm, seconds and what the loss adds.
        task: progress, in steps.
        after_step: called with the step and the model after each update; may run again for a step after a resume.
        precision: dtype of matrix products.
        checkpoint_seconds: time between checkpoints.

    Raises:
        HerdsmanError: the loss is not a finite number.
    """
    model.train()
    device = next(model.parameters()).device
    adam = make_optimizer(model.named_parameters(), optimizer, precision)
    first = _resume(model, adam, scratch / CHECKPOINT, log)
    if task and first:
        task.resume(first)
    saved = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, "a", encoding="utf-8") as curve:
        for step in range(first, steps):
            started = time.monotonic()
            rate = learning_rate(step)
            set_learning_rate(adam, rate)
            row = _step(model, adam, batch_at(step), loss_of, optimizer.clip_norm, precision, device)
            if not math.isfinite(row["loss"]):
                raise HerdsmanError(
                    f"the loss became {row['loss']} at step {step}",
                    where=log,
                    do="lower the learning rate in the recipe",
                )
            row |= {"step": step, "learning_rate": rate, "seconds": round(time.monotonic() - started, 4)}
            curve.write(json.dumps(row, sort_keys=True) + "\n")
            if task:
                task.note(f"loss {row['loss']:.3f}")
                task.update(step + 1)
            if after_step:
                after_step(step, model)
                model.train()
            if time.monotonic() - saved >= checkpoint_seconds and step + 1 < steps:
                curve.flush()
                _save(model, adam, step + 1, scratch / CHECKPOINT)
                saved = time.monotonic()
    model.eval()


def _step(
    model: nn.Module,
    adam: torch.optim.Optimizer,
    micro_batches: Sequence[MicroBatch],
    loss_of: Callable[[Any, MicroBatch], Loss],
    clip_norm: float,
    precision: torch.dtype,
    device: torch.device,
) -> dict[str, Any]:
    """One update. Gradients are accumulated as sums in float32 and divided once by the step's whole weight."""
    adam.zero_grad(set_to_none=True)
    total, weight = 0.0, 0.0
    sums: dict[str, float] = {}
    for micro_batch in micro_batches:
        with matmul_precision(device, precision):
            loss = loss_of(model, micro_batch)
        loss.total.backward()
        total, weight = total + float(loss.total.detach()), weight + float(loss.weight)
        for name, value in loss.sums.items():
            sums[name] = sums.get(name, 0.0) + float(value)
    parameters = [parameter for parameter in model.parameters() if parameter.grad is not None]
    for parameter in parameters:
        parameter.grad.div_(weight)  # type: ignore[union-attr]
    norm = float(nn.utils.clip_grad_norm_(parameters, clip_norm))
    adam.step()
    return {"loss": total / weight, "gradient_norm": norm, **{name: value / weight for name, value in sums.items()}}


def _save(model: nn.Module, adam: torch.optim.Optimizer, step: int, path: Path) -> None:
    with atomic_open(path) as file:
        try:
            torch.save({"model": model.state_dict(), "optimizer": adam.state_dict(), "step": step}, file)
        except RuntimeError as error:
            # torch hides what the disk said behind a remark on positions in the file.
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None


def _resume(model: nn.Module, adam: torch.optim.Optimizer, path: Path, log: Path) -> int:
    """Restores model, optimizer and curve to the last checkpoint; returns the step to go on with."""
    step = 0
    if path.exists():
        state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
        model.load_state_dict(state["model"])
        adam.load_state_dict(state["optimizer"])
        step = int(state["step"])
    if log.exists():
        write_jsonl(log, [row for row in _whole_rows(log) if row["step"] < step])
    return step


def _whole_rows(log: Path) -> list[Any]:
    """Rows of a curve whose last line may be cut where the process died."""
    try:
        return read_jsonl(log)
    except ValueError:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[:-1]
        return [json.loads(line) for line in lines if line.strip()]
