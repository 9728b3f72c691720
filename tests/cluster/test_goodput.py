"""The account of a run's time: every bucket right, and nothing lost between them."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from herdsman.cluster.goodput import goodput, goodput_of_stage
from herdsman.events import EventLog, read_events
from herdsman.training.health.step_events import StepEvents


class Run:
    """A made-up run that knows where its time went. The monotonic clock starts anew with each attempt."""

    def __init__(self) -> None:
        self.now, self.boot, self.rows = 1.7e9, 0.0, list[dict[str, Any]]()

    def event(self, kind: str, after: float, **fields: Any) -> None:
        self.now += after
        clocks = {"unix_seconds": round(self.now, 6), "monotonic_seconds": round(self.now - self.boot, 6)}
        self.rows.append({"event": kind, **clocks, **fields})

    def start(self, after: float, step: int) -> None:
        self.boot = self.now + after - 17.0
        self.event("start", after, step=step)

    def steps(self, last: int, seconds: float, data: float = 0.0, lost: float = 0.0, besides: float = 0.0) -> None:
        self.event("step", seconds + besides, step=last, seconds=seconds, data_seconds=data, lost_seconds=lost)


def test_every_second_of_a_run_with_a_kill_is_in_its_bucket() -> None:
    run = Run()
    run.start(0, step=0)
    run.event("ready", 12)
    run.steps(10, seconds=100, data=5, besides=3)
    run.event("checkpoint", 2, step=10, blocked_seconds=2)
    run.steps(20, seconds=90, lost=9)  # killed afterwards: 5 of these 10 steps are after the checkpoint of step 15
    run.event("interruption", 1)
    run.event("restart", 1)
    run.start(6, step=15)
    run.event("ready", 10)
    run.steps(30, seconds=150)
    run.event("end", 4)
    account = goodput(run.rows)
    assert account.attempts == 2
    assert account.start == pytest.approx(22)
    assert account.data == pytest.approx(5)
    assert account.checkpoint == pytest.approx(2)
    assert account.recomputed == pytest.approx(9 + 81 / 2)
    assert account.productive == pytest.approx(95 + 81 / 2 + 150)
    assert account.wait == pytest.approx(8)
    assert account.other == pytest.approx(3 + 4)
    assert account.wall == pytest.approx(run.rows[-1]["unix_seconds"] - run.rows[0]["unix_seconds"], abs=1e-6)


def test_steps_rolled_back_are_lost_within_an_attempt() -> None:
    run = Run()
    run.start(0, step=0)
    run.event("ready", 1)
    run.steps(10, seconds=10)
    run.steps(16, seconds=6)
    run.event("roll_back", 2, step=12)
    run.steps(20, seconds=8)
    account = goodput(run.rows)
    assert account.productive == pytest.approx(10 + 2 + 8)
    assert account.recomputed == pytest.approx(4)
    assert account.other == pytest.approx(2)


def test_an_attempt_that_never_came_to_a_step_was_all_start() -> None:
    run = Run()
    run.start(0, step=0)
    run.event("note", 30)
    run.start(5, step=0)
    run.event("ready", 10)
    run.steps(5, seconds=5)
    assert (goodput(run.rows).start, goodput(run.rows).wait) == (pytest.approx(40), pytest.approx(5))


def test_no_events_are_no_time() -> None:
    assert goodput([]).wall == goodput([]).effective == 0.0


@pytest.mark.parametrize("seed", range(20))
def test_the_buckets_of_random_runs_add_up(seed: int) -> None:
    draw, run = random.Random(seed), Run()
    saved = 0
    for attempt in range(draw.randint(1, 30)):
        run.start(draw.expovariate(0.1) if attempt else 0.0, step=saved)
        step = saved
        if draw.random() < 0.9:
            run.event("ready", draw.expovariate(0.1))
            for _ in range(draw.randint(0, 20)):
                step += draw.randint(1, 9)
                seconds = draw.expovariate(0.2)
                run.steps(step, seconds, data=seconds * 0.1, lost=seconds * 0.05, besides=draw.expovariate(1))
                if draw.random() < 0.3:
                    saved = step
                    blocked = draw.expovariate(1)
                    run.event("checkpoint", blocked, step=step, blocked_seconds=blocked)
                elif draw.random() < 0.1:
                    step = saved
                    run.event("roll_back", draw.random(), step=step)
        if draw.random() < 0.5:
            run.event("interruption", draw.random())
    last = [row for row in run.rows if row["event"] != "interruption"][-1]
    account = goodput(run.rows)
    assert account.wall == pytest.approx(last["unix_seconds"] - run.rows[0]["unix_seconds"], abs=1e-5)
    assert min(account.productive, account.recomputed, account.checkpoint, account.start, account.wait) >= 0
    assert account.other >= -1e-5
    assert account.wall >= account.productive


def test_the_log_keeps_its_lines_whole_and_passes_over_a_torn_one(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl", stage="pretrain", attempt=1)
    log.write("start", step=0)
    with open(log.path, "ab") as file:
        file.write(b'{"event": "step", "sec\n')
    EventLog(log.path, stage="other").write("started")
    rows = read_events(log.path, stage="pretrain")
    assert [(row["event"], row["attempt"], row["step"]) for row in rows] == [("start", 1, 0)]
    assert [row["event"] for row in read_events(log.path)] == ["start", "started"]
    assert read_events(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize(("every_seconds", "lines"), [(1e9, [100]), (0.0, list(range(1, 101)))])
def test_many_steps_make_one_line_and_none_is_lost(tmp_path: Path, every_seconds: float, lines: list[int]) -> None:
    steps = StepEvents(EventLog(tmp_path / "events.jsonl"), every_seconds)
    for step in range(100):
        steps.add(step + 1, tokens=(step + 1) * 64, seconds=1.0, data_seconds=0.25, kept=step != 50)
    steps.flush()
    steps.flush()
    rows = read_events(tmp_path / "events.jsonl")
    assert [row["step"] for row in rows] == lines
    assert rows[-1]["tokens"] == 6400
    assert [sum(row[name] for row in rows) for name in ("seconds", "data_seconds", "lost_seconds")] == [100, 25, 1]


def test_a_stage_is_accounted_for_since_it_began_under_its_present_recipe() -> None:
    run = Run()
    for fingerprint, seconds in (("old", 500), ("new", 100), ("new", 60)):
        run.event("started", 5, stage="pretrain", fingerprint=fingerprint)
        run.start(10, step=0 if fingerprint == "old" or seconds == 100 else 10)
        run.event("ready", 10)
        run.steps(10 if seconds == 100 else 16, seconds=seconds)
    for row in run.rows:
        row["stage"] = "pretrain"
    run.event("started", 1, stage="evaluate", fingerprint="x")
    account = goodput_of_stage(run.rows, "pretrain")
    assert account
    assert (account.attempts, account.productive, account.start, account.wait) == (2, 160, 20, 15)
    assert account.describe() == "82.1% of 3.2 minutes with 2 starts was effective; starting again 17.9%"
    assert goodput_of_stage(run.rows, "tokens") is None
