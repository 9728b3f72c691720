"""Every layout trains as one process does: each axis alone, every pair, all four, under every schedule."""

from __future__ import annotations

from functools import lru_cache

import pytest
import torch

from herdsman.model.options import ModelOptions
from herdsman.training.parallel.layout import LayoutOptions
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, STEPS, TIED, optimizer_of, reference
from tests.training.parallel.steps import make, take_step, weights_of

reference_of = lru_cache(reference)

LAYOUTS = {
    "data": {"data": 2},
    "replicas": {"data": 4, "shards": 2},
    "tensor": {"tensor": 2},
    "context": {"context": 2},
    "pipeline": {"pipeline": 2},
    "tensor-context": {"tensor": 2, "context": 2},
    "tensor-pipeline": {"tensor": 2, "pipeline": 2},
    "tensor-data": {"tensor": 2, "data": 2},
    "context-pipeline": {"context": 2, "pipeline": 2},
    "context-data": {"context": 2, "data": 2},
    "pipeline-data": {"pipeline": 2, "data": 2},
    "four": {"tensor": 2, "context": 2, "pipeline": 2, "data": 2},
}
SCHEDULES = ("GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS", "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV")


def train(
    options: ModelOptions, layout: LayoutOptions, rows: int = 2
) -> tuple[list[float], list[float], dict[str, torch.Tensor]]:
    """On a rank: losses, norms, and this rank's weights after the steps, put together over its shards."""
    model = make(options, layout)
    optimizer = optimizer_of([parameter for _, parameter in model.named_parameters()])
    losses, norms = zip(*(take_step(model, optimizer, step, rows) for step in range(STEPS)), strict=True)
    return list(losses), list(norms), weights_of(model)


def check(options: ModelOptions, layout: LayoutOptions, world: int, rows: int = 2) -> None:
    expected = reference_of(options)
    results = run(train, world, options, layout, rows, timeout_seconds=120)
    seen = set()
    for losses, norms, weights in results:
        assert losses == pytest.approx(expected.losses, abs=1e-6)
        assert norms == pytest.approx(expected.norms, rel=1e-5)
        for name, weight in weights.items():
            assert (weight - expected.weights[name]).abs().max() < 1e-5, name
        seen |= set(weights)
    assert seen == set(expected.weights)


def processes(degrees: dict[str, int]) -> int:
    return degrees.get("tensor", 1) * degrees.get("context", 1) * degrees.get("pipeline", 1) * degrees.get("data", 1)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_train_as_one_process(name: str) -> None:
    check(OPTIONS, LayoutOptions(**LAYOUTS[name]), processes(LAYOUTS[name]))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_train_as_one_process(schedule: str) -> None:
    check(OPTIONS, LayoutOptions(pipeline=2, data=2, schedule=schedule), 4, rows=1)


@pytest.mark.parametrize("schedule", ["1F1B", "ZBVZeroBubble"])
def test_a_tied_embedding_on_two_stages_stays_one(schedule: str) -> None:
    check(TIED, LayoutOptions(pipeline=2, tensor=2, schedule=schedule), 4)
