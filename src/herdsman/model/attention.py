"""Attention behind one function, and the masks that say who sees whom."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from herdsman.model.options import ModelOptions


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention.

    q: [batch, heads, queries, width]; k, v: [batch, kv_heads, keys, width]; mask: [batch or 1, 1, queries, keys], True
    or 0 where a query sees a key and False or -inf elsewhere, or None for plain causal attention.
    Returns [batch, heads, queries, width].
    """
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None)


def document_mask(documents: Tensor) -> Tensor:
    """Causal mask that stops at document borders (paper, section 3.2): [batch, 1, seq, seq] of bool.

    documents: [batch, seq], the number of the document each token belongs to.
    """
    length = documents.shape[1]
    same = documents[:, :, None] == documents[:, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=documents.device).tril()
    return (same & causal)[:, None]


class KVCache:
    """Keys and values of all layers for generation: [layers][batch, kv_heads, length, head_width].

    A key is written to the slot of its position and seen by queries of its row at that position or later. Rows may have
    different lengths: what padding wrote to slots past a row's end is overwritten before that row reaches them.
    """

    def __init__(
        self, model: ModelOptions, batch: int, length: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ):
        shape = (model.layers, batch, model.kv_heads, length, model.head_width)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)

    @property
    def length(self) -> int:
        """Slots a row has."""
        return self.keys.shape[3]

    def update(self, layer: int, positions: Tensor, k: Tensor, v: Tensor, slots: int) -> tuple[Tensor, Tensor]:
        """Writes k, v [batch, kv_heads, seq, width] at positions [batch, seq]; returns the first `slots` slots."""
        index = positions[:, None, :, None].expand_as(k)
        self.keys[layer].scatter_(2, index, k)
        self.values[layer].scatter_(2, index, v)
        return self.keys[layer][:, :, :slots], self.values[layer][:, :, :slots]

    def select(self, rows: Tensor) -> None:
        """Keeps only these rows [kept], in this order, when others have finished."""
        self.keys, self.values = self.keys[:, rows], self.values[:, rows]


def cache_mask(positions: Tensor, slots: int) -> Tensor:
    """[batch, 1, queries, slots]: a query at position p sees slots 0 to p of its row."""
    return (torch.arange(slots, device=positions.device) <= positions[:, :, None])[:, None]
