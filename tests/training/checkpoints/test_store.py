"""Saving beside training, and resuming as if nothing had happened."""

from __future__ import annotations

import logging
import random
import re
import resource
import signal
from pathlib import Path

import pytest
import torch
from torch import distributed

from herdsman.errors import InputError, MachineError, WorkspaceError
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from tests.processes import run
from tests.training.checkpoints.material import load_plain, make_training, save_plain, step, tensors_of


def test_a_resumed_run_is_the_straight_run_bit_for_bit(tmp_path: Path) -> None:
    random.seed(1)
    model, adam = make_training("one")
    checkpoints = Checkpoints(tmp_path, CheckpointOptions())
    losses = []
    for number in range(6):
        if number == 3:
            checkpoints.save(3, 24, tensors_of(model, adam), {"at": 3})
        losses.append(step(model, adam))
    assert checkpoints.wait()
    straight = {name: tensor.detach().clone() for name, tensor in tensors_of(model, adam).items()}

    random.seed(2)
    model, adam = make_training("one")
    checkpoints = Checkpoints(tmp_path, CheckpointOptions())
    loaded = checkpoints.load(tensors_of(model, adam))
    assert loaded
    assert loaded.step == 3
    assert [step(model, adam) for _ in range(3)] == losses[3:]
    resumed = tensors_of(model, adam)
    assert resumed.keys() == straight.keys()
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


def test_an_empty_folder_has_nothing_to_load(tmp_path: Path) -> None:
    assert load_plain(tmp_path / "new")[0] is None


def test_every_kind_of_tensor_and_state_comes_back(tmp_path: Path) -> None:
    tensors = {
        "bfloat16": torch.randn(3, 4).bfloat16(),
        "scalar": torch.tensor(7),
        "empty": torch.zeros(0, 4),
        "not contiguous": torch.arange(12.0).view(3, 4).t(),
        "part of a larger one": torch.arange(1000)[10:20],
        "numbers": torch.tensor([float("nan"), float("inf"), -0.0]),
        "trained": torch.nn.Parameter(torch.randn(5)),
    }
    state = {"position": [1, 2**60], "rate": 0.1 + 0.2, "name": "Zürich", "nothing": None, "nested": {"a": [True]}}
    checkpoints = Checkpoints(tmp_path, CheckpointOptions())
    checkpoints.save(1, 10, tensors, state)
    state["position"] = "changed after the save"
    assert checkpoints.wait()
    others = {name: torch.full_like(tensor, 3).detach() for name, tensor in tensors.items()}
    loaded = Checkpoints(tmp_path, CheckpointOptions()).load(others)
    assert loaded
    assert loaded.state == state | {"position": [1, 2**60]}
    for name, tensor in tensors.items():
        assert torch.equal(others[name].reshape(-1).view(torch.uint8), tensor.detach().reshape(-1).view(torch.uint8))


def test_another_model_is_refused_by_what_differs(tmp_path: Path) -> None:
    save_plain(tmp_path, 1)
    checkpoints = Checkpoints(tmp_path, CheckpointOptions())
    weight = torch.zeros(100, 8)
    for tensors, what in (
        ({"model.weight": weight, "model.bias": weight}, "it has no model.bias"),
        ({}, "no process holds its model.weight"),
        ({"model.weight": torch.zeros(100, 9)}, "Size mismatch.*model.weight"),
    ):
        with pytest.raises(InputError, match=what):
            checkpoints.load(tensors)


def test_a_state_that_is_not_json_is_a_defect_at_once(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        Checkpoints(tmp_path, CheckpointOptions()).save(1, 10, {"model.weight": torch.ones(1)}, {"at": object()})


def test_a_step_that_is_durable_is_not_written_again(tmp_path: Path) -> None:
    checkpoints = save_plain(tmp_path, 1)
    written = (tmp_path / "step-0000000001" / "manifest.json").stat().st_mtime_ns
    checkpoints.save(1, 10, {"model.weight": torch.full((100, 8), 1.0)}, {"at": 1})
    assert checkpoints.wait()
    assert (tmp_path / "step-0000000001" / "manifest.json").stat().st_mtime_ns == written


def test_saves_are_due_by_tokens_and_by_the_clock(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "tokens", CheckpointOptions(every_tokens=100))
    assert [checkpoints.due(tokens) for tokens in (0, 50, 99, 100, 140)] == [None, None, None, "shared", "shared"]
    checkpoints.save(1, 140, {"model.weight": torch.ones(1)}, {})
    assert [checkpoints.due(tokens) for tokens in (150, 199, 230)] == [None, None, "shared"]
    assert checkpoints.wait()
    resumed = Checkpoints(tmp_path / "tokens", CheckpointOptions(every_tokens=100))
    assert resumed.load({"model.weight": torch.ones(1)})
    assert [resumed.due(tokens) for tokens in (199, 200)] == [None, "shared"]

    local = str(tmp_path / "local")
    for options, due in (
        (CheckpointOptions(every_seconds=1e-9), "shared"),
        (CheckpointOptions(local_every_seconds=1e-9), None),
        (CheckpointOptions(local_every_seconds=1e-9, local_folder=local), "local"),
    ):
        assert Checkpoints(tmp_path / "clock", options).due(1) == due


def test_a_run_whose_checkpoints_are_all_torn_does_not_start_anew_in_silence(tmp_path: Path) -> None:
    save_plain(tmp_path, 2)
    for path in tmp_path.glob("*/manifest.json"):
        path.unlink()
    with pytest.raises(WorkspaceError, match="none of the 2 checkpoints is intact"):
        load_plain(tmp_path)


def test_what_a_killed_save_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    save_plain(tmp_path, 2)
    (tmp_path / "step-0000000002").rename(tmp_path / "step-0000000002.partial")
    loaded, _ = load_plain(tmp_path)
    assert loaded
    assert loaded.step == 1
    assert [path.name for path in tmp_path.iterdir()] == ["step-0000000001"]


def trains_through_a_full_disk(folder: Path) -> tuple[list[str], list[bool], str]:
    """A limit on the size of files, on one rank of several, stands in for a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    rank, messages = distributed.get_rank(), []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("herdsman").addHandler(handler)
    checkpoints, safe = Checkpoints(folder, CheckpointOptions(max_failures=2)), []
    for number in range(1, 6):
        full = number in (2, 4, 5) and rank == distributed.get_world_size() - 1
        resource.setrlimit(resource.RLIMIT_FSIZE, (3_000 if full else resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        weight = {f"model.{rank}": torch.full((1000,), float(number))}
        checkpoints.save(number, 10 * number, weight, {})
        safe.append(checkpoints.wait())
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    with pytest.raises(MachineError, match="the last 2 checkpoints could not be written") as raised:
        checkpoints.save(6, 60, weight, {})
    weight = {f"model.{rank}": torch.zeros(1000)}
    loaded = Checkpoints(folder, CheckpointOptions()).load(weight)
    assert loaded
    assert loaded.step == 3
    assert (weight[f"model.{rank}"] == 3).all()
    return messages, safe, str(raised.value)


@pytest.mark.parametrize("world", [1, 3])
def test_a_full_disk_stops_training_only_when_it_stays_full(world: int, tmp_path: Path) -> None:
    results = run(trains_through_a_full_disk, world, tmp_path)
    assert all(safe == [True, False, True, False, False] for _, safe, _ in results)
    first, *others = (messages for messages, _, _ in results)
    assert [re.search(r"step-\d+|$", message).group() for message in first] == [  # type: ignore[union-attr]
        f"step-{number:010d}" for number in (2, 4, 5)
    ]
    assert all("File too large" in message for message in first)
    assert others == [[]] * (world - 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-0000000001", "step-0000000003"]


def test_a_folder_that_cannot_be_made_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="make it a writable folder"):
        Checkpoints(tmp_path / "file" / "checkpoints", CheckpointOptions())
