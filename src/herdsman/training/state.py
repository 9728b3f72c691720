"""Everything a run goes on from, by names that are the same on every layout."""

from __future__ import annotations

import torch
from torch import Tensor

from herdsman.training.parallel.model import ParallelModel


def training_tensors(model: ParallelModel, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Weights and optimizer states: `model.NAME` and `optimizer.KIND.NAME`, to be saved or to be filled."""
    _prepare(optimizer)
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        tensors[f"model.{name}"] = parameter.detach()
        assert parameter in optimizer.state, (
            f"{name} is not what the optimizer trains: a checkpoint would lack its state"
        )
        for kind, value in optimizer.state[parameter].items():
            tensors[f"optimizer.{kind}.{name}"] = value
    return tensors


def _prepare(optimizer: torch.optim.Optimizer) -> None:
    """Optimizers make their states at the first step. One with a learning rate of 0 changes no weight; the count of
    steps and the moments that it leaves are taken back."""
    if optimizer.state:
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    gradients = [parameter.grad for parameter in parameters]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
        for value in optimizer.state[parameter].values():
            value.zero_()
