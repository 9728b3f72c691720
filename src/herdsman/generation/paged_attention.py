"""Attention of a step over the paged cache: sequences of like size together, what they begin with alike once."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from herdsman.generation.cache import BLOCK_TOKENS, blocks_for
from herdsman.generation.step import Step
from herdsman.model.options import ModelOptions

TRUNK_BLOCKS = 8
"""Sequences that have so many blocks in common look at those together: one copy and one product for all of them."""

TRUNK_QUERIES = 16
"""Longest stretch of a sequence that does, so that the scores of all take little memory."""


class AttentionPlan:
    """Where each token of a step stands, and which sequences attend together: those of like size, filled up."""

    def __init__(self, step: Step, options: ModelOptions, dtype: torch.dtype, device: torch.device):
        positions: list[int] = []
        blocks: list[int] = []
        groups: defaultdict[Hashable, list[int]] = defaultdict(list)
        trunks = [_trunk(step, row) for row in range(len(step.lengths))]
        sharing = Counter(trunks)
        for row, (start, end) in enumerate(pairwise(step.starts)):
            length, table = step.lengths[row], step.tables[row]
            places = range(length, length + end - start)
            positions += places
            blocks += [table[place // BLOCK_TOKENS] for place in places]
            # Doubling sizes: at most half of what a group computes is filling.
            sizes = (end - start - 1).bit_length(), blocks_for(places.stop).bit_length()
            groups[length == 0, *sizes, trunks[row] if sharing[trunks[row]] > 1 else None].append(row)
        self.positions = torch.tensor(positions, device=device)
        self.blocks = torch.tensor(blocks, device=device)
        self.slots = self.positions % BLOCK_TOKENS
        self.groups = [
            (_Continued if step.lengths[rows[0]] else _Fresh)(step, rows, options, dtype, device)
            for rows in groups.values()
        ]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """q, k, v [T, heads, width] and a layer's cache: [T, heads, width]."""
        if len(self.groups) == 1 and self.groups[0].is_all:
            return self.groups[0].attend(q, k, v, keys, values).flatten(0, 1)
        out = torch.empty_like(q)
        for group in self.groups:
            found = group.attend(q[group.places], k[group.places], v[group.places], keys, values)
            out[group.places[group.real]] = found[group.real]
        return out


class _Group:
    """Sequences that attend together.

    Attributes:
        places: [rows, queries], where the tokens of each are in the step.
        real: [rows, queries], False where a row is filled up.
        is_all: whether these are all tokens of the step in their order, and nothing else.
    """

    def __init__(self, step: Step, rows: list[int], options: ModelOptions, dtype: torch.dtype, device: torch.device):
        counts = [step.starts[row + 1] - step.starts[row] for row in rows]
        firsts = torch.tensor([step.starts[row] for row in rows])
        offsets = torch.arange(max(counts))
        real = offsets < torch.tensor(counts)[:, None]
        self.is_all = len(rows) == len(step.lengths) and bool(real.all())
        self.places, self.real = (firsts[:, None] + offsets * real).to(device), real.to(device)
        self.kv_heads = options.kv_heads

    def _by_sequence(self, x: Tensor) -> Tensor:
        """[T, heads, width] or [rows, queries, heads, width] as [rows, heads, queries, width]."""
        return x.view(*self.places.shape, *x.shape[-2:]).transpose(1, 2)


class _Fresh(_Group):
    """Sequences of which nothing is in the cache yet: what they see is in the step, and plainly causal. Filling stands
    behind all that is real, so no mask is needed to hide it."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q, k, v = map(self._by_sequence, (q, k, v))
        grouped = q.shape[1] != k.shape[1]
        return scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=grouped).transpose(1, 2)


class _Continued(_Group):
    """Sequences that go on: their keys and values are collected from the cache. What stands in the blocks that all of
    them begin with, the trunk, is collected once, and every query sees all of it."""

    def __init__(self, step: Step, rows: list[int], options: ModelOptions, dtype: torch.dtype, device: torch.device):
        super().__init__(step, rows, options, dtype, device)
        ends = [step.lengths[row] + step.starts[row + 1] - step.starts[row] for row in rows]
        longest = blocks_for(max(ends))
        tables = [step.tables[row][:longest] for row in rows]
        trunk = _shared(tables, min(step.lengths[row] for row in rows) // BLOCK_TOKENS)
        self.trunk_tokens, self.heads = trunk * BLOCK_TOKENS, options.heads
        padded = torch.tensor([[*table, *table[:1] * (longest - len(table))] for table in tables])
        # Where in the cache of a layer, seen as [blocks * kv_heads, ...], the parts of each head are, in order.
        parts = padded[:, None] * options.kv_heads + torch.arange(options.kv_heads)[:, None]
        self.own, self.trunk = (x.flatten().to(device) for x in (parts[..., trunk:], parts[0, :, :trunk]))
        lengths = torch.tensor([step.lengths[row] for row in rows])[:, None]
        positions = lengths + torch.arange(self.places.shape[1])
        seen = torch.arange(self.trunk_tokens, longest * BLOCK_TOKENS) <= positions[..., None]
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
        self.mask = mask.repeat(1, options.heads // options.kv_heads, 1)[:, None].to(device)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q = self._by_sequence(q)
        rows, heads, queries, width = q.shape
        # The query heads that share a key head are queries of it: keys need not be repeated.
        q = q.reshape(rows, self.kv_heads, -1, width)
        k, v = (x.flatten(0, 1).index_select(0, self.own).view(rows, self.kv_heads, -1, width) for x in (keys, values))
        if self.trunk_tokens:
            out = self._with_trunk(q, k, v, keys, values)
        else:
            out = scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return out.reshape(rows, heads, queries, width).transpose(1, 2)

    def _with_trunk(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """One softmax over the trunk and what is each sequence's own; q [rows, kv_heads, queries, width], and so are k
        and v, of the own tokens."""
        rows, kv_heads, queries, width = q.shape
        trunk_k, trunk_v = (
            x.flatten(0, 1).index_select(0, self.trunk).view(kv_heads, -1, width) for x in (keys, values)
        )
        q = q * width**-0.5
        of_all = q.transpose(0, 1).reshape(kv_heads, rows * queries, width)
        to_trunk = (of_all @ trunk_k.mT).view(kv_heads, rows, queries, -1).transpose(0, 1)
        scores = torch.cat([to_trunk, q @ k.mT + self.mask], -1)
        shares = torch.softmax(scores.float(), -1).to(q.dtype)
        to_trunk, to_own = shares.split([self.trunk_tokens, k.shape[2]], -1)
        from_trunk = to_trunk.transpose(0, 1).reshape(kv_heads, rows * queries, -1) @ trunk_v
        return from_trunk.view(kv_heads, rows, queries, width).transpose(0, 1) + to_own @ v


def _trunk(step: Step, row: int) -> tuple[int, ...] | None:
    """The first blocks of a sequence, if it may look at them together with others."""
    count = step.starts[row + 1] - step.starts[row]
    if count > TRUNK_QUERIES or step.lengths[row] < TRUNK_BLOCKS * BLOCK_TOKENS:
        return None
    return tuple(step.tables[row][:TRUNK_BLOCKS])


def _shared(tables: list[list[int]], most: int) -> int:
    """How many blocks all tables begin with; 0 if that is not worth while."""
    if len(tables) == 1:
        return 0
    count = next((place for place, blocks in enumerate(zip(*tables, strict=False)) if len(set(blocks)) > 1), most)
    count = min(count, most)
    return count if count >= TRUNK_BLOCKS else 0
