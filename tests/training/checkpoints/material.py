"""A small model in training on any layout, and what of it belongs in a checkpoint."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints, Loaded

# Rows that divide by no number of ranks in use, and fewer rows than ranks.
WIDTHS = (6, 10, 3)


def make_training(layout: str) -> tuple[nn.Sequential, torch.optim.AdamW]:
    """A model on `one` process, on `fsdp` over all ranks, or on a mesh of `hsdp` or `fsdp x tp`, two by two."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTHS[0], WIDTHS[1]), nn.GELU(), nn.Linear(WIDTHS[1], WIDTHS[2]))
    if layout == "fsdp":
        fully_shard(model)
    elif layout == "hsdp":
        fully_shard(model, mesh=init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "shard")))
    elif layout == "fsdp x tp":
        mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("fsdp", "tp"))
        parallelize_module(model, mesh["tp"], {"0": ColwiseParallel(), "2": RowwiseParallel()})
        fully_shard(model, mesh=mesh["fsdp"])
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


def step(model: nn.Sequential, adam: torch.optim.AdamW) -> float:
    """An update on random data, with random numbers from torch and from Python."""
    inputs = torch.randn(8, WIDTHS[0]) * (1 + random.random())
    loss = model(inputs).square().mean().clone()
    adam.zero_grad()
    loss.backward()
    adam.step()
    return float(loss.detach())


def tensors_of(model: nn.Sequential, adam: torch.optim.AdamW) -> dict[str, Tensor]:
    """Weights and optimizer state by names that no layout changes; state that is not there yet is made."""
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter
        state = adam.state[parameter]
        if not state:
            state |= {"step": torch.tensor(0.0), "exp_avg": torch.zeros_like(parameter)}
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        tensors |= {f"optimizer.{key}.{name}": value for key, value in state.items()}
    return tensors


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()
        for name, tensor in tensors.items()
    }


def equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[name], others[name]) for name in some)


def save_plain(folder: Path, steps: int, *, rows: int = 100, **options: Any) -> Checkpoints:
    """Checkpoints of 10 tokens a step whose tensor `model.weight` is full of the step's number."""
    checkpoints = Checkpoints(folder, CheckpointOptions(**options))
    for number in range(1, steps + 1):
        checkpoints.save(number, 10 * number, {"model.weight": torch.full((rows, 8), float(number))}, {"at": number})
        assert checkpoints.wait()
    return checkpoints


def load_plain(folder: Path, *, rows: int = 100, **options: Any) -> tuple[Loaded | None, Checkpoints]:
    """What is loaded; the tensor and the state are those of the step it says."""
    tensor = torch.zeros(rows, 8)
    checkpoints = Checkpoints(folder, CheckpointOptions(**options))
    loaded = checkpoints.load({"model.weight": tensor})
    if loaded:
        assert (tensor == loaded.step).all()
        assert (loaded.tokens, loaded.state) == (10 * loaded.step, {"at": loaded.step})
    return loaded, checkpoints
