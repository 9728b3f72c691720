"""Context parallelism: every sequence over several ranks, keys and values gathered (paper, section 3.3.2).

A sequence is cut into 2 * ranks chunks; rank i has chunks i and 2 * ranks - 1 - i, so that causal attention is as much
work for all. Queries stay; keys and values, few under grouped-query attention, are gathered before each attention, and
any mask stays easy.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh

from herdsman.model.attention import Backend, Sight


def places_of(rank: int, ranks: int, length: int) -> Tensor:
    """The places of a sequence that a rank has, [length / ranks], rising."""
    first, second = torch.arange(length).chunk(2 * ranks)[rank], torch.arange(length).chunk(2 * ranks)[-1 - rank]
    return torch.cat((first, second))


class GatheredAttention:
    """Attention of this rank's queries over the keys of all ranks, by any back-end."""

    def __init__(self, mesh: DeviceMesh, inner: Backend):
        self.group, self.ranks, self.inner = mesh.get_group(), mesh.size(), inner

    def prepare(self, sight: Sight) -> Any:
        length = len(sight.key_places)
        order = torch.cat([places_of(rank, self.ranks, length) for rank in range(self.ranks)])
        order = order.to(sight.key_places.device)
        documents = None if sight.key_documents is None else sight.key_documents[:, order]
        return self.inner.prepare(Sight(sight.query_places, order, sight.query_documents, documents))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prepared: Any) -> Tensor:
        k, v = _Gather.apply(torch.stack((k, v)), self.group, self.ranks)
        return self.inner.attend(q, k, v, prepared)


class _Gather(torch.autograd.Function):
    """[2, batch, heads, seq / ranks, width] of each rank to [2, batch, heads, seq, width], one after the other."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor, group: dist.ProcessGroup, ranks: int) -> Tensor:
        ctx.group, ctx.ranks = group, ranks
        everyone = [torch.empty_like(mine) for _ in range(ranks)]
        dist.all_gather(everyone, mine.contiguous(), group)
        return torch.cat(everyone, dim=3)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """What all ranks' queries say about this rank's keys and values, summed in float32."""
        chunks = [chunk.contiguous() for chunk in gradient.float().chunk(ctx.ranks, dim=3)]
        mine = torch.empty_like(chunks[0])
        dist.reduce_scatter(mine, chunks, group=ctx.group)
        return mine.to(gradient.dtype), None, None
