"""A slow rank is found soon, and no other is named in 54 days."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import distributed

from herdsman.training.health.options import StragglerOptions
from herdsman.training.health.stragglers import SlowRule, Straggler, Stragglers
from tests.processes import run

DAYS, STEP_SECONDS, RANKS = 54, 10.0, 32  # the paper's snapshot


def compute(step: np.ndarray, draw: np.random.Generator, lasting: np.ndarray, phase: np.ndarray) -> np.ndarray:
    """Healthy seconds, [rank, step]: lasting differences of 5%, the day's 1.5%, noise, and rare long steps."""
    day = 0.015 * np.sin(2 * np.pi * (step * STEP_SECONDS / 86_400 + phase[:, None]))
    noise = 0.03 * draw.standard_normal((RANKS, len(step)))
    pauses = 2.0 * (draw.random((RANKS, len(step))) < 0.01)
    return 5.0 * lasting[:, None] * (1 + day) * np.exp(noise) + pauses


def test_54_healthy_days_give_no_alarm_and_a_slow_rank_is_found_in_20_steps() -> None:
    options, draw = StragglerOptions(), np.random.default_rng(0)
    lasting, phase = 1 + 0.025 * draw.uniform(-1, 1, RANKS), draw.uniform(0, 0.2, RANKS)
    rule = SlowRule(options, RANKS)
    waits = np.zeros((RANKS, options.window_steps))
    steps = int(DAYS * 86_400 / STEP_SECONDS)
    for first in range(0, steps, options.window_steps):
        window = compute(first + np.arange(options.window_steps), draw, lasting, phase)
        assert rule.judge(np.stack([window, waits])) == []
    for victim in range(RANKS):
        rule, slow = SlowRule(options, RANKS), np.ones(RANKS)
        slow[victim] = 1.3
        found = []
        for first in (0, options.window_steps):
            window = compute(first + np.arange(options.window_steps), draw, lasting * slow, phase)
            found.append([rank for rank, _, _ in rule.judge(np.stack([window, waits]))])
        assert found == [[], [victim]]


def test_what_all_ranks_share_names_nobody() -> None:
    rule = SlowRule(StragglerOptions(windows=1), 4)
    window = np.ones((2, 4, 10))
    window[:, :, 5:] *= 3  # a longer sequence from here on
    assert rule.judge(window) == []


def test_a_rank_is_compared_with_its_own_pipeline_stage() -> None:
    window = np.ones((2, 6, 10))
    window[1] = 0.0
    window[0, 4:] = 2.0  # the last stage has the output layer
    assert SlowRule(StragglerOptions(windows=1), 6, [0, 0, 1, 1, 2, 2]).judge(window) == []
    window[0, 5] = 2.6
    ((rank, kind, score),) = SlowRule(StragglerOptions(windows=1), 6, [0, 0, 1, 1, 2, 2]).judge(window)
    assert (rank, kind, round(score, 6)) == (5, 0, 1.3)


def steps(slow_compute: int, slow_data: int) -> list[list[Straggler]]:
    rank = distributed.get_rank()
    stragglers = Stragglers(StragglerOptions(), distributed.group.WORLD)
    draw = np.random.default_rng(rank)
    found: list[Any] = []
    for _ in range(30):
        compute_seconds = 0.1 * (1.3 if rank == slow_compute else 1) * (1 + 0.02 * draw.standard_normal())
        found.append(stragglers.add(compute_seconds, 0.05 if rank == slow_data else 0.001))
    return found


def test_all_ranks_name_the_same_slow_ones_within_20_steps() -> None:
    answers = run(steps, 4, 2, 3)
    assert all(answer == answers[0] for answer in answers)
    first = next(step for step, found in enumerate(answers[0]) if found)
    assert first == 19
    assert {(one.rank, one.cause) for one in answers[0][first]} == {(2, "compute"), (3, "data")}
    scores = {one.rank: one.score for one in answers[0][first]}
    assert 1.25 < scores[2] < 1.35
    assert all(one.host for one in answers[0][first])


def test_of_two_ranks_the_slower_is_named() -> None:
    answers = run(steps, 2, 1, -1)
    assert [(one.rank, one.cause) for one in answers[0][19]] == [(1, "compute")]


def test_a_single_process_has_no_stragglers() -> None:
    stragglers = Stragglers(StragglerOptions())
    assert [stragglers.add(1.0, 0.0) for _ in range(40)] == [[]] * 40
