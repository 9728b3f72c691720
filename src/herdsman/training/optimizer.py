"""AdamW with decay on matrices only, and the precision that matrix products run in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import nn

from herdsman.training.options import OptimizerOptions


def make_optimizer(model: nn.Module, options: OptimizerOptions) -> torch.optim.AdamW:
    """AdamW over all parameters that need gradients; vectors (norms) are not decayed."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(options.beta1, options.beta2), eps=options.epsilon, fused=True)


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it (CUDA from Ampere on, CPUs with AVX-512 BF16), else float32."""
    if precision == "auto":
        if device.type == "cuda":
            fast = torch.cuda.is_bf16_supported(including_emulation=False)
        else:
            fast = device.type == "cpu" and torch.cpu._is_avx512_bf16_supported()
        return torch.bfloat16 if fast else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def matmul_precision(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[object]:
    """Runs matrix products in `dtype`; weights and their updates stay in float32."""
    return torch.autocast(device.type, dtype, enabled=dtype != torch.float32)
