"""The same documents are drawn in any order; languages get the shares that the exponent says."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from herdsman.tokens.draw import MOST_COPIES, Balance, Sample


def test_the_sample_is_the_same_in_any_order() -> None:
    sizes = [(f"{number:032x}", number % 50) for number in range(1000)]
    sample = Sample.choose(sizes, 5000)
    chosen = [size for id, size in sizes if sample.holds(id)]
    assert (sample.documents, sample.total_bytes) == (len(chosen), sum(chosen))
    assert 5000 - 50 < sample.total_bytes <= 5000
    assert sample.bytes_in_all == sum(size for _, size in sizes)
    assert vars(Sample.choose(reversed(sizes), 5000)) == vars(sample)
    larger = Sample.choose(sizes, 6000)
    assert all(larger.holds(id) for id, _ in sizes if sample.holds(id))
    assert Sample.choose([("a", 0), ("b", 0), ("c", 99), ("d", 0)], 10).total_bytes == 99
    assert Sample.choose(sizes, 0).total_bytes == 0


SIZES = [(f"{language}{number}", language, 10) for language, documents in
         (("fr", 10_000), ("el", 400), ("th", 9)) for number in range(documents)]  # fmt: skip


def read_bytes(balance: Balance) -> Counter[str]:
    read: Counter[str] = Counter()
    for id, language, size in SIZES:
        read[language] += size * balance.times(id, language)
    return read


@pytest.mark.parametrize("most_bytes", [1_000, 40_000, 10**9])
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_shares_follow_the_exponent(exponent: float, most_bytes: int) -> None:
    balance = Balance.choose(SIZES, most_bytes, exponent)
    held = {"fr": 100_000, "el": 4_000, "th": 90}
    whole = sum(size**exponent for size in held.values())
    wanted = min(most_bytes, sum(held.values()))
    read = read_bytes(balance)
    for language, size in held.items():
        share = wanted * size**exponent / whole
        assert read[language] == pytest.approx(min(share, MOST_COPIES * size), abs=10)
    assert balance.total_bytes == read.total()
    assert {row["language"]: row["bytes_read"] for row in balance.summary()} == read
    assert {row["language"]: row["bytes"] for row in balance.summary()} == held


def test_with_room_for_all_and_the_documents_own_shares_each_is_read_once() -> None:
    balance = Balance.choose(SIZES, 10**9, 1.0)
    assert {balance.times(id, language) for id, language, _ in SIZES} == {1}
    assert balance.times("any", "a language without documents") == 0


def test_the_balance_is_the_same_in_any_order() -> None:
    shuffled = random.Random(0).sample(SIZES, len(SIZES))
    first, second = (Balance.choose(sizes, 30_000, 0.3) for sizes in (SIZES, shuffled))
    assert [first.times(id, language) for id, language, _ in SIZES] == [
        second.times(id, language) for id, language, _ in SIZES
    ]


def test_no_text_is_nothing_to_read() -> None:
    assert Balance.choose([], 100, 0.5).total_bytes == 0
    assert Balance.choose([("a", "fr", 0)], 100, 0.5).total_bytes == 0
    assert Balance.choose(SIZES, 0, 0.5).total_bytes == 0
