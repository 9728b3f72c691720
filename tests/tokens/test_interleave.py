"""Every stream has its share of the blocks at every moment."""

from __future__ import annotations

import random

import numpy as np
import pytest

from herdsman.errors import RecipeError
from herdsman.tokens.interleave import WHOLE, Interleaving, whole_shares


def random_mix(rng: random.Random) -> dict[str, float]:
    weights = [rng.random() ** rng.choice([1, 4, 12]) for _ in range(rng.randrange(1, 9))]
    return {f"stream {number}": weight / sum(weights) for number, weight in enumerate(weights)}


@pytest.mark.parametrize("seed", range(6))
def test_every_stream_has_its_share_within_one_block(seed: int) -> None:
    mix = random_mix(random.Random(seed))
    schedule = Interleaving(mix)
    shares = np.array([weight / schedule.period for weight in schedule.weights])
    assert {name: pytest.approx(share, abs=1 / WHOLE) for name, share in mix.items()} == dict(
        zip(schedule.names, shares, strict=True)
    )
    counts = dict.fromkeys(schedule.names, 0)
    blocks = min(3 * schedule.period, 20_000)
    errors = np.zeros(len(shares))
    for index in range(blocks):
        name, turn = schedule.place(index)
        assert turn == counts[name]
        counts[name] += 1
        errors = np.maximum(errors, np.abs(np.array(list(counts.values())) - (index + 1) * shares))
        if index % 997 == 0:
            assert schedule.counts(index + 1) == counts
    assert errors.max() < 1


def test_a_schedule_begins_again_after_its_period() -> None:
    schedule = Interleaving({"a": 0.5, "b": 0.3, "c": 0.2})
    assert (schedule.weights, schedule.period) == ([5, 3, 2], 10)
    for index in range(30):
        name, turn = schedule.place(index)
        later = schedule.place(index + 10 * 10**9)
        assert later == (name, turn + 10**9 * schedule.weights[schedule.names.index(name)])
    assert schedule.counts(10**12) == {"a": 5 * 10**11, "b": 3 * 10**11, "c": 2 * 10**11}
    with pytest.raises(IndexError):
        schedule.place(-1)


def test_shares_become_whole_numbers_that_sum_up() -> None:
    assert whole_shares({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}) == {"a": 33_334, "b": 33_333, "c": 33_333}
    assert whole_shares({"a": 1 - 1e-9, "b": 1e-9, "c": 0}) == {"a": 99_999, "b": 1}
    assert whole_shares({"a": 0.5002, "b": 0.5002}) == {"a": 50_000, "b": 50_000}
    for seed in range(200):
        mix = random_mix(random.Random(seed))
        whole = whole_shares(mix)
        assert sum(whole.values()) == WHOLE
        assert all(abs(whole[name] - share * WHOLE) <= max(1, len(mix) - 1) for name, share in mix.items())


@pytest.mark.parametrize(
    "mix", [{}, {"a": 0.9}, {"a": 1.2}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}, {"a": float("inf")}, {"a": 0.0}]
)
def test_shares_that_are_none_are_one_sentence(mix: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=r"^mix: "):
        Interleaving(mix)
