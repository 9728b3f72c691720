"""The rubric ranks as it says, and its clear cases are the ends of each language's range."""

from __future__ import annotations

import numpy as np
import pytest

from herdsman.documents.extraction.extract import extract
from herdsman.documents.quality import rubric as quality
from herdsman.documents.quality.rubric import rubric

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


def test_ends_are_those_of_each_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality, "MIN_LABELLED", 4)
    grades = np.concatenate([np.arange(40) / 100, 0.6 + np.arange(40) / 100, [0.0, 1.0]])
    languages = np.array(["en"] * 40 + ["de"] * 40 + ["fr"] * 2)
    ends = dict(quality.choose_ends(grades, languages))
    assert ends == {
        place: place % 40 >= 32
        for start in (0, 40)
        for place in (*range(start, start + 8), *range(start + 32, start + 40))
    }
    assert quality.choose_ends(grades[:19], languages[:19]) == []
    monkeypatch.setattr(quality, "MAX_LABELLED", 10)
    fewer = dict(quality.choose_ends(grades, languages))
    assert set(fewer.items()) < set(ends.items())
    assert {0, 39, 40, 79} <= set(fewer)
