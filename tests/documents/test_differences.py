"""Differences: both texts can be put together again from the stretches, and what is marked is what differs."""

from __future__ import annotations

import random

from herdsman.documents.differences import differences, marked


def test_words_within_lines_are_marked() -> None:
    assert marked("one two\nthree four\nfive", "one 2\nthree four\nsix five") == (
        "one [-two-]{+2+}\nthree four\n{+six +}five"
    )
    assert marked("same", "same") == "same"
    assert marked("", "new") == "{+new+}"
    assert marked("a b c", "a b d e", cut=True) == "a b  …"


def test_both_texts_come_back() -> None:
    rng = random.Random(1)
    pieces = ["x", "y", " ", "\n", "zz ", "\u2028", "ä"]
    for _ in range(500):
        left, right = ("".join(rng.choices(pieces, k=rng.randrange(30))) for _ in range(2))
        found = differences(left, right)
        assert "".join("".join(words) for mark, words in found if mark in "=-") == left
        assert "".join("".join(words) for mark, words in found if mark in "=+") == right


def test_long_texts_without_a_common_line_count_as_different() -> None:
    rng = random.Random(1)
    left, right = (" ".join(rng.choices("abcdefgh", k=50_000)) for _ in range(2))
    assert [mark for mark, _ in differences(left, right)] == ["-", "+"]
    assert [mark for mark, _ in differences(f"{left}\nend", f"{right}\nend")] == ["-", "+", "="]
