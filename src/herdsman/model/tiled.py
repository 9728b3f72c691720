"""Attention as matrix products over tiles of queries, for processors that multiply bfloat16 in hardware.

torch's kernel for CPUs hardly uses that hardware, least of all in its backward pass. Here the queries of a tile, in all
heads, see one run of keys: from the first that any of them sees to the tile's own last. Documents that are over cost
nothing, keys and values are not repeated for the query heads that share them, and the backward pass computes the
probabilities again: memory holds those of one tile only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

TILE = 128
ROWS_TOKENS = 1024
"""Rows that are shorter than this go through together."""


@dataclass(frozen=True)
class Tile:
    """Some queries of some rows and the run of keys that they see.

    Attributes:
        mask: [rows or 1, 1, 1, queries, last keys], 0 where a query sees a key, else minus infinity; all queries see
            the keys before those.
    """

    queries: slice
    keys: slice
    mask: Tensor


@dataclass(frozen=True)
class Plan:
    """All tiles.

    Attributes:
        groups: the tiles of each group of rows; of one that stands for all, where all see the same.
        causal: whether queries see all keys up to their own place.
    """

    groups: list[list[Tile]]
    causal: bool


def plan(first_seen: Tensor) -> Plan:
    """The tiles of queries that see all keys from `first_seen` [rows or 1, seq] to their own place."""
    length = first_seen.shape[1]
    places = torch.arange(length, device=first_seen.device)
    groups = []
    for group in first_seen.split(_rows_at_once(length)):
        tiles = []
        for start in range(0, length, TILE):
            seen_from, queries = group[:, start : start + TILE], slice(start, min(start + TILE, length))
            keys = slice(int(seen_from.min()), queries.stop)
            seen = (places[keys] >= seen_from[..., None]) & (places[keys] <= places[queries, None])
            last = seen[..., int(seen.all((0, 1)).long().cumprod(0).sum()) :]
            mask = torch.zeros(last.shape, dtype=torch.bfloat16, device=last.device).masked_fill_(~last, -torch.inf)
            tiles.append(Tile(queries, keys, mask[:, None, None]))
        groups.append(tiles)
    return Plan(groups, causal=not first_seen.any())


@torch.compiler.disable
def tiled_attention(q: Tensor, k: Tensor, v: Tensor, tiles: Plan) -> Tensor:
    """q [batch, heads, seq, width], k and v [batch, kv_heads, seq, width]: [batch, heads, seq, width]."""
    out: Tensor = _TiledAttention.apply(q, k, v, tiles)
    return out


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tiles: Plan) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.tiles = tiles
        if tiles.causal:  # torch's own forward pass is quick, as long as it has no mask
            return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=q.shape[1] != k.shape[1])
        k, v, grouped = k.contiguous(), v.contiguous(), _by_kv_head(q, k)
        out = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        into = _by_kv_head(out, k)
        for rows, tile, room in _pieces(q, k, tiles, rooms=2):
            queries, keys, values = grouped[rows][..., tile.queries, :], k[rows, :, tile.keys], v[rows, :, tile.keys]
            p = _probabilities(_flat(queries), _flat(keys), tile, room)
            into[rows][..., tile.queries, :] = torch.bmm(p, _flat(values)).view(queries.shape)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_out: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        q, k, v = ctx.saved_tensors
        by_q = torch.empty_like(q.transpose(1, 2), memory_format=torch.contiguous_format).transpose(1, 2)
        by_k, by_v = (torch.zeros(x.shape, device=x.device) for x in (k, v))
        grouped, into, gradient = _by_kv_head(q, k), _by_kv_head(by_q, k), _by_kv_head(by_out, k)
        scale = q.shape[-1] ** -0.5
        for rows, tile, room in _pieces(q, k, ctx.tiles, rooms=3):
            queries, keys, values = grouped[rows][..., tile.queries, :], k[rows, :, tile.keys], v[rows, :, tile.keys]
            flat, keys_flat = _flat(queries), _flat(keys)
            p = _probabilities(flat, keys_flat, tile, room)
            by_this = _flat(gradient[rows][..., tile.queries, :])
            by_v[rows, :, tile.keys] += torch.bmm(p.mT, by_this).view(values.shape)
            by_p = torch.bmm(by_this, _flat(values).mT, out=room[2].view(p.shape))
            by_scores = torch._softmax_backward_data(by_p, p, -1, p.dtype, grad_input=room[0].view(p.shape))
            into[rows][..., tile.queries, :] = torch.bmm(by_scores, keys_flat).mul_(scale).view(queries.shape)
            by_k[rows, :, tile.keys] += torch.bmm(by_scores.mT, flat).view(keys.shape)
        return by_q, by_k.mul_(scale).to(k.dtype), by_v.to(v.dtype), None


def _probabilities(queries: Tensor, keys: Tensor, tile: Tile, room: list[Tensor]) -> Tensor:
    """Who looks where how much, [rows * kv_heads, heads of each * queries, keys], in room[1]."""
    shape = (*queries.shape[:2], keys.shape[1])
    scores = room[0].view(shape)
    torch.baddbmm(scores, queries, keys.mT, beta=0, alpha=queries.shape[-1] ** -0.5, out=scores)
    rows, _, _, places, last = tile.mask.shape
    scores.view(rows, -1, shape[1] // places, places, shape[2])[..., shape[2] - last :].add_(tile.mask)
    return torch.softmax(scores, -1, out=room[1].view(shape))


def _pieces(q: Tensor, k: Tensor, tiles: Plan, rooms: int) -> Iterator[tuple[slice, Tile, list[Tensor]]]:
    """Rows and tile after tile, each with room for its scores: the same memory for all, which stays in the cache."""
    batch, heads, length, _ = q.shape
    at_once = _rows_at_once(length)
    room = [q.new_empty(min(batch, at_once) * heads * TILE * length) for _ in range(rooms)]
    for number, first in enumerate(range(0, batch, at_once)):
        rows = slice(first, min(first + at_once, batch))
        for tile in tiles.groups[number if len(tiles.groups) > 1 else 0]:
            queries, keys = tile.queries.stop - tile.queries.start, tile.keys.stop - tile.keys.start
            elements = (rows.stop - rows.start) * heads * queries * keys
            yield rows, tile, [buffer[:elements] for buffer in room]


def _rows_at_once(length: int) -> int:
    return max(1, ROWS_TOKENS // length)


def _by_kv_head(x: Tensor, k: Tensor) -> Tensor:
    """[batch, heads, seq, width] as [batch, kv_heads, heads of each, seq, width]."""
    return x.unflatten(1, (k.shape[1], -1))


def _flat(x: Tensor) -> Tensor:
    """[rows, kv_heads, ..., width] as [rows * kv_heads, all in between, width]."""
    return x.reshape(x.shape[0] * x.shape[1], -1, x.shape[-1])
