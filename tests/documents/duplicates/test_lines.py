"""Repeated lines: which count, which are taken out, and what stays of a document."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdsman.documents.duplicates import shuffle
from herdsman.documents.duplicates.lines import Repeated, RepeatedLines, line_keys, remove_lines, write_counts

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


def repeated(folder: Path, units: list[np.ndarray], limit: int, first: bool = False) -> Repeated:
    """What repeats in the keys of units, counted as the stage does; every key is a document of its own."""
    folder.mkdir()
    paths, start = [], 0
    for number, keys in enumerate(units):
        paths.append(folder / f"counts-{number}.npy")
        write_counts(paths[-1], keys, start + np.arange(len(keys)) if first else None)
        start += len(keys)
    step = RepeatedLines(paths, limit, folder)
    parts = shuffle.parts_of(sum(map(len, units)))
    return Repeated.load([step((part, parts)) for part in range(parts)])


@pytest.mark.parametrize(("times", "removed"), [(6, False), (7, True)])
def test_more_than_six_times_as_in_the_paper(times: int, removed: bool, tmp_path: Path) -> None:
    keys = keys_of(*[FOOTER] * times, "Another line that stands here only a single time.")
    found = repeated(tmp_path / "one", [keys[:2], keys[2:]], 6)
    assert found.keys.tolist() == ([int(keys[0])] if removed else [])
    assert found.hits(keys).tolist() == [removed] * times + [False]


def test_counting_in_ranges_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    keys = rng.integers(1, 2**64, 400, np.uint64)[rng.integers(0, 400, 4000)]
    values, counts = np.unique(keys, return_counts=True)
    often = values[counts > 9]
    assert 0 < len(often) < 400
    for number, per_part in enumerate((4_000_000, 300, 17)):
        monkeypatch.setattr(shuffle, "RECORDS_PER_PART", per_part)
        found = repeated(tmp_path / str(number), np.split(keys, 8), 9, first=number == 2)
        assert found.keys.tolist() == often.tolist()
    assert found.first is not None
    assert found.first.tolist() == [int(np.flatnonzero(keys == key)[0]) for key in often]


def test_the_first_occurrence_can_stay(tmp_path: Path) -> None:
    keys = keys_of(FOOTER, "Only in one document, and that is no repetition.", *[FOOTER] * 7)
    found = repeated(tmp_path / "first", [keys[:4], keys[4:]], 6, first=True)
    twice = np.concatenate([keys[:2], keys[:1]])
    assert found.removed(twice, 0).tolist() == [False, False, True]
    assert found.removed(twice, 3).tolist() == [True, False, True]
    assert Repeated(found.keys).removed(twice, 0).tolist() == [True, False, True]


def test_nothing_to_count(tmp_path: Path) -> None:
    assert not len(repeated(tmp_path / "empty", [np.empty(0, np.uint64)], 6).keys)


def test_keys_of_a_text_of_many_blocks_are_those_of_its_lines() -> None:
    lines = [f"line {'abcdefghij'[number % 10] * 40} and {number:b} more words" for number in range(3000)]
    lines[7], lines[2999] = "an endless line " * 9000, ""
    text, kinds = "\n".join(lines), "pcl" * 1000
    keys = line_keys(text, kinds, "en")
    assert keys.tolist() == [int(line_keys(line, kind, "en")[0]) for line, kind in zip(lines, kinds, strict=True)]
    assert (keys != 0).sum() == 1999
    with pytest.raises(ValueError, match="2 lines, but 1 kinds"):
        line_keys("one\ntwo", "p", "en")


def test_length_counts_what_is_in_words_and_single_spaces() -> None:
    long = ["a" * 30, "... a" + "a" * 14 + " --- " + "b" * 14 + "!!", "語" * 30]
    short = ["a" * 29, "a" * 14 + " " + "b" * 14, "語" * 29, "", " "]
    assert all(line_keys(text, "p", "en")[0] for text in long)
    assert not any(line_keys(text, "p", "en")[0] for text in short)


def remove(text: str, kinds: str, often: np.ndarray) -> tuple[str, str, list[tuple[int, str]]]:
    keys = line_keys(text, kinds, "en")
    return remove_lines(text, kinds, keys, Repeated(often).removed(keys, 0))


def test_removal_leaves_code_and_closes_the_gap() -> None:
    text = "\n".join(["Title", "", FOOTER, "", "for x in y:", "", CODE, "", "The text goes on.", "", FOOTER])
    kinds = "1 p cccc p p"[:4] + "ccc p p"
    assert len(kinds) == len(text.split("\n"))
    left, left_kinds, removed = remove(text, kinds, keys_of(FOOTER))
    assert left == "\n".join(["Title", "", "for x in y:", "", CODE, "", "The text goes on."])
    assert left_kinds == "1 ccc p"
    assert [line for _, line in removed] == [FOOTER, FOOTER]


def test_empty_lines_that_were_there_stay_if_nothing_is_removed() -> None:
    text, kinds = "A line.\n\n\nAnother.", "p  p"
    assert remove(text, kinds, keys_of(FOOTER)) == (text, kinds, [])
    assert remove(text, kinds, np.empty(0, np.uint64)) == (text, kinds, [])
