"""Muon under the engine's layouts takes the steps that it takes on one process."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from herdsman.model.llama import Llama
from herdsman.training.objective import NextToken
from herdsman.training.optimizer import make_optimizer, set_learning_rate
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from tests.processes import run
from tests.training.parallel.reference import STEPS, TIED, VOCAB, cut, fill, rows_of

# A large epsilon: Adam would blow up the rounding noise of weights that get next to no gradient.
MUON = OptimizerOptions(name="muon", epsilon=1e-3, momentum_warmup_steps=2)


def train(layout: LayoutOptions) -> dict[str, Tensor]:
    """This rank's weights after the steps, put together over its shards."""
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    model = lay_out(TIED, VOCAB, Layout.of(layout, world), torch.device("cpu"), fill(TIED))
    optimizer = make_optimizer(model.named_parameters(), MUON)
    set_learning_rate(optimizer, 1e-2)
    for step in range(STEPS):
        batch = rows_of(step)
        share = len(batch.tokens) // model.data_ranks
        first = model.data_rank * share
        sums = model.train_step([cut(batch, i, i + 2) for i in range(first, first + share, 2)], NextToken())
        model.scale_gradients(1 / sums.weight)
        optimizer.step()
        model.after_update()
    return {name: getattr(p, "full_tensor", lambda p=p: p)().detach().clone() for name, p in model.named_parameters()}


@cache
def alone() -> dict[str, Tensor]:
    return train(LayoutOptions())


@pytest.mark.parametrize(
    "layout",
    [{"data": 4, "shards": 2}, {"tensor": 2, "data": 2}, {"context": 2, "pipeline": 2}],
    ids=lambda layout: "-".join(layout),
)
def test_layouts_take_the_same_steps(layout: dict[str, int]) -> None:
    start = dict(Llama(TIED, VOCAB).initialise(3).named_parameters())
    seen = set()
    for weights in run(train, 4, LayoutOptions(**layout)):
        for name, weight in weights.items():
            assert (weight - alone()[name]).abs().max() < 1e-5, name
            assert (weight - start[name]).abs().max() > 1e-3, name
        seen |= set(weights)
    assert seen == set(start)
