"""Interruptions: the closed form against the simulation, the best interval against a search, both against the paper."""

from __future__ import annotations

import statistics
from math import sqrt

import pytest

from herdsman.cluster.figure import Figure
from herdsman.cluster.reliability import (
    DAY_SECONDS,
    INTERRUPTIONS_PER_GPU_DAY,
    LLAMA3_DAYS,
    LLAMA3_GPUS,
    best_interval,
    effective_share,
    reliability_figures,
    seconds_between_interruptions,
    simulate,
    young_interval,
)
from herdsman.training.checkpoints.options import CheckpointOptions

BETWEEN = seconds_between_interruptions(LLAMA3_GPUS, INTERRUPTIONS_PER_GPU_DAY.value)


def test_a_thousand_times_llama_3s_54_days() -> None:
    interval = best_interval(5, BETWEEN)
    trials = simulate(interval, 5, 600, BETWEEN, LLAMA3_DAYS * DAY_SECONDS, 1000)
    counts = [trial.interruptions for trial in trials]
    assert statistics.mean(counts) == pytest.approx(466, abs=3)
    assert 2 * statistics.stdev(counts) == pytest.approx(45, abs=4)
    expected = effective_share(interval, 5, 600, BETWEEN)
    assert statistics.mean(trial.effective for trial in trials) == pytest.approx(expected, abs=0.001)


@pytest.mark.parametrize("between", [1000.0, 10_000.0, 1e6])
@pytest.mark.parametrize("blocked", [1.0, 60.0])
@pytest.mark.parametrize("restart", [0.0, 900.0])
def test_the_closed_form_is_what_runs_come_to(between: float, blocked: float, restart: float) -> None:
    """Long runs, so that the last, unfinished interval does not count."""
    interval = best_interval(blocked, between)
    shares = [trial.effective for trial in simulate(interval, blocked, restart, between, 1000 * between, 20)]
    error = 4 * statistics.stdev(shares) / sqrt(len(shares))
    assert statistics.mean(shares) == pytest.approx(effective_share(interval, blocked, restart, between), abs=error)


def test_the_best_interval_is_the_best() -> None:
    for blocked, between in ((1, 10_000), (15, 10_000), (60, 3600), (5, 1e7)):
        best = best_interval(blocked, between)
        reached = effective_share(best, blocked, 600, between)
        tried = max(effective_share(best * (0.2 + 0.02 * step), blocked, 600, between) for step in range(200))
        assert reached == pytest.approx(tried, rel=1e-5)
        assert best == pytest.approx(young_interval(blocked, between), rel=0.12)


def test_more_than_90_percent_allows_a_restart_of_twelve_minutes() -> None:
    """The paper's effective time with its rate of interruptions, if a save blocks for 5 seconds."""
    interval = best_interval(5, BETWEEN)
    assert effective_share(interval, 5, 12 * 60, BETWEEN) > 0.9
    assert effective_share(interval, 5, 13 * 60, BETWEEN) < 0.9


def test_a_run_without_interruptions_loses_only_its_saves() -> None:
    (trial,) = simulate(100, 5, 600, 1e15, 1050, 1)
    assert (trial.effective, trial.interruptions) == (1000 / 1050, 0)
    (trial,) = simulate(100, 5, 600, 1e15, 1050 + 30, 1)
    assert trial.effective == 1030 / 1080, "what is done since the last save counts at the end"


def test_figures_hold_their_values_and_grow_worse_with_gpus() -> None:
    training = Figure.exact(50 * DAY_SECONDS, "s")
    shares = []
    for gpus in (8, 1024, 16_384, 131_072):
        found = reliability_figures(CheckpointOptions(), gpus, max(1, gpus // 8), 3e8, training)
        assert all(figure.holds(figure.value) for figure in found.values())
        shares.append(found["effective_share"].value)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.99 > 0.95 > shares[2]


def test_the_local_tier_counts_as_the_interval() -> None:
    training = Figure.exact(DAY_SECONDS, "s")
    options = CheckpointOptions(every_seconds=3600, local_folder="/dev/shm", local_every_seconds=300)
    assert reliability_figures(options, 16_384, 2048, 3e8, training)["save_interval"].value == 300
