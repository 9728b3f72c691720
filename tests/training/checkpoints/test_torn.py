"""No checkpoint that differs in a single bit from what was written is ever loaded; the one before is."""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
from torch import distributed

from herdsman.files import write_text
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from tests.processes import RankError, run
from tests.training.checkpoints.material import load_plain, save_plain

NEWEST = "step-0000000002"


def truncate(path: Path, chance: random.Random) -> None:
    os.truncate(path, chance.randrange(path.stat().st_size))


def flip_a_bit(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def cut_the_last_byte(path: Path, chance: random.Random) -> None:
    os.truncate(path, path.stat().st_size - 1)


def add_a_byte(path: Path, chance: random.Random) -> None:
    with open(path, "ab") as file:
        file.write(chance.choice([b"\0", b"\n", b" "]))


def swap_two_blocks(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    middle = chance.randrange(1, len(content))
    path.write_bytes(content[middle:] + content[:middle])


def take_the_older_ones(path: Path, chance: random.Random) -> None:
    shutil.copyfile(path.parents[1] / "step-0000000001" / path.name, path)


def remove(path: Path, chance: random.Random) -> None:
    path.unlink()


def add_a_file(path: Path, chance: random.Random) -> None:
    (path.parent / "__9_0.distcp").write_bytes(path.read_bytes())


WAYS = (truncate, truncate, flip_a_bit, flip_a_bit, cut_the_last_byte, add_a_byte, swap_two_blocks, remove, add_a_file)


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "manifest.json"])
def test_a_damaged_file_of_any_kind_is_found(name: str, tmp_path: Path) -> None:
    save_plain(tmp_path / "whole", 2)
    assert load_plain(tmp_path / "whole")[0].step == 2  # type: ignore[union-attr]
    chance = random.Random(name)
    for damage in WAYS * 7:
        shutil.rmtree(tmp_path / "torn", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "torn")
        damage(tmp_path / "torn" / NEWEST / name, chance)
        loaded, checkpoints = load_plain(tmp_path / "torn")
        assert loaded
        assert loaded.step == 1, damage.__name__
        assert [path.name for path, _ in checkpoints.refused] == [NEWEST]


@pytest.mark.parametrize("name", ["__0_0.distcp", ".metadata", "manifest.json"])
def test_an_older_file_in_its_place_is_found(name: str, tmp_path: Path) -> None:
    save_plain(tmp_path, 2)
    take_the_older_ones(tmp_path / NEWEST / name, random.Random())
    assert load_plain(tmp_path)[0].step == 1  # type: ignore[union-attr]


def saves(folder: Path) -> None:
    checkpoints = Checkpoints(folder, CheckpointOptions())
    for step in (1, 2):
        checkpoints.save(step, 10, {f"model.{distributed.get_rank()}": torch.full((100,), float(step))}, {})
        assert checkpoints.wait()


def loads(folder: Path) -> tuple[int, list[str]]:
    tensors = {f"model.{distributed.get_rank()}": torch.zeros(100)}
    checkpoints = Checkpoints(folder, CheckpointOptions())
    loaded = checkpoints.load(tensors)
    assert loaded
    assert (tensors[f"model.{distributed.get_rank()}"] == loaded.step).all()
    return loaded.step, [reason for _, reason in checkpoints.refused]


@pytest.mark.parametrize("rank", range(3))
def test_all_ranks_fall_back_when_the_file_of_one_is_torn(rank: int, tmp_path: Path) -> None:
    run(saves, 3, tmp_path)
    flip_a_bit(tmp_path / NEWEST / f"__{rank}_0.distcp", random.Random(rank))
    assert run(loads, 3, tmp_path) == [(1, [f"__{rank}_0.distcp does not have its digest"])] * 3


def saves_until_killed(folder: Path, seconds: float) -> None:
    rank = distributed.get_rank()
    if rank == 1:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    checkpoints = Checkpoints(folder, CheckpointOptions())
    for step in range(1, 1000):
        checkpoints.save(step, step, {f"model.{rank}": torch.full((1_000_000,), float(step))}, {})
        assert checkpoints.wait()
        if rank == 0:
            write_text(folder.parent / "durable", str(step))  # whole, for this rank is killed too


def test_a_kill_at_any_moment_costs_at_most_the_save_in_progress(tmp_path: Path) -> None:
    chance, cut_short = random.Random(4), 0
    for number in range(20):
        home = tmp_path / str(number)
        with pytest.raises(RankError, match=r"died with exit code -9|closed|reset"):
            run(saves_until_killed, 2, home / "checkpoints", chance.uniform(0.0, 0.4))
        cut_short += bool(list((home / "checkpoints").glob("*.partial")))
        durable = int((home / "durable").read_text()) if (home / "durable").exists() else 0

        tensors = {f"model.{rank}": torch.zeros(1_000_000) for rank in range(2)}
        checkpoints = Checkpoints(home / "checkpoints", CheckpointOptions())
        loaded = checkpoints.load(tensors)
        step = loaded.step if loaded else 0
        assert step in (durable, durable + 1)
        assert all((tensor == step).all() for tensor in tensors.values())
        assert checkpoints.refused == []
        assert not list((home / "checkpoints").glob("*.partial"))
    assert cut_short >= 5, "most kills must fall into a save"
