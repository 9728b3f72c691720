"""The rubric ranks as it says, and the classifier learns the rubric's judgement, the same way every time."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from herdsman.documents.extract import extract
from herdsman.documents.quality import MIN_LABELLED, Classifier, choose_labelled, prepared, rubric, train_classifier

RIVERS = ("Aller", "Bode", "Chemnitz", "Dill", "Eder", "Fulda", "Gera", "Havel", "Ilm", "Jagst", "Kocher", "Lahn")
GOOD = "<h1>Rivers</h1>" + "".join(
    f"<p>The {name} begins in the hills of the north and reaches the sea after many days of quiet travel. Along its "
    f"banks people have built {count} towns, whose mills once ground the corn of the whole country. Nobody has "
    f"measured how deep it is below the old bridge of {name}.</p>"
    for count, name in enumerate(RIVERS, 3)
)
FRAGMENTS = "<h1>Shop</h1>" + "<div>buy now</div><div>in stock</div><div>add to list</div>" * 30
LINKS = "<h1>Links</h1>" + "".join(
    f'<p>see <a href="/{n}">the page number {n} of this long list of links</a></p>' for n in range(40)
)
SOURCE = "<h1>Source</h1><pre>" + "x = compute(x)\nif x: raise Error(x)\n" * 80 + "</pre>"


def graded(body: str) -> float:
    found = extract(f"<html><body><main>{body}</main></body></html>".encode())
    return rubric(found.text, found.kinds, found.features)


def test_rubric_prefers_running_text() -> None:
    assert graded(GOOD) > 0.85
    for worse in (FRAGMENTS, LINKS, SOURCE):
        assert graded(worse) < 0.7


def test_explained_code_is_no_fault() -> None:
    assert graded(GOOD + "<pre>print('a river')\n</pre>" * 6) == pytest.approx(graded(GOOD), abs=0.05)


def test_both_ends_of_the_range_are_labelled() -> None:
    scores = np.random.default_rng(1).permutation(np.arange(10 * MIN_LABELLED)) / 1000
    labels = choose_labelled(scores)
    assert len(labels) == 4 * MIN_LABELLED
    worst_of_best = min(scores[label.index] for label in labels if label.best)
    assert worst_of_best > max(scores[label.index] for label in labels if not label.best)
    assert [label.index for label in labels] == sorted(label.index for label in labels)
    assert choose_labelled(scores[: 5 * MIN_LABELLED - 1]) == []


def test_classifier_learns_and_repeats_itself(tmp_path: Path) -> None:
    rng = random.Random(1)

    def text(best: bool) -> str:
        words = "river hill travel bridge people country" if best else "buy stock cart price click offer"
        return " ".join(rng.choice([*words.split(), "the", "of", "and"]) for _ in range(120))

    examples = [(text(number % 2 == 0), number % 2 == 0) for number in range(2 * MIN_LABELLED)]
    unseen = [(text(number % 2 == 0), number % 2 == 0) for number in range(40)]
    for name in ("one", "two"):
        train_classifier(examples, tmp_path / name, seed=3)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "two"]
    student = Classifier(tmp_path / "one")
    for unseen_text, best in unseen:
        assert (student.score(unseen_text) > 0.5) == best
    assert 0 <= student.score("") <= 1


def test_texts_are_prepared_as_one_line() -> None:
    assert prepared("Two\nlines, 30 Words!") == "two lines , 30 words !"
