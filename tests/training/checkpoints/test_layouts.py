"""A checkpoint of any layout is the same on any other, and nothing in it is written twice."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from torch import distributed
from torch.distributed.checkpoint import FileSystemReader

from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from tests.processes import run
from tests.training.checkpoints.material import equal, make_training, step, tensors_of, whole


def saves(layout: str, folder: Path) -> None:
    model, adam = make_training(layout)
    for _ in range(2):
        step(model, adam)
    tensors = tensors_of(model, adam)
    expected = whole(tensors)
    if distributed.get_rank() == 0:
        torch.save(expected, folder / "expected.pt")
    checkpoints = Checkpoints(folder / "checkpoints", CheckpointOptions())
    checkpoints.save(2, 16, tensors, {"at": 2})
    step(model, adam)  # while the thread writes: it must not see this
    assert checkpoints.wait()
    checkpoints.close()


def loads(layout: str, folder: Path) -> None:
    model, adam = make_training(layout)
    tensors = tensors_of(model, adam)
    expected = torch.load(folder / "expected.pt")
    assert not equal(whole(tensors), expected)
    checkpoints = Checkpoints(folder / "checkpoints", CheckpointOptions())
    loaded = checkpoints.load(tensors)
    assert loaded
    assert (loaded.step, loaded.tokens, loaded.state) == (2, 16, {"at": 2})
    assert equal(whole(tensors), expected)


ONWARD = {
    ("one", 1): [("fsdp", 4), ("fsdp x tp", 4)],
    ("fsdp", 4): [("one", 1), ("fsdp", 2), ("fsdp", 3), ("fsdp x tp", 4), ("hsdp", 4)],
    ("fsdp x tp", 4): [("one", 1), ("fsdp", 3), ("fsdp", 4)],
    ("hsdp", 4): [("one", 1), ("fsdp x tp", 4)],
}


@pytest.mark.parametrize(("layout", "world"), ONWARD)
def test_what_one_layout_saved_every_other_loads(layout: str, world: int, tmp_path: Path) -> None:
    run(saves, world, layout, tmp_path)
    saved = (tmp_path / "checkpoints" / "step-0000000002").rename(tmp_path / "saved")
    index = FileSystemReader(saved).read_metadata().storage_data
    written_bytes = sum(path.stat().st_size for path in saved.glob("*.distcp"))
    assert written_bytes == sum(entry.length for entry in index.values()), "something was written twice"
    for other, other_world in ONWARD[layout, world]:
        folder = tmp_path / f"{other} {other_world}"
        (folder / "checkpoints").mkdir(parents=True)
        (folder / "expected.pt").symlink_to(tmp_path / "expected.pt")
        (folder / "checkpoints" / "step-0000000002").symlink_to(saved)
        run(loads, other_world, other, folder)


def numbers() -> tuple[float, list[float]]:
    return random.random(), torch.rand(4).tolist()


def saves_randomness(folder: Path) -> tuple[float, list[float]]:
    rank = distributed.get_rank()
    random.seed(rank)
    torch.manual_seed(100 + rank)
    random.gauss(0, 1)  # leaves a spare variate
    numbers()
    checkpoints = Checkpoints(folder, CheckpointOptions())
    checkpoints.save(1, 10, {"model.weight": torch.ones(3)}, {})
    assert checkpoints.wait()
    return random.gauss(0, 1), *numbers()  # type: ignore[return-value]


def loads_randomness(folder: Path) -> tuple[float, list[float]]:
    assert Checkpoints(folder, CheckpointOptions()).load({"model.weight": torch.zeros(3)})
    return random.gauss(0, 1), *numbers()  # type: ignore[return-value]


def test_random_state_comes_back_by_rank_and_is_derived_for_other_numbers_of_ranks(tmp_path: Path) -> None:
    saved = run(saves_randomness, 2, tmp_path)
    assert run(loads_randomness, 2, tmp_path) == saved
    three = run(loads_randomness, 3, tmp_path)
    assert run(loads_randomness, 3, tmp_path) == three
    assert len({str(item) for item in saved + three}) == 5


def saves_alike_and_apart(folder: Path) -> None:
    """Like a pipeline: every rank holds one name of its own, and one that all hold alike."""
    rank = distributed.get_rank()
    tensors = {"model.shared": torch.arange(100_000.0), f"model.stage{rank}": torch.full((10,), float(rank))}
    checkpoints = Checkpoints(folder, CheckpointOptions())
    checkpoints.save(1, 10, tensors, {})
    assert checkpoints.wait()


def loads_apart(folder: Path) -> None:
    rank, world = distributed.get_rank(), distributed.get_world_size()
    mine = range(4)[rank::world]
    tensors = {"model.shared": torch.zeros(100_000)} | {f"model.stage{stage}": torch.zeros(10) for stage in mine}
    assert Checkpoints(folder, CheckpointOptions()).load(tensors)
    assert torch.equal(tensors["model.shared"], torch.arange(100_000.0))
    assert all((tensors[f"model.stage{stage}"] == stage).all() for stage in mine)


def test_stages_move_between_ranks_and_copies_are_written_once(tmp_path: Path) -> None:
    run(saves_alike_and_apart, 4, tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.distcp"))
    assert 400_000 < size < 500_000
    for world in (1, 2, 4):
        run(loads_apart, world, tmp_path)
