"""Which parameters which optimizer takes, against steps reckoned by hand and torch's own AdamW."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.training.muon import Muon
from herdsman.training.optimizer import make_optimizer, set_learning_rate
from herdsman.training.options import OptimizerOptions

MATRICES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def model_of(tied: bool) -> Llama:
    sizes = {"layers": 2, "dim": 32, "heads": 4, "kv_heads": 2, "ffn_multiple_of": 16, "context_length": 32}
    return Llama(ModelOptions(**sizes, tied_embeddings=tied), 64).initialise(0)


def backward(model: Llama) -> None:
    tokens = torch.randint(0, 64, (4, 17), generator=torch.Generator().manual_seed(0))
    logits = model.logits(model(tokens[:, :-1]))
    nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_is_taken_once_and_norms_do_not_decay(name: str, tied: bool) -> None:
    model = model_of(tied)
    optimizer = make_optimizer(model.named_parameters(), OptimizerOptions(name=name))
    taken = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(taken) == sorted(map(id, model.parameters()))
    names = {id(p): name for name, p in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.0 if "norm" in names[id(parameter)] else 0.1)
            assert ("momentum" in group) == (name == "muon" and names[id(parameter)].split(".")[-2] in MATRICES)


def test_adamw_is_torchs() -> None:
    """The first step moves each weight by the learning rate against its gradient's sign, after decay."""
    model = model_of(tied=True)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model.named_parameters(), OptimizerOptions())
    backward(model)
    set_learning_rate(optimizer, 1e-2)
    optimizer.step()
    for name, parameter in model.named_parameters():
        decay = 0.0 if "norm" in name else 0.1
        gradient = parameter.grad
        moved = before[name] * (1 - 1e-2 * decay) - 1e-2 * gradient / (gradient.abs() + 1e-8)
        assert torch.allclose(parameter, moved, atol=1e-6), name


def test_muon_leaves_embedding_output_and_norms_to_adamw() -> None:
    """After a step with the same gradients these are as under AdamW alone, and the matrices are not."""
    models = {name: model_of(tied=False) for name in ("adamw", "muon")}
    for name, model in models.items():
        optimizer = make_optimizer(model.named_parameters(), OptimizerOptions(name=name))
        backward(model)
        set_learning_rate(optimizer, 1e-2)
        optimizer.step()
    for (name, one), other in zip(models["adamw"].named_parameters(), models["muon"].parameters(), strict=True):
        assert torch.equal(one, other) == (name.split(".")[-2] not in MATRICES), name


def test_settings_reach_muon() -> None:
    optimizer = make_optimizer(
        model_of(True).named_parameters(), OptimizerOptions(name="muon", momentum=0.9), torch.half
    )
    assert isinstance(optimizer, Muon)
    assert optimizer.dtype == torch.half
    assert [group["momentum"] for group in optimizer.param_groups if "momentum" in group] == [0.9]


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_embedding_and_output_may_have_a_rate_of_their_own(name: str) -> None:
    moves = []
    for factor in (1.0, 3.0):
        model = model_of(tied=False)
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        options = OptimizerOptions(name=name, embedding_rate=factor, weight_decay=0.0)
        optimizer = make_optimizer(model.named_parameters(), options)
        backward(model)
        set_learning_rate(optimizer, 1e-2)
        optimizer.step()
        moves.append({name: p.detach() - before[name] for name, p in model.named_parameters()})
    for parameter in moves[0]:
        wanted = 3.0 if parameter in ("embedding.weight", "output.weight") else 1.0
        assert torch.allclose(moves[1][parameter], wanted * moves[0][parameter], atol=1e-6), parameter


def test_the_part_of_a_pipeline_stage_and_frozen_parameters() -> None:
    """A stage may hold no matrices of blocks, or nothing but them; what needs no gradient is left alone."""
    model = model_of(tied=False)
    ends = [(n, p) for n, p in model.named_parameters() if not n.startswith("blocks")]
    blocks = [(n, p) for n, p in model.named_parameters() if n.startswith("blocks") and p.dim() == 2]
    backward(model)
    for name in ("adamw", "muon"):
        for part in (ends, blocks):
            optimizer = make_optimizer(part, OptimizerOptions(name=name))
            optimizer.step()
            assert set(optimizer.state) == {p for _, p in part}
    model.requires_grad_(False)
    model.norm.weight.requires_grad_(True)
    (group,) = make_optimizer(model.named_parameters(), OptimizerOptions(name="muon")).param_groups
    assert group["params"] == [model.norm.weight]
