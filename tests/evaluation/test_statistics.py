"""Intervals against published values, against the equations that define them, and against each other."""

from __future__ import annotations

import math

import numpy as np
import pytest

from herdsman.evaluation.statistics import bits_per_byte, bits_per_byte_interval, normal_margin, wilson

NEWCOMBE = [  # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    (81, 263, 0.2553, 0.3662),
    (15, 148, 0.0624, 0.1605),
    (0, 20, 0.0, 0.1611),
    (1, 29, 0.0061, 0.1718),
]
PAPER = [(0.726, 6.8), (0.805, 6.1), (0.890, 4.8)]  # HumanEval, 164 problems: 8B, 70B, 405B (table 18)


@pytest.mark.parametrize(("right", "examples", "low", "high"), NEWCOMBE)
def test_wilson_equals_published_intervals(right: int, examples: int, low: float, high: float) -> None:
    assert wilson(right, examples) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("score", "margin"), PAPER)
def test_margin_equals_the_papers_table(score: float, margin: float) -> None:
    assert round(100 * normal_margin(score, 164), 1) == margin


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
def test_the_ends_of_wilsons_interval_solve_its_equation(level: float) -> None:
    """Both ends p satisfy (share - p)^2 = z^2 p (1 - p) / n, and z has the mass `level` within it."""
    for right, examples in [(1, 3), (7, 10), (50, 100), (999, 1000)]:
        for end in wilson(right, examples, level):
            z_squared = (right / examples - end) ** 2 * examples / (end * (1 - end))
            assert math.erf(math.sqrt(z_squared / 2)) == pytest.approx(level, abs=1e-9)


def test_wilson_is_symmetric_and_stays_inside_0_and_1() -> None:
    for examples in (1, 2, 17, 400):
        for right in range(0, examples + 1, max(1, examples // 7)):
            low, high = wilson(right, examples)
            assert 0 <= low <= right / examples <= high <= 1
            assert wilson(examples - right, examples) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    assert wilson(0, 5).low == 0
    assert wilson(5, 5).high == 1


def test_what_is_not_a_share_is_refused() -> None:
    for call in (
        lambda: wilson(0, 0),
        lambda: wilson(3, 2),
        lambda: wilson(-1, 2),
        lambda: normal_margin(0.5, 0),
        lambda: normal_margin(1.1, 5),
        lambda: bits_per_byte_interval([], [], 0),
    ):
        with pytest.raises(ValueError):  # noqa: PT011
            call()


def test_bits_per_byte_weighs_documents_by_their_bytes() -> None:
    assert bits_per_byte([math.log(2) * 8, math.log(2) * 2], [1, 4]) == pytest.approx(2.0)


def test_the_bootstrap_agrees_with_the_normal_interval_where_that_holds() -> None:
    """Many documents of equal size: the ratio is a mean, its interval mean ± 1.96 deviations / sqrt(n)."""
    generator = np.random.default_rng(5)
    nats = generator.normal(700, 100, 900)
    sizes = np.full(900, 500)
    values = nats / sizes / math.log(2)
    half = 1.96 * values.std() / math.sqrt(len(values))
    low, high = bits_per_byte_interval(nats, sizes, seed=1)
    assert (low, high) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.15 * half)
    assert low < bits_per_byte(nats, sizes) < high


def test_the_bootstrap_draws_documents_not_bytes_and_is_the_same_each_time() -> None:
    assert bits_per_byte_interval([10.0], [5], seed=1) == pytest.approx([10 / 5 / math.log(2)] * 2)
    nats, sizes = [float(n * n) for n in range(50)], [10 + n for n in range(50)]
    assert bits_per_byte_interval(nats, sizes, 1) == bits_per_byte_interval(nats, sizes, 1)
    assert bits_per_byte_interval(nats, sizes, 1) != bits_per_byte_interval(nats, sizes, 2)
