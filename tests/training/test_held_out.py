"""What a model is measured on is the same on every layout, however few rows there are."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch

from herdsman.model.llama import Llama
from herdsman.training.held_out import HeldOut, greedy_share
from herdsman.training.parallel.build import alone
from herdsman.training.parallel.layout import LayoutOptions
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, VOCAB
from tests.training.parallel.steps import make

LAYOUTS: list[tuple[int, dict[str, object]]] = [
    (2, {"data": 2}),
    (2, {"tensor": 2}),
    (2, {"context": 2}),
    (2, {"pipeline": 2, "schedule": "1F1B"}),
    (2, {"pipeline": 2, "schedule": "ZBVZeroBubble"}),
    (4, {"data": 4}),
    (4, {"pipeline": 2, "data": 2}),
]
ROWS = (1, 3, 6)
MICRO_BATCH_TOKENS = 50  # two rows of text, three questions
Measured = tuple[list[float], list[float]]


def held_out(rows: int) -> HeldOut:
    rng = np.random.default_rng(rows)
    documents = (rng.random((rows, 25)) < 0.15).cumsum(1).astype(np.int32)
    return HeldOut(rng.integers(0, VOCAB, (rows, 25)), documents)


@cache
def questions() -> list[tuple[list[int], list[int]]]:
    """Six of 16 tokens; to the 1st, 2nd and 5th the answer is what the untrained model would say."""
    model = Llama(OPTIONS, VOCAB).initialise(3)
    rng, found = np.random.default_rng(0), []
    for number in range(6):
        context = rng.integers(0, VOCAB, 13 + number % 2).tolist()
        ids = list(context)
        while len(ids) < 16:
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
        if number in (2, 3, 5):
            ids[-1] = (ids[-1] + 1) % VOCAB
        found.append((context, ids[len(context) :]))
    return found


def measure(layout: dict[str, object]) -> Measured:
    model = make(OPTIONS, LayoutOptions(**layout))
    losses = [held_out(rows).loss(model, MICRO_BATCH_TOKENS) for rows in ROWS]
    return losses, [greedy_share(model, questions()[:rows], MICRO_BATCH_TOKENS) for rows in ROWS]


def measure_all(layouts: list[dict[str, object]]) -> list[Measured]:
    return [measure(layout) for layout in layouts]


def test_one_process_gives_the_mean_of_the_tokens_inside_documents() -> None:
    model = Llama(OPTIONS, VOCAB).initialise(3)
    for rows in ROWS:
        text = held_out(rows)
        tokens, documents = torch.tensor(text.tokens), torch.tensor(text.documents)
        logits = model.logits(model(tokens[:, :-1], documents=documents[:, :-1]))
        inside = documents[:, 1:] == documents[:, :-1]
        expected = torch.nn.functional.cross_entropy(logits[inside], tokens[:, 1:][inside])
        assert text.loss(alone(model), MICRO_BATCH_TOKENS) == pytest.approx(expected.item(), abs=1e-6)
        assert text.loss(alone(model), 10_000) == pytest.approx(expected.item(), abs=1e-6)
    assert measure({})[1] == pytest.approx([1, 2 / 3, 1 / 2])


@pytest.mark.parametrize("world", [2, 4])
def test_every_layout_measures_the_same(world: int) -> None:
    layouts = [layout for size, layout in LAYOUTS if size == world]
    losses, shares = measure({})
    for found in run(measure_all, world, layouts, timeout_seconds=240):
        for layout, (its_losses, its_shares) in zip(layouts, found, strict=True):
            assert its_losses == pytest.approx(losses, abs=1e-6), layout
            assert its_shares == shares, layout
