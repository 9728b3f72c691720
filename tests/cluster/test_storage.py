"""Sizes of checkpoints, against what a real optimizer holds and what is known of Llama 3."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from herdsman.cluster.storage import checkpoint_bytes, kept_checkpoints
from herdsman.model.count import count_parameters
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.recipe import load_recipe
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.optimizer import make_optimizer
from herdsman.training.options import OptimizerOptions
from tests.conftest import ROOT


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("tied", [False, True])
def test_as_many_bytes_as_a_run_really_holds(name: Literal["adamw", "muon"], tied: bool) -> None:
    options = ModelOptions(layers=3, dim=64, heads=4, kv_heads=2, ffn_multiple_of=32, tied_embeddings=tied)
    model = Llama(options, 300).initialise(1)
    optimizer = make_optimizer(model.named_parameters(), OptimizerOptions(name=name))
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    tensors = [*model.parameters(), *(value for state in optimizer.state.values() for value in state.values())]
    held = sum(tensor.nbytes for tensor in tensors if tensor.dim())
    assert checkpoint_bytes(count_parameters(options, 300), name) == held


def test_a_checkpoint_of_405b() -> None:
    recipe = load_recipe(ROOT / "recipes" / "405b.toml")
    size = checkpoint_bytes(count_parameters(recipe.model, 128_256), "adamw")
    assert size == 12 * 405_853_388_800
    assert 1e6 < size / 16_384 < 4e9, "the paper has 1 MB to 4 GB a GPU"


def test_kept() -> None:
    options = CheckpointOptions(keep_last=3, keep_best=2, keep_every_tokens=1000)
    assert kept_checkpoints(options, 5500) == 3 + 2 + 5 + 1
