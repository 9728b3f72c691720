"""Categories of pages that say what they are."""

from __future__ import annotations

import pytest

from herdsman.documents.categories import categorise
from herdsman.documents.extract import extract

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
