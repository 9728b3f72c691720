"""The loop: gradients do not depend on micro-batches, resumed runs equal undisturbed ones bit for bit."""

from __future__ import annotations

import math
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from herdsman.errors import HerdsmanError
from herdsman.events import read_events
from herdsman.files import read_jsonl
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.course import Listed, Step
from herdsman.training.health.options import HealthOptions, SpikeOptions
from herdsman.training.loop import Stopped, Training
from herdsman.training.objective import Batch, NextToken
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.build import alone

OPTIONS = ModelOptions(layers=2, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=32)
OFTEN = CheckpointOptions(every_seconds=1e-9)


def batches(step: int, rows: int = 8) -> list[Batch]:
    tokens = torch.randint(0, 64, (8, 17), generator=torch.Generator().manual_seed(step))
    weights = (tokens[:, 1:] % 3 > 0).float()
    return [
        Batch(t[:, :-1], None, {"targets": t[:, 1:], "weights": w})
        for t, w in zip(tokens.split(rows), weights.split(rows), strict=True)
    ]


def run(
    folder: Path,
    steps: int,
    read: Callable[[int], list[Batch]] = batches,
    optimizer: OptimizerOptions | None = None,
    course: Listed | None = None,
    **more: Any,
) -> Llama:
    model = Llama(OPTIONS, 64).initialise(0)
    course = course or Listed([128] * steps, lambda step: 1e-2, read)
    settings: dict[str, Any] = {"checkpoints": OFTEN, **more}
    log, optimizer = folder / "logs" / "curve.jsonl", optimizer or OptimizerOptions()
    Training(alone(model), NextToken(), course, optimizer, folder=folder / "checkpoints", log=log, **settings).run()
    return model


def weights(model: Llama) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_micro_batches_do_not_change_the_result(tmp_path: Path) -> None:
    # Adam divides by the gradient's size: a small epsilon would blow rounding noise of idle weights up to steps.
    calm = OptimizerOptions(epsilon=1e-2)
    whole = run(tmp_path / "a", 4, optimizer=calm)
    uneven = run(tmp_path / "b", 4, lambda step: batches(step, 3), optimizer=calm)
    assert torch.allclose(weights(whole), weights(uneven), atol=1e-6)
    losses = [[row["loss"] for row in read_jsonl(tmp_path / name / "logs/curve.jsonl")] for name in "ab"]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_resume_equals_the_straight_run_bit_for_bit(tmp_path: Path, name: str) -> None:
    optimizer = OptimizerOptions(name=name, momentum_warmup_steps=6)
    straight = run(tmp_path / "straight", 9, optimizer=optimizer)

    def kill(step: int, tokens: int, model: object) -> None:
        if step == 5:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path / "killed", 9, optimizer=optimizer, after_step=kill)
    with open(tmp_path / "killed/logs/curve.jsonl", "a") as log:
        log.write('{"step": 6, "loss": 3.')  # the line the process was writing when it died
    resumed = run(tmp_path / "killed", 9, optimizer=optimizer)
    assert torch.equal(weights(straight), weights(resumed))
    curves = [read_jsonl(tmp_path / name / "logs/curve.jsonl") for name in ("straight", "killed")]
    assert [row["step"] for row in curves[1]] == list(range(9))
    assert [row["loss"] for row in curves[0]] == [row["loss"] for row in curves[1]]
    starts = [event for event in read_events(tmp_path / "killed/logs/events.jsonl") if event["event"] == "start"]
    assert [event["step"] for event in starts] == [0, 5]


def test_it_learns(tmp_path: Path) -> None:
    run(tmp_path, 40, lambda step: batches(0))
    rows = read_jsonl(tmp_path / "logs/curve.jsonl")
    assert rows[0]["loss"] == pytest.approx(math.log(64), abs=0.1)
    assert rows[-1]["loss"] < 2.0


def poisoned(step: int, when: range) -> list[Batch]:
    found = batches(step)
    if step in when:
        found[0].by_token["weights"][0, 0] = math.nan  # type: ignore[index]
    return found


def test_a_step_without_a_finite_loss_changes_nothing(tmp_path: Path) -> None:
    """Three steps, the middle one poisoned, give the weights of the other two."""
    without = Listed([128] * 2, lambda step: 1e-2, lambda step: batches(2 * step))
    clean = run(tmp_path / "clean", 2, course=without)
    dirty = run(tmp_path / "dirty", 3, lambda step: poisoned(step, range(1, 2)))
    assert torch.equal(weights(clean), weights(dirty))
    skips = [event for event in read_events(tmp_path / "dirty/logs/events.jsonl") if event["event"] == "skip"]
    assert [event["step"] for event in skips] == [1]


def test_training_that_never_makes_sense_stops_with_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(HerdsmanError, match="lower the learning rate"):
        run(tmp_path, 20, lambda step: poisoned(step, range(20)), checkpoints=CheckpointOptions())


class Steered(Listed):
    """Steps over numbered data, some of which it learns to leave out."""

    def __init__(self, steps: int, read: Callable[[int], list[Batch]]):
        super().__init__([128] * steps, lambda step: 1e-2, read)
        self.left_out: list[tuple[int, int]] = []

    def at(self, step: int, tokens: int) -> Step | None:
        position = tokens // 128
        for begin, end in self.left_out:
            position += end - begin if position >= begin else 0
        return Step(1e-2, 128, position, 16, "") if step < len(self.tokens) else None

    def state(self) -> dict[str, Any]:
        return {"left_out": self.left_out}

    def load(self, state: dict[str, Any]) -> None:
        self.left_out = [(begin, end) for begin, end in state["left_out"]]

    def leave_out(self, step: int, begin: int, end: int, reason: str) -> None:
        self.left_out.append((begin // 128, end // 128))


def test_rolls_back_past_bad_data(tmp_path: Path) -> None:
    """After three poisoned steps in a row training goes back to its last checkpoint and on with the data after them,
    and gives what training without that data gives."""
    bad, health = range(5, 8), HealthOptions(spikes=SpikeOptions(skips_before_rollback=3))
    every_fourth = CheckpointOptions(every_tokens=4 * 128)
    course = Steered(10, lambda step: poisoned(step, bad))
    model = run(tmp_path / "bad", 10, course=course, health=health, checkpoints=every_fourth)
    assert course.left_out == [(4, 8)]
    order = [*range(4), *range(8, 14)]
    clean = run(tmp_path / "good", 10, lambda step: batches(order[step]))
    assert torch.equal(weights(model), weights(clean))
    steps = [row["step"] for row in read_jsonl(tmp_path / "bad/logs/curve.jsonl")]
    assert steps == list(range(10))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_a_signal_ends_training_after_a_checkpoint(tmp_path: Path, name: str) -> None:
    straight = run(tmp_path / "straight", 6)

    def stop(step: int, tokens: int, model: object) -> None:
        if step == 2:
            os.kill(os.getpid(), getattr(signal, name))

    rarely = CheckpointOptions()
    with pytest.raises(Stopped, match=name) as stopped:
        run(tmp_path / "told", 6, after_step=stop, checkpoints=rarely)
    assert stopped.value.exit_status == 75
    assert len(list((tmp_path / "told/checkpoints").glob("step-*"))) == 1
    assert torch.equal(weights(straight), weights(run(tmp_path / "told", 6, checkpoints=rarely)))
