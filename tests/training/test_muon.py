"""Muon against its definition by singular values, against torch's own, and sharded over ranks against one process."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from herdsman.training.muon import COEFFICIENTS, ITERATIONS, Muon, orthogonalise
from tests.processes import run

RATE = 0.01


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Layers(nn.Module):
    """Three layers of two matrices each, so that four ranks have an uneven share of the work, and a vector."""

    def __init__(self) -> None:
        super().__init__()
        self.up = nn.ModuleList(nn.Linear(12, 20, bias=False) for _ in range(3))
        self.down = nn.ModuleList(nn.Linear(20, 12, bias=False) for _ in range(3))
        self.scale = nn.Parameter(torch.ones(12))
        for number, parameter in enumerate(self.parameters()):
            parameter.data.copy_(drawn(*parameter.shape, seed=number))

    def forward(self, x: Tensor) -> Tensor:
        for up, down in zip(self.up, self.down, strict=True):
            x = x + down(torch.tanh(up(x))) * self.scale
        return x


def muon_of(model: nn.Module, dtype: torch.dtype = torch.float32, **changes: Any) -> Muon:
    group = {"momentum": 0.95, "momentum_start": 0.95, "momentum_warmup_steps": 0, "fused": False}
    matrices = {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": 0.1} | group | changes
    vectors = {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}
    return Muon([matrices, vectors], dtype, lr=RATE, betas=(0.9, 0.95), fused=True)


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range = range(4)) -> None:
    for step in steps:
        optimizer.zero_grad()
        model(drawn(8, 12, seed=100 + step)).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 16, 40), (2, 40, 16)])
def test_singular_values_go_through_the_quintic(shape: tuple[int, ...]) -> None:
    """Newton-Schulz is a polynomial of the singular values; the vectors stay."""
    matrices = drawn(*shape)
    u, s, v = torch.linalg.svd(matrices.double(), full_matrices=False)
    s = s / matrices.double().norm(dim=(-2, -1))[:, None]
    a, b, c = COEFFICIENTS
    for _ in range(ITERATIONS):
        s = a * s + b * s**3 + c * s**5
    expected = u @ torch.diag_embed(s) @ v
    assert torch.allclose(orthogonalise(matrices, torch.float32).double(), expected, atol=1e-4)
    assert s.max() < 1.3
    assert 0.7 < s.median() < 1.2
    low = orthogonalise(matrices, torch.bfloat16).double()
    assert ((low - expected).norm() / expected.norm()) < 0.05


def test_it_equals_torch_in_its_own_precision() -> None:
    ours, theirs = nn.Linear(24, 16, bias=False), nn.Linear(24, 16, bias=False)
    theirs.load_state_dict(ours.state_dict())
    start = ours.weight.detach().clone()
    optimizers = (
        muon_of(ours, torch.bfloat16),
        torch.optim.Muon(theirs.parameters(), lr=RATE, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(5):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            model.weight.grad = drawn(16, 24, seed=step)
            optimizer.step()
    moved = theirs.weight - start
    assert (ours.weight - theirs.weight).norm() < 0.02 * moved.norm()  # bfloat16, divided by its norm in another order


def test_vectors_are_left_to_adamw() -> None:
    ours, theirs = Layers(), Layers()
    optimizer = muon_of(ours)
    adam = torch.optim.AdamW(theirs.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    for model, its in ((ours, optimizer), (theirs, adam)):
        model.scale.grad = torch.linspace(-1, 1, 12)
        its.step()
    assert torch.equal(ours.scale, theirs.scale)
    assert torch.equal(ours.up[0].weight, theirs.up[0].weight)  # no gradient, no step
    assert set(optimizer.state) == {ours.scale}
    assert len(optimizer.param_groups) == 2


def test_the_update_is_as_large_as_adamws() -> None:
    """Root mean square 0.2 whatever the shape, so that AdamW's learning rate can be kept."""
    for shape in ((64, 64), (32, 128), (128, 32)):
        layer = nn.Linear(*shape, bias=False)
        start = layer.weight.detach().clone()
        layer.weight.grad = drawn(*layer.weight.shape)
        muon_of(layer, weight_decay=0.0).step()
        rms = (layer.weight.detach() - start).square().mean().sqrt() / RATE
        assert float(rms) == pytest.approx(0.2, rel=0.25)


def test_momentum_warms_up_and_resumes() -> None:
    settings = {"momentum_start": 0.5, "momentum": 0.9, "momentum_warmup_steps": 4}
    straight, stopped = Layers(), Layers()
    train(straight, muon_of(straight, **settings), range(8))
    first = muon_of(stopped, **settings)
    train(stopped, first, range(3))
    assert first.state[stopped.up[0].weight].keys() == {"momentum", "step"}
    assert first.state[stopped.scale].keys() == {"exp_avg", "exp_avg_sq", "step"}
    by_name = copy.deepcopy(get_optimizer_state_dict(stopped, first))
    assert set(by_name["state"]) == {name for name, _ in stopped.named_parameters()}
    resumed = muon_of(stopped, **settings)
    set_optimizer_state_dict(stopped, resumed, by_name)
    train(stopped, resumed, range(3, 8))
    for one, other in zip(straight.parameters(), stopped.parameters(), strict=True):
        assert torch.equal(one, other)
    constant = Layers()
    train(constant, muon_of(constant, momentum=0.9), range(8))
    assert not torch.equal(constant.up[0].weight, straight.up[0].weight)


def trained_on(shape: tuple[int, ...], names: tuple[str, ...]) -> dict[str, Tensor]:
    """The whole weights after some steps on this mesh: an axis `tensor` splits matrices, the others shard or copy."""
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    model = Layers()
    if "tensor" in names:
        plan = {"up.*": ColwiseParallel(), "down.*": RowwiseParallel()}
        parallelize_module(model, mesh["tensor"], plan)
    data = tuple(name for name in names if name != "tensor")
    if data:
        fully_shard(model, mesh=mesh[data])
    train(model, muon_of(model))
    return {name: getattr(p, "full_tensor", lambda p=p: p)().detach() for name, p in model.named_parameters()}


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((4,), ("shard",)),
        ((2, 2), ("shard", "tensor")),
        ((4,), ("tensor",)),
        ((2, 2), ("copy", "shard")),
    ],
    ids=lambda value: "-".join(map(str, value)),
)
def test_sharded_matrices_take_the_same_steps(shape: tuple[int, ...], names: tuple[str, ...]) -> None:
    alone = Layers()
    train(alone, muon_of(alone))
    for weights in run(trained_on, 4, shape, names):
        for name, parameter in alone.named_parameters():
            assert torch.allclose(weights[name], parameter, atol=2e-6), name
