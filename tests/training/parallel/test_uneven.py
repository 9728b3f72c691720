"""Nothing has to come out even: micro-batches, rows, vocabulary and layers that the ranks do not divide."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from herdsman.model.options import ModelOptions
from herdsman.training.objective import Batch, NextToken
from herdsman.training.parallel.layout import LayoutOptions
from herdsman.training.token_course import without_weight
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, TIED, VOCAB, cut, rows_of
from tests.training.parallel.steps import gradients_of, make

THREE, TWO = (OPTIONS.model_copy(update={"layers": layers}) for layers in (3, 2))
Case = tuple[str, ModelOptions, int, int]
"""Layout by name, model, size of the vocabulary, rows of the step."""
LAYOUTS = {
    "data": LayoutOptions(data=2),
    "tensor": LayoutOptions(tensor=2),
    "interleaved": LayoutOptions(pipeline=2),
    "one stage each": LayoutOptions(pipeline=2, schedule="1F1B"),
    "v": LayoutOptions(pipeline=2, schedule="ZBVZeroBubble"),
    "pipeline-tensor": LayoutOptions(pipeline=2, tensor=2),
    "data 4": LayoutOptions(data=4),
}
CASES: dict[str, tuple[int, Case]] = {
    "micro-batches of 3 and 1 rows on two data ranks": (2, ("data", OPTIONS, VOCAB, 8)),
    "3 micro-batches of 3, 3 and 1 rows in a pipeline": (2, ("one stage each", OPTIONS, VOCAB, 7)),
    "3 micro-batches in a V": (2, ("v", OPTIONS, VOCAB, 7)),
    "a vocabulary of 97 over two ranks": (2, ("tensor", OPTIONS, 97, 4)),
    "3 layers in 4 stages": (2, ("interleaved", THREE, VOCAB, 4)),
    "2 layers in 4 stages": (2, ("v", TWO, VOCAB, 4)),
    "one row on two data ranks": (2, ("data", OPTIONS, VOCAB, 1)),
    "a tied vocabulary of 97, 4 layers": (4, ("pipeline-tensor", TIED, 97, 5)),
    "5 rows on four data ranks": (4, ("data 4", OPTIONS, VOCAB, 5)),
}


def heavy(batch: Batch) -> Batch:
    """The first row counts a hundred times as much as it did."""
    weights = batch.by_token["weights"].clone()
    weights[0] *= 100
    return Batch(batch.tokens, batch.documents, {**batch.by_token, "weights": weights})


def measure(case: Case) -> tuple[float, float, float, dict[str, Tensor]]:
    """Loss, weight, norm and gradients of a step in micro-batches of 3 rows; what has no rows has one of no weight."""
    name, options, vocab_size, rows = case
    on_ranks = torch.distributed.is_initialized()
    model = make(options, LAYOUTS[name] if on_ranks else LayoutOptions(), vocab_size=vocab_size)
    batch, share = heavy(rows_of(0)), -(-rows // model.data_ranks)
    first = model.data_rank * share
    micro = []
    for start in range(first, first + share, 3):
        stop = min(start + 3, first + share, rows)
        micro.append(cut(batch, start, stop) if start < stop else without_weight(cut(batch, 0, 1)))
    sums = model.train_step(micro, NextToken())
    return sums.total, sums.weight, model.gradient_norm(), gradients_of(model)


def measure_all(cases: list[Case]) -> list[tuple[float, float, float, dict[str, Tensor]]]:
    return [measure(case) for case in cases]


@cache
def on_ranks(world: int) -> dict[str, list[tuple[float, float, float, dict[str, Tensor]]]]:
    """What every rank measured, by case; processes are started once for all cases of a size."""
    cases = {name: case for name, (size, case) in CASES.items() if size == world}
    ranks = run(measure_all, world, list(cases.values()), timeout_seconds=240)
    return {name: [found[number] for found in ranks] for number, name in enumerate(cases)}


@pytest.mark.parametrize("name", CASES)
def test_what_is_uneven_trains_as_one_process(name: str) -> None:
    world, case = CASES[name]
    total, weight, norm, gradients = measure(case)
    seen = set()
    for found in on_ranks(world)[name]:
        assert found[0] == pytest.approx(total, rel=1e-6)
        assert found[1] == pytest.approx(weight, rel=1e-6)
        assert found[2] == pytest.approx(norm, rel=1e-5)
        for parameter, gradient in found[3].items():
            assert (gradient - gradients[parameter]).abs().max() < 1e-6 * norm, parameter
        seen |= set(found[3])
    assert seen == set(gradients)
