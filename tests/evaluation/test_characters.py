"""The character model against a naive one, and as a probability distribution."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import numpy as np
import pytest

from herdsman.evaluation import characters
from herdsman.evaluation.characters import CharacterModel
from tests.evaluation.herd import real_documents

TEXTS = [row["text"][:3000] for row in real_documents()[:30]]
OTHERS = ["Größe 漢字 😀", "", "a", "\x00\n\n", "é", *(row["text"][:500] for row in real_documents()[40:44])]


class Naive:
    """Interpolated Witten-Bell by its recursive definition, with a table for each context."""

    def __init__(self, texts: list[str], order: int = 3):
        self.order = order
        self.tables: dict[tuple[object, ...], Counter[int]] = defaultdict(Counter)
        for text in texts:
            for context, byte in self.steps(text):
                for length in range(order + 1):
                    self.tables[context[len(context) - length :]][byte] += 1

    def steps(self, text: str):
        padded = [None] * self.order + list(text.encode())
        for place in range(self.order, len(padded)):
            yield tuple(padded[place - self.order : place]), padded[place]

    def probability(self, byte: int, context: tuple[object, ...]) -> float:
        lower = self.probability(byte, context[1:]) if context else 1 / 256
        table = self.tables.get(context)
        if not table:
            return lower
        return (table[byte] + len(table) * lower) / (table.total() + len(table))

    def log_probabilities(self, text: str) -> list[float]:
        return [math.log(self.probability(byte, context)) for context, byte in self.steps(text)]


@pytest.fixture(scope="module")
def model() -> CharacterModel:
    return CharacterModel.fit(TEXTS)


def test_it_equals_the_definition(model: CharacterModel) -> None:
    naive = Naive(TEXTS)
    for text in [*OTHERS, TEXTS[0]]:
        np.testing.assert_allclose(model.log_probabilities(text), naive.log_probabilities(text), rtol=1e-12)


def test_probabilities_of_the_next_byte_sum_to_1(model: CharacterModel) -> None:
    for before in (b"", b"t", b"th", b"the", b"The ", b"\x00\x01\x02", "漢".encode(), b"zzzq"):
        distribution = model.distribution(before)
        assert distribution.shape == (256,)
        assert distribution.min() > 0
        assert distribution.sum() == pytest.approx(1, abs=1e-12)


def test_each_byte_has_the_probability_of_its_distribution(model: CharacterModel) -> None:
    data = OTHERS[0].encode()
    expected = [math.log(model.distribution(data[:place])[byte]) for place, byte in enumerate(data)]
    np.testing.assert_allclose(model.log_probabilities(OTHERS[0]), expected)


def test_order_3_is_better_than_order_0_on_text_it_has_not_seen(model: CharacterModel) -> None:
    unseen = [row["text"][:2000] for row in real_documents()[50:60]]
    size = sum(len(text.encode()) for text in unseen)
    bits = [-sum(m(text).sum() for text in unseen) / size / math.log(2) for m in (model.log_probabilities, _order_0)]
    assert bits[0] < 3 < 4 < bits[1] < 8


def _order_0(text: str) -> np.ndarray:
    return np.array(ORDER_0.log_probabilities(text))


ORDER_0 = Naive(TEXTS, order=0)


def test_neither_the_cut_into_chunks_nor_the_order_of_texts_matters(
    model: CharacterModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(characters, "CHUNK_BYTES", 700)
    cut = CharacterModel.fit(reversed(TEXTS))
    for text in OTHERS:
        np.testing.assert_array_equal(cut.log_probabilities(text), model.log_probabilities(text))


def test_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        CharacterModel.fit(["", ""])
