"""Outlier tokens: on real pages, encoded data, keys and word salad stand out and what people wrote does not."""

from __future__ import annotations

import base64
import random
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from herdsman.artifacts import fetch_all, iter_members
from herdsman.documents.extraction.extract import extract
from herdsman.documents.filtering.filter_options import FilterOptions
from herdsman.documents.filtering.outliers import MIN_LANGUAGE_WORDS, Counts, divergence, token_counts

LIMIT = FilterOptions().max_divergence


@pytest.fixture(scope="module")
def texts(html_folder: Path) -> list[str]:
    pages = [path.read_bytes() for path in sorted(html_folder.rglob("*.html"))]
    (archive,) = fetch_all(["sqlalchemy"]).values()
    for member in iter_members(archive):
        if member.name.endswith(".html") and "/_modules/" not in member.name:
            with member.open() as file:
                pages.append(file.read())
    found = [extract(page).text for page in pages]
    return [text for text in found if len(text) > 2_000]


@pytest.fixture(scope="module")
def counts(texts: list[str]) -> Counts:
    return token_counts(texts, ["en"] * len(texts))


def with_text(counts: Counts, text: str) -> float | None:
    """The divergence of a text that belongs to the corpus, too."""
    return divergence(text, "en", Counts({"en": counts.tables["en"] + token_counts([text], ["en"]).tables["en"]}))


def test_real_pages_are_no_outliers(texts: list[str], counts: Counts) -> None:
    found = np.array([divergence(text, "en", counts) for text in texts], float)
    assert np.isfinite(found).all()
    assert (found > LIMIT).sum() == 0


def faults(texts: list[str]) -> dict[str, str]:
    drawn = random.Random(1)
    words = max(texts, key=len).split()[:600]
    every = sorted({word for text in texts for word in text.split() if word.isalpha()})
    code = base64.b64encode(drawn.randbytes(6_000)).decode()
    return {
        "base64": "\n".join(code[at : at + 76] for at in range(0, len(code), 76)),
        "keys": "\n".join(f"{number} {sha256(str(number).encode()).hexdigest()}" for number in range(200)),
        "word salad": " ".join(drawn.choice(every) for _ in range(600)),
        "garbled": " ".join("".join(drawn.sample(word, len(word))) for word in words),
        "backwards": " ".join(words)[::-1],
    }


@pytest.mark.parametrize("name", ["base64", "keys", "word salad", "garbled", "backwards"])
def test_what_nobody_wrote_is_an_outlier(name: str, texts: list[str], counts: Counts) -> None:
    found = with_text(counts, faults(texts)[name])
    assert found is not None
    assert found > LIMIT


def test_too_little_text_has_no_verdict(texts: list[str], counts: Counts) -> None:
    few = token_counts(texts[:2], ["en"] * 2)
    assert few.tables["en"].sum() < MIN_LANGUAGE_WORDS
    assert divergence(texts[0], "en", few) is None
    assert divergence("A short note.", "en", counts) is None
    assert divergence(texts[0], "de", counts) is None


def test_parts_of_a_corpus_add_up_in_any_order(texts: list[str], counts: Counts) -> None:
    languages = ["de" if at % 3 == 0 else "en" for at in range(len(texts))]
    whole = token_counts(texts, languages)
    halves = [token_counts(texts[start::2], languages[start::2]) for start in (1, 0)]
    assert sorted(whole.tables) == ["de", "en"]
    for language, table in whole.tables.items():
        assert (sum(half.tables[language] for half in halves) == table).all()
