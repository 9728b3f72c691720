"""Figures: their ranges hold whatever comes of values inside of the ranges they are made of."""

from __future__ import annotations

import random

from herdsman.cluster.figure import Figure


def test_ranges_hold_whatever_may_come() -> None:
    random_state = random.Random(0)
    for _ in range(200):
        (a, b) = (
            Figure(middle, "", "assumed", middle * random_state.uniform(0.3, 1), middle * random_state.uniform(1, 3))
            for middle in (random_state.uniform(0.1, 10), random_state.uniform(0.1, 10))
        )
        x, y = random_state.uniform(a.low, a.high), random_state.uniform(b.low, b.high)
        assert a.times(b, "").holds(x * y)
        assert a.over(b, "").holds(x / y)
        assert a.plus(b).holds(x + y)
        assert a.times(b, "").value == a.value * b.value
        assert a.plus(b).value == a.value + b.value


def test_what_is_exact_stays_exact() -> None:
    figure = Figure.exact(6, "B").times(2, "B").over(3, "B").plus(1)
    assert (figure.low, figure.value, figure.high, figure.unit) == (5, 5, 5, "B")


def test_what_is_made_of_an_assumption_is_one() -> None:
    known, guess = Figure.exact(2, "h", "card"), Figure(3, "$", "assumed", 2, 4)
    assert known.times(2, "h").origin == "derived"
    assert known.times(guess, "$").origin == guess.over(known, "$/h").origin == "assumed"
