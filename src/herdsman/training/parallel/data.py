"""Weights, gradients and optimizer states sharded over data and context ranks (FSDP2; HSDP with replicas)."""

from __future__ import annotations

import warnings

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard


def shard(module: nn.Module, mesh: DeviceMesh, precision: torch.dtype, reshard_after_forward: bool) -> None:
    """Shards what is not sharded yet below a module.

    Matrix products run in `precision`; gradients are accumulated over micro-batches and summed over ranks in float32
    (paper, section 3.3.2), the sum being of all tokens' gradients and not their mean.
    """
    # A first stage without blocks gives the view that tensor parallelism made. Nothing here changes it in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    policy = MixedPrecisionPolicy(param_dtype=precision, reduce_dtype=torch.float32)
    fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward)
    if isinstance(module, FSDPModule):
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)  # gloo knows no other that leaves the sum alone


def synchronise(module: nn.Module, last: bool) -> None:
    """Says whether the next backward pass is the last of a step: only then are gradients reduced and weights freed."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(last)
        module.set_is_last_backward(last)
        module.set_reshard_after_backward(last)
