"""A run saved on one layout goes on upon another as if it had never moved."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from herdsman.model.llama import Llama
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from herdsman.training.optimizer import make_optimizer
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.layout import LayoutOptions
from herdsman.training.state import training_tensors
from tests.processes import run
from tests.training.parallel.reference import TIED, VOCAB, reference
from tests.training.parallel.steps import make, take_step, weights_of

# A large epsilon: Adam would blow up the rounding noise of weights that get next to no gradient.
ADAM = OptimizerOptions(epsilon=1e-3)
LAYOUTS: dict[str, tuple[int, dict[str, object]]] = {
    "one": (1, {}),
    "data": (2, {"data": 2}),
    "tensor": (2, {"tensor": 2}),
    "context": (2, {"context": 2}),
    "pipeline": (2, {"pipeline": 2}),
    "v": (2, {"pipeline": 2, "schedule": "ZBVZeroBubble"}),
    "tensor-pipeline": (4, {"tensor": 2, "pipeline": 2, "schedule": "1F1B"}),
    "data-context": (4, {"data": 2, "context": 2}),
    "replicas": (4, {"data": 4, "shards": 2}),
}
PAIRS = [
    ("one", "tensor-pipeline"),
    ("one", "replicas"),
    ("data", "v"),
    ("data", "tensor"),
    ("tensor", "context"),
    ("context", "data"),
    ("pipeline", "one"),
    ("pipeline", "data-context"),
    ("v", "pipeline"),
    ("tensor-pipeline", "one"),
    ("data-context", "tensor-pipeline"),
    ("replicas", "v"),
]
"""Each layout is left and reached; the embedding is tied, so that a pipeline holds it twice."""


def optimizer_for(named: object) -> torch.optim.Optimizer:
    optimizer = make_optimizer(named, ADAM)  # type: ignore[arg-type]
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    return optimizer


def saves(layouts: list[str], folder: Path) -> None:
    """Two steps on each layout."""
    for name in layouts:
        model = make(TIED, LayoutOptions(**LAYOUTS[name][1]))
        optimizer = optimizer_for(model.named_parameters())
        for step in range(2):
            take_step(model, optimizer, step)
        checkpoints = Checkpoints(folder / name, CheckpointOptions())
        checkpoints.save(2, 16, training_tensors(model, optimizer), {})
        assert checkpoints.wait()
        checkpoints.close()


def goes_on(pairs: list[tuple[str, str]], folder: Path) -> dict[tuple[str, str], tuple[float, dict[str, Tensor]]]:
    """The third step of each pair, on its second layout: loss and this rank's weights."""
    found = {}
    for before, after in pairs:
        model = make(TIED, LayoutOptions(**LAYOUTS[after][1]))
        optimizer = optimizer_for(model.named_parameters())
        checkpoints = Checkpoints(folder / before, CheckpointOptions())
        assert checkpoints.load(training_tensors(model, optimizer))
        model.after_update()
        loss, _ = take_step(model, optimizer, 2)
        found[before, after] = (loss, weights_of(model))
        checkpoints.close()
    return found


@pytest.fixture(scope="module")
def moved(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, str], tuple[float, dict[str, Tensor]]]]:
    """By rank. Processes are started once for all layouts of a size: that is what takes long."""
    folder = tmp_path_factory.mktemp("moving")
    for world in (1, 2, 4):
        run(saves, world, [name for name, (size, _) in LAYOUTS.items() if size == world], folder, timeout_seconds=240)
    found = []
    for world in (1, 2, 4):
        pairs = [pair for pair in PAIRS if LAYOUTS[pair[1]][0] == world]
        found += run(goes_on, world, pairs, folder, timeout_seconds=240)
    return found


@pytest.fixture(scope="module")
def straight() -> tuple[float, dict[str, Tensor]]:
    found = reference(TIED, lambda model: optimizer_for(model.named_parameters()))
    return found.losses[2], found.weights


@pytest.mark.parametrize("pair", PAIRS, ids="-to-".join)
def test_a_run_that_moves_ends_where_one_that_stays_does(
    pair: tuple[str, str],
    moved: list[dict[tuple[str, str], tuple[float, dict[str, Tensor]]]],
    straight: tuple[float, dict[str, Tensor]],
) -> None:
    loss, expected = straight
    start = dict(Llama(TIED, VOCAB).initialise(3).named_parameters())
    ranks = [found[pair] for found in moved if pair in found]
    assert len(ranks) == LAYOUTS[pair[1]][0]
    for found_loss, weights in ranks:
        assert found_loss == pytest.approx(loss, abs=1e-6)
        for name, weight in weights.items():
            assert (weight - expected[name]).abs().max() < 1e-5, name
            assert (weight - start[name]).abs().max() > 1e-3, name
    assert set().union(*(weights for _, weights in ranks)) == set(start)
