"""Tensor parallelism with the sequence split between the matrices (TP with SP).

Matrices are split over heads and over feed-forward columns, the vocabulary over its tokens. Between them every rank has
its share of the sequence: residual stream and norms are not computed twice.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    PrepareModuleInput,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)

from herdsman.model.llama import Llama

SEQUENCE = 1  # dimension of [batch, seq, dim]


def split_block(block: nn.Module, mesh: DeviceMesh) -> None:
    """Splits the matrices of a block; it takes and gives this rank's share of the sequence."""
    whole = Replicate()
    parallelize_module(
        block,
        mesh,
        {
            "attention_norm": SequenceParallel(),
            "attention": PrepareModuleInput(input_layouts=(Shard(SEQUENCE), None), desired_input_layouts=(whole, None)),
            "attention.q_proj": ColwiseParallel(),
            "attention.k_proj": ColwiseParallel(),
            "attention.v_proj": ColwiseParallel(),
            "attention.o_proj": RowwiseParallel(output_layouts=Shard(SEQUENCE)),
            "ffn_norm": SequenceParallel(),
            "ffn": PrepareModuleInput(input_layouts=(Shard(SEQUENCE),), desired_input_layouts=(whole,)),
            "ffn.gate_proj": ColwiseParallel(),
            "ffn.up_proj": ColwiseParallel(),
            "ffn.down_proj": RowwiseParallel(output_layouts=Shard(SEQUENCE)),
        },
    )


def split_ends(model: Llama, mesh: DeviceMesh, scores: bool) -> None:
    """Splits embedding, last norm and output, as far as this part of the model has them. A single output is not split:
    it is the same on all ranks, from the same hidden states."""
    plan: dict[str, ParallelStyle] = {
        "embedding": RowwiseParallel(input_layouts=Replicate(), output_layouts=Shard(SEQUENCE)),
        "norm": SequenceParallel(),
        "output": ColwiseParallel(),
    }
    present = {name: style for name, style in plan.items() if getattr(model, name) is not None}
    if scores:
        present.pop("output", None)
    parallelize_module(model, mesh, present)


def gather_sequence(hidden: DTensor, scores: bool) -> Tensor:
    """Hidden states split over the sequence to all of them, [batch, seq, dim].

    The gradient of the result is this rank's part of the whole, for each rank scores its share of the vocabulary; or
    the whole on every rank, where there is a single output.
    """
    gradient = Replicate() if scores else Partial()
    return hidden.redistribute(placements=[Replicate()]).to_local(grad_placements=[gradient])


class Vocabulary:
    """This rank's rows of the output matrix, see `model.likelihood.VocabularyShard`."""

    def __init__(self, vocab_size: int, mesh: DeviceMesh):
        self.group = mesh.get_group()
        self.first = mesh.get_local_rank() * -(-vocab_size // mesh.size())

    def log_sum_exp(self, local: Tensor) -> Tensor:
        highest = local.clone()
        dist.all_reduce(highest, dist.ReduceOp.MAX, self.group)
        total = torch.exp(local - highest)
        dist.all_reduce(total, group=self.group)
        return total.log_().add_(highest)

    def sum(self, local: Tensor) -> Tensor:
        total = local.clone()
        dist.all_reduce(total, group=self.group)
        return total

    def highest(self, local: Tensor, tokens: Tensor) -> Tensor:
        best = local.clone()
        dist.all_reduce(best, dist.ReduceOp.MAX, self.group)
        mine = torch.where(local == best, tokens, torch.iinfo(tokens.dtype).max)
        dist.all_reduce(mine, dist.ReduceOp.MIN, self.group)
        return mine
