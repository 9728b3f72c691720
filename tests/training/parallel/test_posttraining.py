"""Fine-tuning's objectives on layouts: micro-batches of any lengths and numbers of rows, as on one process."""

from __future__ import annotations

import random
from functools import cache

import pytest
import torch
from torch import Tensor

from herdsman.posttraining.dpo import Pair, Preferring, pair_batch
from herdsman.posttraining.reward import Ranking, reward_batch
from herdsman.posttraining.rows import Row, pad
from herdsman.posttraining.sft import OBJECTIVE
from herdsman.tokens.chat import Kind
from herdsman.training.objective import Batch, Objective
from herdsman.training.parallel.layout import LayoutOptions
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, VOCAB
from tests.training.parallel.steps import gradients_of, make

SMALL = OPTIONS.model_copy(update={"layers": 2})  # DTensor takes long for every shape it has not seen
CPU = torch.device("cpu")
OBJECTIVES: dict[str, Objective] = {"sft": OBJECTIVE, "reward": Ranking(), "dpo": Preferring(0.5, 0.2)}
ALONE: list[dict[str, object]] = [
    {"data": 2},
    {"tensor": 2},
    {"context": 2},
    {"pipeline": 2, "schedule": "1F1B"},
    {"pipeline": 2, "schedule": "ZBVZeroBubble"},
]
PAIRS: list[dict[str, object]] = [
    {"tensor": 2, "context": 2},
    {"pipeline": 2, "data": 2},
    {"context": 2, "pipeline": 2},
]
Found = tuple[float, float, dict[str, float], float, dict[str, Tensor]]


def row_of(rng: random.Random, length: int) -> Row:
    """A dialog of so many tokens, some of which are trained; the last ends it."""
    prompt = rng.randrange(2, length - 3)
    kinds = [Kind.PROMPT] * prompt + [Kind.HEADER] + [Kind.BODY] * (length - prompt - 2) + [Kind.END]
    return Row([rng.randrange(1, VOCAB) for _ in range(length)], list(map(int, kinds)))


def batches_of(what: str) -> list[Batch]:
    """Four micro-batches, no two of one shape."""
    rng = random.Random(what)
    longest = [13, 22, 8, 31]
    if what == "sft":
        return [pad([row_of(rng, n - i) for i in range(1 + k % 3)], 0, CPU) for k, n in enumerate(longest)]
    if what == "reward":
        ranked = [[[row_of(rng, n - i - j) for j in range(2 + k % 2)] for i in range(1 + k // 2)] for k, n in
                  enumerate(longest)]  # fmt: skip
        return [reward_batch(part, 0, CPU) for part in ranked]
    pairs = [
        [Pair(row_of(rng, n), row_of(rng, n - i - 1), (-rng.random(), -rng.random())) for i in range(1 + k % 2)]
        for k, n in enumerate(longest)
    ]
    return [pair_batch(part, 0, CPU, [pair for part in pairs for pair in part]) for part in pairs]


def measure(what: str, layout: dict[str, object]) -> Found:
    # Tied for one of them: its two copies on a pipeline get gradients from here, too.
    options = SMALL.model_copy(update={"tied_embeddings": what == "dpo"})
    model = make(options, LayoutOptions(**layout), scores=what == "reward")
    batches = batches_of(what)
    mine = batches[model.data_rank * len(batches) // model.data_ranks :][: len(batches) // model.data_ranks]
    sums = model.train_step(mine, OBJECTIVES[what])
    return sums.total, sums.weight, sums.figures, model.gradient_norm(), gradients_of(model)


def measure_all(layouts: list[dict[str, object]]) -> list[Found]:
    return [measure(what, layout) for layout in layouts for what in OBJECTIVES]


@cache
def on_one_process(what: str) -> Found:
    return measure(what, {})


@pytest.mark.parametrize(("layouts", "world"), [(ALONE, 2), (PAIRS, 4)], ids=["one axis", "two axes"])
def test_objectives_are_the_same_on_every_layout(layouts: list[dict[str, object]], world: int) -> None:
    ranks = run(measure_all, world, layouts, timeout_seconds=240)
    for case, (layout, what) in enumerate((layout, what) for layout in layouts for what in OBJECTIVES):
        total, weight, figures, norm, gradients = on_one_process(what)
        assert norm > 0.1
        seen = set()
        for found in (rank[case] for rank in ranks):
            assert found[0] == pytest.approx(total, rel=2e-6), (what, layout)
            assert found[1] == weight
            assert found[2] == pytest.approx(figures, rel=1e-6, abs=1e-5), (what, layout)
            assert found[3] == pytest.approx(norm, rel=1e-5), (what, layout)
            for name, gradient in found[4].items():
                assert (gradient - gradients[name]).abs().max() < 1e-5 * max(1.0, norm), (what, layout, name)
            seen |= set(found[4])
        assert seen == set(gradients)


def test_filling_up_changes_nothing_that_counts() -> None:
    for what, objective in OBJECTIVES.items():
        model = make(OPTIONS, LayoutOptions(), scores=what == "reward")
        batches = batches_of(what)
        plain = model.evaluate(batches, objective)
        filled = model.evaluate([batch.lengthened(32) for batch in batches], objective)
        expected = {"total": plain.total, "weight": plain.weight} | plain.figures
        assert {"total": filled.total, "weight": filled.weight} | filled.figures == pytest.approx(
            expected, rel=1e-6, abs=1e-5
        )
