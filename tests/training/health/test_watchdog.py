"""Hangs with real ranks over gloo: ended in time, and the rank at fault named."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed

from herdsman.training.health.flight import find_culprits
from herdsman.training.health.options import WatchdogOptions
from herdsman.training.health.watchdog import Watchdog
from tests.processes import RankError, run

OPTIONS = WatchdogOptions(timeout_seconds=2.0, first_step_seconds=20.0, gather_seconds=4.0)
STEPS = 4


def hang(folder: str, world: int, victim: int, step: int, place: str, how: str) -> None:
    """Four steps of collectives in groups as of a 2-D mesh; the victim stops before the one called `place`."""
    rank = distributed.get_rank()
    pairs = [distributed.new_group([first, first + 1]) for first in range(0, world - 1, 2)]
    mine = pairs[rank // 2] if rank // 2 < len(pairs) else None
    watchdog = Watchdog(OPTIONS, Path(folder), rank, world)
    for now in range(STEPS):
        for name in ("reduce", "pair", "gather", "send"):
            if (rank, now, name) == (victim, step, place):
                os.kill(os.getpid(), signal.SIGSTOP) if how == "stopped" else time.sleep(60)
            if name == "reduce":
                distributed.all_reduce(torch.ones(3))
            elif name == "pair" and mine is not None:
                distributed.all_reduce(torch.ones(5), group=mine)
            elif name == "gather":
                distributed.all_gather([torch.empty(2) for _ in range(world)], torch.ones(2))
            elif name == "send":  # along the ranks, as micro-batches go through a pipeline
                if rank > 0:
                    distributed.recv(torch.empty(2), rank - 1)
                if rank < world - 1:
                    distributed.send(torch.ones(2), rank + 1)
        watchdog.beat(now)
    watchdog.close()


def verdict_of(folder: Path, case: tuple[int, int, int, str, str]) -> dict[str, Any]:
    folder.mkdir()
    with pytest.raises(RankError, match=r"died with exit code 90|raised"):
        run(hang, case[0], str(folder), *case, timeout_seconds=40)
    return dict(json.loads((folder / "hang.json").read_text()))


@pytest.mark.slow
def test_names_the_hung_rank_in_20_of_20_cases(tmp_path: Path) -> None:
    draw = random.Random(0)
    cases = []
    for number in range(20):
        world = draw.choice((2, 3, 4))
        place = ("reduce", "pair", "gather", "send")[number % 4]
        victim = draw.randrange(world - (place == "pair" and world == 3))
        cases.append((world, victim, draw.randrange(STEPS - 1), place, "stopped" if number % 5 == 4 else "asleep"))
    with ThreadPoolExecutor(5) as pool:
        verdicts = list(pool.map(verdict_of, [tmp_path / str(number) for number in range(20)], cases))
    named = [verdict["ranks"] for verdict in verdicts]
    assert named == [[victim] for _, victim, *_ in cases], list(zip(cases, verdicts, strict=True))
    assert all(verdict["places"][0]["pid"] for verdict in verdicts)
    stacks = (tmp_path / "0" / f"stacks_{cases[0][1]}.txt").read_text()
    assert "in hang" in stacks


def healthy(folder: str) -> bool:
    watchdog = Watchdog(WatchdogOptions(timeout_seconds=1.0, first_step_seconds=20.0), Path(folder))
    time.sleep(1.5)  # the first step may take longer
    for step in range(8):
        watchdog.beat(step)
        time.sleep(0.2)
    watchdog.beat(8, "evaluate", allow_seconds=20)
    time.sleep(1.5)
    watchdog.close()
    return not (Path(folder) / "hang").exists()


def test_lets_a_slow_first_step_and_a_long_evaluation_be(tmp_path: Path) -> None:
    assert run(healthy, 1, str(tmp_path)) == [True]


def extract(waits_for: tuple[str, int] | None, queued: dict[str, int], communicates: bool | None = None) -> Any:
    """Four ranks: group `all`, and the pairs `01` and `23`."""
    ranks = {"all": [0, 1, 2, 3], "01": [0, 1], "23": [2, 3]}
    return {
        "groups": {name: {"ranks": ranks[name], "queued": count} for name, count in queued.items()},
        "waits_for": {"group": waits_for[0], "sequence": waits_for[1]} if waits_for else None,
        "communicates": waits_for is not None if communicates is None else communicates,
    }


def test_who_waits_for_another_is_not_the_root() -> None:
    # Rank 3 computes for ever; 2 waits for it in their pair, 0 and 1 wait in the collective of all for both.
    extracts = {
        0: extract(("all", 5), {"all": 5, "01": 9}),
        1: extract(("all", 5), {"all": 5, "01": 9}),
        2: extract(("23", 9), {"all": 4, "23": 9}),
        3: extract(None, {"all": 4, "23": 8}),
    }
    assert find_culprits(extracts, 4).ranks == [3]


def test_a_collective_that_all_have_come_to_is_nobodys_fault() -> None:
    found = find_culprits({rank: extract(("all", 5), {"all": 5}) for rank in range(4)}, 4)
    assert found.ranks == []
    assert "network" in found.reason


def test_ranks_that_wait_for_one_another_in_different_groups_are_all_named() -> None:
    extracts = {
        0: extract(("all", 1), {"all": 1, "01": 0}),
        1: extract(("01", 1), {"all": 0, "01": 1}),
        2: extract(("all", 1), {"all": 1}),
        3: extract(("all", 1), {"all": 1}),
    }
    found = find_culprits(extracts, 4)
    assert found.ranks == [0, 1]
    assert "order" in found.reason
