"""Checkpoints on the nodes' own disks are taken only where every process finds its own part of the same save."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import distributed

from herdsman.errors import MachineError
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from tests.processes import run
from tests.training.checkpoints.material import equal, make_training, step, tensors_of, whole


def options(home: Path) -> CheckpointOptions:
    return CheckpointOptions(local_folder=str(home / f"node-{distributed.get_rank() // 2}"))


def saves(home: Path, tiers: str) -> None:
    """Saves after every step, to the shared folder (s) or the local one (l)."""
    model, adam = make_training("fsdp")
    checkpoints = Checkpoints(home / "shared", options(home))
    for number, tier in enumerate(tiers, 1):
        step(model, adam)
        tensors = tensors_of(model, adam)
        expected = whole(tensors)
        if distributed.get_rank() == 0:
            torch.save(expected, home / f"expected-{number}.pt")
        checkpoints.save(number, 10 * number, tensors, {"at": number}, tier="local" if tier == "l" else "shared")
    assert checkpoints.wait()


def loads(home: Path) -> tuple[int, str, list[str]]:
    """Step and tier of what is loaded, and what was refused; "none" if nothing was."""
    model, adam = make_training("fsdp")
    tensors = tensors_of(model, adam)
    checkpoints = Checkpoints(home / "shared", options(home))
    loaded = checkpoints.load(tensors)
    refused = [str(path.relative_to(home).parts[0]) for path, _ in checkpoints.refused]
    if not loaded:
        return 0, "none", refused
    assert loaded.state == {"at": loaded.step}
    assert equal(whole(tensors), torch.load(home / f"expected-{loaded.step}.pt"))
    step(model, adam)
    checkpoints.save(loaded.step + 1, 0, tensors, {"at": loaded.step + 1}, tier="local")
    assert checkpoints.wait()
    return loaded.step, loaded.path.relative_to(home).parts[0], refused


def parts(home: Path, rank: int) -> list[Path]:
    return sorted(home.glob(f"node-*/*/*/rank-{rank}/step-*"))


@pytest.mark.parametrize(
    ("tiers", "expected"), [("l", (1, "node")), ("ls", (2, "shared")), ("sl", (2, "node")), ("slll", (4, "node"))]
)
def test_the_newest_of_both_tiers_is_loaded(tiers: str, expected: tuple[int, str], tmp_path: Path) -> None:
    run(saves, 2, tmp_path, tiers)
    results = run(loads, 2, tmp_path)
    assert [(at, tier.partition("-")[0], refused) for at, tier, refused in results] == [(*expected, [])] * 2
    assert all(len(parts(tmp_path, rank)) <= 2 for rank in range(2))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_part_that_is_torn_or_lost_on_one_node_counts_for_all(tmp_path: Path) -> None:
    run(saves, 4, tmp_path, "sllll")
    assert [path.name for path in parts(tmp_path, 3)] == ["step-0000000004", "step-0000000005"]
    flip(parts(tmp_path, 3)[1] / "__0_0.distcp")
    results = run(loads, 4, tmp_path)
    assert [result[0] for result in results] == [4] * 4
    assert [result[2] for result in results] == [["node-0"], ["node-0"], ["node-1"], ["node-1"]]  # each its own part
    # Saved again at step 5. Node 1 is replaced by an empty one.
    shutil.rmtree(tmp_path / "node-1")
    assert run(loads, 4, tmp_path) == [(1, "shared", [])] * 4


def test_another_layout_takes_the_shared_one(tmp_path: Path) -> None:
    run(saves, 4, tmp_path, "sl")
    assert run(loads, 3, tmp_path) == [(1, "shared", [])] * 3


def test_parts_of_different_saves_of_a_step_are_not_mixed(tmp_path: Path) -> None:
    """As when processes die between their parts of a step that an earlier past had also saved."""
    run(saves, 2, tmp_path, "sl")
    kept = parts(tmp_path, 1)[0]
    shutil.copytree(kept, tmp_path / "aside")
    shutil.rmtree(tmp_path / "node-0")
    run(saves, 2, tmp_path, "sl")
    shutil.rmtree(kept)
    (tmp_path / "aside").rename(kept)
    assert run(loads, 2, tmp_path) == [(1, "shared", [])] * 2


def test_a_new_run_in_the_same_place_finds_nothing_of_the_old(tmp_path: Path) -> None:
    run(saves, 2, tmp_path, "sll")
    shutil.rmtree(tmp_path / "shared")
    assert run(loads, 2, tmp_path) == [(0, "none", [])] * 2
    assert not parts(tmp_path, 0)


def starts_where_one_node_cannot_write(home: Path) -> None:
    with pytest.raises(MachineError, match="node-0"):
        Checkpoints(home / "shared", options(home))


def test_a_node_without_its_folder_stops_all_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "node-0").touch()
    run(starts_where_one_node_cannot_write, 4, tmp_path, timeout_seconds=30)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["run.json"]
