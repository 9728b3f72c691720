"""Categories of pages that say what they are, and topics by their telling words."""

from __future__ import annotations

import pytest

from herdsman.documents.extraction.extract import extract
from herdsman.documents.quality.categories import categorise
from herdsman.documents.quality.student import prepared
from herdsman.documents.quality.topics import TOPICS, weak_topic

PROSE = "<p>The town lies on the river, and its people are known for patience and for their bread.</p>" * 5
CODE = "<pre>" + "def bake(flour):\n    return oven(flour)\n" * 12 + "</pre>"
WORDS = (
    "<p>The proof of the theorem uses a polynomial with rational roots; by the lemma, its derivative is finite.</p>" * 5
)


@pytest.mark.parametrize(
    ("body", "language", "category"),
    [
        (PROSE, "en", "general"),
        (PROSE, "de", "multilingual"),
        (CODE, "de", "multilingual"),
        (PROSE, "und", "general"),
        (PROSE + CODE, "en", "code"),
        (
            PROSE + '<p><script type="math/tex">x^2</script> and <script type="math/tex">y</script></p>',
            "en",
            "reasoning",
        ),
        (WORDS, "en", "reasoning"),
        (CODE.replace("flour", "theorem_lemma_proof polynomial rational derivative") + PROSE, "en", "code"),
        (PROSE + "<p>One theorem about bread.</p>", "en", "general"),
    ],
)
def test_category(body: str, language: str, category: str) -> None:
    found = extract(f"<html><body><main><h1>Page</h1>{body}</main></body></html>".encode())
    assert categorise(language, found.text, found.kinds, found.features) == category


@pytest.mark.parametrize(
    ("text", "topic"),
    [
        ("The patient came to the hospital with symptoms of a disease, and the doctor began the treatment.", "health"),
        ("Players of both teams knew that the league and the championship hung on this match.", "sport"),
        (
            "Simmer the sauce while the cake is in the oven, then add butter, flour and sugar in the kitchen.",
            "everyday life",
        ),
        ("The court heard the lawyer of the plaintiff, and the judge read the statute.", "law and politics"),
        ("Play casino slots and poker, win the jackpot, meet escorts.", "adult and spam"),
        ("The patient scored a goal, said the doctor of the team, and the players left the hospital.", ""),
        ("The river flows quietly past the old mill.", ""),
        ("match " * 40, ""),
        ("", ""),
    ],
)
def test_telling_words_label_clear_cases_only(text: str, topic: str) -> None:
    assert weak_topic(prepared(text)) == topic
    assert topic in ("", *TOPICS)


def test_few_telling_words_in_a_long_text_are_no_clear_case() -> None:
    text = "The patient came to the hospital with symptoms of a disease, and the doctor began the treatment. "
    other = "They went home by the river and talked of old days. "
    assert weak_topic(prepared(text + 10 * other)) == "health"
    assert weak_topic(prepared(text) + prepared(30 * other) * 10) == ""
