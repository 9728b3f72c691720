"""The helper that runs ranks says what happened to them, and leaves none behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from torch import distributed

from tests.processes import RankError, run


def gathered(offset: int) -> tuple[torch.Tensor, int, str | None]:
    value = torch.tensor([distributed.get_rank() + offset])
    distributed.all_reduce(value)
    return value, torch.get_num_threads(), os.environ.get("RANK")


def fails_on_rank_1() -> None:
    if distributed.get_rank() == 1:
        raise ValueError("the reason")
    distributed.barrier()


def dies_on_rank_1() -> None:
    if distributed.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def hangs_on_rank_1() -> None:
    if distributed.get_rank() == 1:
        time.sleep(60)
    distributed.barrier()


def writes_its_id(folder: Path) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.parametrize("world", [1, 4])
def test_results_come_back_by_rank(world: int) -> None:
    total = sum(range(world)) + 10 * world
    assert run(gathered, world, 10) == [(torch.tensor([total]), 1, str(rank)) for rank in range(world)]


def test_the_rank_that_raised_is_named_with_its_reason() -> None:
    with pytest.raises(RankError, match=r"(?s)rank 1 of 3 raised.*in fails_on_rank_1.*ValueError: the reason"):
        run(fails_on_rank_1, 3)


def test_a_rank_that_died_is_named() -> None:
    with pytest.raises(RankError, match="rank 1 died with exit code -9"):
        run(dies_on_rank_1, 2)


def test_ranks_that_hang_are_stopped_and_say_where_they_stood() -> None:
    with pytest.raises(RankError, match=r"(?s)not done after 1 seconds.*rank 0:.*barrier.*rank 1:.*hangs_on_rank_1"):
        run(hangs_on_rank_1, 2, timeout_seconds=1)


def test_a_killed_test_run_leaves_no_rank_behind(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom tests.processes import run\nfrom tests.test_processes import writes_its_id\n"
        f"run(writes_its_id, 2, Path({str(tmp_path)!r}))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment)
    try:
        while len(ranks := [int(path.name) for path in tmp_path.iterdir()]) < 2:
            assert parent.poll() is None
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + 30
    while any(map(psutil.pid_exists, ranks)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(psutil.pid_exists, ranks))
