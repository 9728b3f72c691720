"""Paired changes over seeds and items: Student's quantiles by the table, intervals that hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from herdsman.scaling.paired import paired_change, student_quantile


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (10, 2.2281), (30, 2.0423), (1000, 1.9623)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(0.975, freedom) == pytest.approx(quantile, abs=1e-4)


@pytest.mark.parametrize(
    ("seeds", "items", "by_seed", "by_item", "both"),
    [(3, 200, 0.1, 0.5, 0.5), (2, 50, 0.05, 1.0, 0.1), (4, 300, 0.0, 0.5, 0.0), (3, 100, 0.2, 0.0, 0.2)],
)
def test_intervals_hold_the_true_change(seeds: int, items: int, by_seed: float, by_item: float, both: float) -> None:
    draw, held, trials = np.random.default_rng(0), 0, 400
    for _ in range(trials):
        sizes = draw.uniform(0.5, 2, items)
        noise = by_seed * draw.standard_normal((seeds, 1)) + by_item * draw.standard_normal(items)
        differences = (0.03 + noise + both * draw.standard_normal((seeds, items))) * sizes
        before = draw.standard_normal((seeds, items))
        change = paired_change(before, before + differences, sizes)
        held += change.low <= 0.03 <= change.high
    assert 0.92 <= held / trials <= 0.99


def test_equal_models_do_not_differ() -> None:
    values = np.random.default_rng(0).standard_normal((2, 10))
    change = paired_change(values, values)
    assert (change.value, change.low, change.high, change.clear) == (0, 0, 0, False)


def test_the_mean_is_weighted_by_size() -> None:
    change = paired_change([[0, 0], [0, 0]], [[1, 9], [1, 9]], [1, 3])
    assert change.value == 2.5
