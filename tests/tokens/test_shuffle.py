"""Orders are permutations, look random, differ by key, and are the same everywhere."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from herdsman.tokens.shuffle import order_of_epoch, shuffled


@pytest.mark.parametrize("size", [0, 1, 2, 3, 17, 1000, 4097])
def test_an_order_holds_every_number_once(size: int) -> None:
    for key in range(3):
        assert sorted(shuffled(size, key).tolist()) == list(range(size))


def test_an_order_looks_random() -> None:
    """Over keys, each of the 24 orders of 4 items comes about equally often. And neighbours go their own ways."""
    keys = 6000
    orders = Counter(tuple(shuffled(4, key).tolist()) for key in range(keys))
    assert len(orders) == 24
    chi_square = sum((count - keys / 24) ** 2 / (keys / 24) for count in orders.values())
    assert chi_square < 56  # 23 degrees of freedom: one in ten thousand
    order = shuffled(5000, "key")
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05


def test_an_order_is_the_same_on_every_machine() -> None:
    assert shuffled(10, 1, "general.best", 1).tolist() == [6, 9, 1, 2, 5, 3, 8, 7, 0, 4]


def test_each_pass_of_each_stream_has_its_order() -> None:
    orders = {tuple(order_of_epoch(100, seed, name, epoch)) for seed in (1, 2) for name in "ab" for epoch in (0, 1)}
    assert len(orders) == 8
