"""Repeated lines: which count, which are taken out, and what stays of a document."""

from __future__ import annotations

import numpy as np
import pytest

from herdsman.documents import lines
from herdsman.documents.lines import line_keys, remove_lines, repeated_lines

FOOTER = "Sign up for our newsletter to hear of everything that is new."
CODE = "    return sum(value for value in values if value is not None)"


def keys_of(*texts: str) -> np.ndarray:
    return np.concatenate([line_keys(text, "p", "en") for text in texts])


def test_prose_and_items_count_and_nothing_else_does() -> None:
    text = "\n".join([FOOTER, FOOTER, FOOTER, FOOTER, FOOTER, CODE, "", "short line"])
    keys = line_keys(text, "plt2dc p", "en")
    assert (keys != 0).tolist() == [True, True, False, False, False, False, False, False]
    assert keys[0] == keys[1]


def test_keys_ignore_case_digits_and_punctuation_and_know_languages_apart() -> None:
    one, other = "Page 12 of 40, printed on the fourth of May", "page 99 of 07: PRINTED on the fourth of may!"
    assert keys_of(one) == keys_of(other)
    assert keys_of(one) != keys_of(one.replace("May", "July"))
    assert line_keys(one, "p", "en") != line_keys(one, "p", "de")


@pytest.mark.parametrize(("times", "removed"), [(6, False), (7, True)])
def test_more_than_six_times_as_in_the_paper(times: int, removed: bool) -> None:
    keys = keys_of(*[FOOTER] * times, "Another line that stands here only a single time.")
    found = repeated_lines(lambda: [keys[:2], keys[2:]], 6)
    assert found.tolist() == ([int(keys[0])] if removed else [])


def test_counting_in_shares_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(1).integers(1, 400, 4000).astype(np.uint64)
    whole = repeated_lines(lambda: np.split(keys, 8), 9)
    monkeypatch.setattr(lines, "KEYS_AT_ONCE", 300)
    shared = repeated_lines(lambda: np.split(keys, 8), 9)
    values, counts = np.unique(keys, return_counts=True)
    assert whole.tolist() == shared.tolist() == values[counts > 9].tolist()
    assert 0 < len(whole) < 400


def test_lines_that_are_left_alone_are_not_counted() -> None:
    assert not len(repeated_lines(lambda: [np.zeros(100, np.uint64)], 6))
    assert not len(repeated_lines(list, 6))


def test_removal_leaves_code_and_closes_the_gap() -> None:
    text = "\n".join(["Title", "", FOOTER, "", "for x in y:", "", CODE, "", "The text goes on.", "", FOOTER])
    kinds = "1 p cccc p p"[:4] + "ccc p p"
    assert len(kinds) == len(text.split("\n"))
    left, left_kinds, removed = remove_lines(text, kinds, line_keys(text, kinds, "en"), keys_of(FOOTER))
    assert left == "\n".join(["Title", "", "for x in y:", "", CODE, "", "The text goes on."])
    assert left_kinds == "1 ccc p"
    assert [line for _, line in removed] == [FOOTER, FOOTER]


def test_empty_lines_that_were_there_stay_if_nothing_is_removed() -> None:
    text, kinds = "A line.\n\n\nAnother.", "p  p"
    assert remove_lines(text, kinds, line_keys(text, kinds, "en"), keys_of(FOOTER)) == (text, kinds, [])
    assert remove_lines(text, kinds, line_keys(text, kinds, "en"), np.empty(0, np.uint64)) == (text, kinds, [])
