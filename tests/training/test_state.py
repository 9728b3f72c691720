"""What a checkpoint holds of a model over processes does not depend on what was done with it before."""

from __future__ import annotations

import pytest
import torch

from herdsman.training.objective import NextToken
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.state import training_tensors
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, VOCAB, cut, fill, optimizer_of, rows_of

Shapes = dict[str, tuple[int, ...]]


def train(layout: LayoutOptions, evaluates: bool) -> tuple[list[float], Shapes]:
    """On a rank: gradient norms of two steps, and names and shapes of its share of a checkpoint after them.

    Args:
        evaluates: after each step.
    """
    model = lay_out(OPTIONS, VOCAB, Layout.of(layout, 2), torch.device("cpu"), fill(OPTIONS))
    optimizer = optimizer_of([parameter for _, parameter in model.named_parameters()])
    norms = []
    for step in range(2):
        batch = cut(rows_of(step), 0, 2)
        model.train_step([batch], NextToken())
        norms.append(model.gradient_norm())
        optimizer.step()
        model.after_update()
        if evaluates:
            model.evaluate([batch], NextToken())
    tensors = training_tensors(model, optimizer)
    return norms, {name: tuple(getattr(t, "to_local", lambda t=t: t)().shape) for name, t in tensors.items()}


@pytest.mark.parametrize("axis", ["data", "context", "pipeline"])
def test_an_evaluation_leaves_no_trace(axis: str) -> None:
    layout = LayoutOptions(**{axis: 2})
    undisturbed = run(train, 2, layout, False)
    assert run(train, 2, layout, True) == undisturbed
    for _, shapes in undisturbed:
        assert any(name.startswith("optimizer.exp_avg.blocks.") for name in shapes)
