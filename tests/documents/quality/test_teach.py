"""Classifiers learn what their teachers know, are measured on what they have not seen, and are the same every time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from herdsman.documents.options import DocumentsOptions
from herdsman.documents.quality import judge as judges
from herdsman.documents.quality.labels import rule_category
from herdsman.documents.quality.quality_options import QualityOptions
from herdsman.documents.quality.student import (
    Student,
    area_under_curve,
    macro_f1,
    measure_classes,
    measure_scores,
    prepared,
    spearman,
    train,
)
from herdsman.documents.quality.teach import Scorer, teach
from herdsman.documents.quality.topics import TOPICS, weak_topic
from herdsman.errors import InputError
from herdsman.files import read_json, sha256_file
from herdsman.progress import SILENT
from herdsman.workspace import Work
from tests.documents.cleaned import cleaned_rows, write_cleaned
from tests.documents.judge_server import serve

Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def rows() -> Rows:
    found = list(cleaned_rows())
    assert len(found) > 700
    return found


@pytest.fixture(scope="module")
def cleaned(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_cleaned(tmp_path_factory.mktemp("cleaned"), rows)


def taught(cleaned: list[Path], out: Path, **settings: Any) -> Path:
    work = Work("documents", out, {}, 1, 1, SILENT)
    return teach(cleaned, DocumentsOptions(quality=QualityOptions(**settings)), work)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def default(cleaned: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return taught(cleaned, tmp_path_factory.mktemp("default"))


def test_without_a_judge_rules_are_learned(default: Path, rows: Rows) -> None:
    models = read_json(default / "models.json")
    assert models["judge"] == "rubric"
    tasks = models["tasks"]
    assert {name: task["labels"] for name, task in tasks.items()} == {
        "quality": "rubric", "category": "rules", "topic": "telling words",
    }  # fmt: skip
    found = tasks["quality"]["evaluation"]
    assert found["auc"] > 0.85
    assert found["spearman"] > 0.5
    assert tasks["category"]["evaluation"]["accuracy"] > tasks["category"]["evaluation"]["commonest"] + 0.05
    assert tasks["category"]["evaluation"]["macro_f1"] > 0.55
    for task in tasks.values():
        if not task["models"]:
            continue
        labelled = sum(sum(counts.values()) for counts in task["counts"].values())
        assert labelled >= task["learned"] + task["evaluation"]["documents"]
        assert sum(row[0] for row in task["evaluation"]["calibration"]) == task["evaluation"]["documents"]
    assert sum(tasks["category"]["counts"]["en"].values()) == len(rows)


def test_a_second_training_gives_the_same_bytes(default: Path, rows: Rows, tmp_path: Path) -> None:
    again = taught(write_cleaned(tmp_path / "cleaned", rows, files=5), tmp_path / "out")
    assert digests(again) == digests(default)
    (again / "quality.bin").write_bytes(b"")  # what is done is not begun anew
    assert taught([], tmp_path / "out") == again


def test_nothing_is_learned_from_what_is_held_out(default: Path, rows: Rows, tmp_path: Path) -> None:
    changed = [row | {"text": "never read"} if row["split"] == "held_out" else row for row in rows]
    for row in changed:
        if row["text"] == "never read":
            row["kinds"] = "p"
    out = taught(write_cleaned(tmp_path / "cleaned", changed), tmp_path / "out")
    for name in ("quality.bin", "category.bin"):
        assert sha256_file(out / name) == sha256_file(default / name)
    assert digests(out)["models.json"] != digests(default)["models.json"]


def test_scores_of_a_batch(default: Path, rows: Rows) -> None:
    scorer = Scorer(default)
    batch = [row | {"features": json.loads(row["features"])} for row in rows]
    found = scorer.score(batch)
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(
        ("quality", "reference", "category", "topic"), len(rows)
    )
    assert found["reference"] == [None] * len(rows)
    assert all(0 <= score <= 1 for score in found["quality"])
    topics = set(found["topic"])
    assert "technology and programming" in topics <= {"", *TOPICS}
    for row, category in zip(rows, found["category"], strict=True):
        assert category == rule_category(row) or rule_category(row) == "general"
    one = scorer.score(batch[7:8])
    assert one == {name: values[7:8] for name, values in found.items()}
    foreign = scorer.score([batch[0] | {"language": "de"}, batch[0] | {"language": "en", "text": "", "kinds": " "}])
    assert (foreign["category"][0], foreign["topic"][0]) == ("multilingual", "")
    assert scorer.score([]) == {"quality": [], "reference": [], "category": [], "topic": []}


def test_few_documents_leave_the_rubric_and_the_rules(rows: Rows, tmp_path: Path) -> None:
    few = rows[:40]
    scorer = Scorer(taught(write_cleaned(tmp_path / "cleaned", few, files=2), tmp_path / "out"))
    found = scorer.score(few)
    assert found["quality"] == [row["rubric"] for row in few]
    assert found["category"] == [rule_category(row) for row in few]
    assert found["topic"] == [weak_topic(prepared(row["text"])) for row in few]


def test_listed_addresses_teach_reference_likeness(rows: Rows, cleaned: list[Path], tmp_path: Path) -> None:
    listed = tmp_path / "references.txt"
    listed.write_text("# cited\nwww.sqlalchemy.example\n\nhttps://lxml.example/lxml-6.1.3/doc/html/api\n")
    folder = taught(cleaned, tmp_path / "out", reference_urls=str(listed))
    task = read_json(folder / "models.json")["tasks"]["reference"]
    positives = [
        row for row in rows if re.match(r"https://(sqlalchemy|lxml.example/lxml-6.1.3/doc/html/api)", row["url"])
    ]
    assert task["counts"]["en"] == {"0": len(positives), "5": len(positives)}
    assert task["evaluation"]["auc"] > 0.95
    with pytest.raises(InputError, match=r"^documents.quality.reference_urls: cannot be read"):
        taught(cleaned, tmp_path / "other", reference_urls=str(tmp_path / "none"))


def secret_grade(text: str) -> int:
    """What the judge looks at, which the rubric does not: how much a text speaks of classes and methods."""
    words = re.findall(r"[a-z]+", text.lower())
    return min(5, 60 * sum(word in ("class", "method", "object", "self") for word in words) // max(len(words), 1))


def secret_kind(text: str) -> str:
    return "general" if 150 * text.count(" the ") > len(text) else "code"


def judgement(question: str, text: str) -> str:
    if "Topics:" in question:
        return f"{secret_kind(text).title()}; {'mathematics' if 'sql' in text.lower() else 'sport'}"
    if "encyclopedia" in question:
        return "Yes." if "database" in text else "No."
    return "I cannot say" if text.count("e") % 10 == 0 else f"Grade: {secret_grade(text)}"


def test_a_judge_is_learned(rows: Rows, cleaned: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(judges, "FIRST_PAUSE_SECONDS", 0.01)
    settings: dict[str, Any] = {"judge": "endpoint", "model": "tiny", "max_documents": 400, "judged_characters": 1200}
    with serve(judgement) as server:
        server.faults += [500, "break", 429]
        folder = taught(cleaned, tmp_path / "one", base_url=server.address, **settings)
        assert set(server.asked.values()) == {1}
        asked = server.asked.total()
        again = taught(cleaned, tmp_path / "two", base_url=server.address, concurrency=1, **settings)
        assert server.asked.total() == asked
        settings |= {"max_documents": 60, "sample_seed": 1}
        other = taught(cleaned, tmp_path / "three", base_url=server.address, **settings)
        assert server.asked.total() > asked
    assert digests(again) == digests(folder) != digests(other)
    models = read_json(folder / "models.json")
    unreadable = models["answers"]["quality"]["unreadable"]
    assert models["answers"] == {
        "quality": {"read": 400 - unreadable, "unreadable": unreadable, "refused": 0},
        "category": {"read": 400, "unreadable": 0, "refused": 0},
        "reference": {"read": 400, "unreadable": 0, "refused": 0},
    }
    assert 10 < unreadable < 100
    tasks = models["tasks"]
    assert {task["labels"] for task in tasks.values()} == {"judge"}
    assert tasks["quality"]["evaluation"]["spearman"] > 0.6
    assert tasks["reference"]["evaluation"]["auc"] > 0.75
    for name in ("category", "topic"):
        found = tasks[name]["evaluation"]
        assert 1 - found["accuracy"] < 0.6 * (1 - found["commonest"])
    found = Scorer(folder).score(rows)
    grades = np.array([secret_grade(row["text"][:1200]) for row in rows], np.float64)
    assert spearman(np.array(found["quality"]), grades) > 0.6  # most of them were never shown to the judge
    assert set(found["topic"]) == {"mathematics", "sport"}
    assert None not in found["reference"]


def test_a_judge_that_cannot_answer_is_one_sentence(
    cleaned: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    with (
        serve(lambda question, text: "As a language model") as server,
        pytest.raises(InputError, match=r"^documents.quality.model: no answer of the judge can be read; choose"),
    ):
        taught(cleaned, tmp_path / "out", judge="endpoint", model="m", base_url=server.address, max_documents=5)


def test_languages_with_many_labels_have_their_own_classifier(
    rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second language made of the same documents with their letters turned round, and their quality, too."""
    turned = [
        row | {"id": row["id"][::-1], "language": "xx", "text": row["text"][::-1], "rubric": 1 - row["rubric"]}
        for row in rows
    ]
    monkeypatch.setattr("herdsman.documents.quality.teach.LANGUAGE_LABELS", 150)
    folder = taught(write_cleaned(tmp_path / "cleaned", rows + turned), tmp_path / "out")
    task = read_json(folder / "models.json")["tasks"]["quality"]
    assert task["models"] == {"": "quality.bin", "en": "quality-en.bin", "xx": "quality-xx.bin"}
    assert min(task["by_language"][language]["auc"] for language in ("en", "xx")) > 0.8
    found = Scorer(folder).score([*rows[:50], *turned[:50]])["quality"]
    assert spearman(np.array(found[:50]), np.array(found[50:])) < 0


def test_texts_are_prepared_as_one_line_of_beginning_and_middle() -> None:
    assert prepared("Two\nlines, 30 Words_of it!").split() == ["two", "lines", ",", "30", "words", "of", "it", "!"]
    assert prepared("漢字 été").split() == ["漢", "字", "été"]
    long = prepared("a " * 2000 + "middle " * 400 + "z " * 2000)
    assert "middle" in long
    assert "z" not in long
    assert len(long) < 2100


def test_a_student_of_nothing_is_none(tmp_path: Path) -> None:
    assert not train(["one", "two"], [0, 0], tmp_path / "same", 1)
    assert not train(["", ""], [0, 1], tmp_path / "empty", 1)
    assert list(tmp_path.iterdir()) == []
    assert train(["once only", "seen words"] * 2, [0, 5] * 2, tmp_path / "tiny", 1)
    assert Student(tmp_path / "tiny").scores(["once only", "seen words"]).tolist()[0] < 0.5


def test_measures() -> None:
    scores, truth = np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1])
    assert area_under_curve(scores, truth) == 0.75
    assert area_under_curve(np.array([0.5, 0.5]), np.array([0, 1])) == 0.5
    assert area_under_curve(scores, np.zeros(4, np.int64)) is None
    assert spearman(np.array([1.0, 2, 3, 4]), np.array([10.0, 20, 40, 30])) == pytest.approx(0.8)
    assert spearman(np.array([1.0, 2]), np.array([3.0, 3])) is None
    assert macro_f1(np.array([0, 0, 1]), np.array([0, 1, 1])) == pytest.approx(2 / 3)
    found = measure_scores(np.array([0.05, 0.95, 0.95]), np.array([0.0, 1.0, 0.4]))
    assert (found["auc"], found["accuracy"]) == (0.75, pytest.approx(2 / 3, abs=1e-4))
    assert found["calibration"] == [[1, 0.05, 0.0], [2, 0.95, 0.7]]
    classes = measure_classes(np.array([0, 1, 1]), np.array([0.9, 0.6, 0.7]), np.array([0, 0, 1]), TOPICS)
    assert classes["classes"][TOPICS[0]] == {"documents": 2, "precision": 1.0, "recall": 0.5}
    assert classes["commonest"] == classes["accuracy"] == pytest.approx(2 / 3, abs=1e-4)
