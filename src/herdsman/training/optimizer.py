"""AdamW or Muon with decay on matrices only, and the precision that matrix products run in."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW

from herdsman.training.muon import Muon
from herdsman.training.options import OptimizerOptions

BLOCKS = "blocks"


def make_optimizer(
    parameters: Iterable[tuple[str, nn.Parameter]],
    options: OptimizerOptions,
    precision: torch.dtype = torch.float32,
) -> AdamW:
    """The optimizer of all parameters that need gradients; vectors (norms) are not decayed.

    Args:
        parameters: (name, parameter) of a model, or of the part of it that a pipeline stage holds; sharded or not.
            Matrices below `blocks` are those that Muon takes.
        precision: dtype of Muon's matrix products.
    """
    trained = [(name, parameter) for name, parameter in parameters if parameter.requires_grad]
    vectors = [p for _, p in trained if p.dim() < 2]
    inner = [p for name, p in trained if p.dim() >= 2 and BLOCKS in name.split(".")]
    outer = [p for name, p in trained if p.dim() >= 2 and BLOCKS not in name.split(".")]
    muon = options.name == "muon"
    for_muon = {
        "momentum": options.momentum,
        "momentum_start": options.momentum_start,
        "momentum_warmup_steps": options.momentum_warmup_steps,
        "fused": False,  # keeps `step` off the GPU when a state is loaded: it is read every step
    }
    groups: list[dict[str, Any]] = [
        {"params": outer, "weight_decay": options.weight_decay, "rate": options.embedding_rate},
        {"params": vectors, "weight_decay": 0.0, "rate": 1.0},
        {"params": inner, "weight_decay": options.weight_decay, "rate": 1.0, **(for_muon if muon else {})},
    ]
    groups = [group for group in groups if group["params"]]
    adam: dict[str, Any] = {"lr": 0.0, "betas": (options.beta1, options.beta2), "eps": options.epsilon, "fused": True}
    return Muon(groups, precision, **adam) if muon else AdamW(groups, **adam)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives every group its multiple of the schedule's rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["rate"]


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it (CUDA from Ampere on, CPUs with AVX-512 BF16), else float32."""
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.float32 if precision == "float32" else torch.bfloat16


def matmul_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Runs matrix products in `dtype`; weights and their updates stay in float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
