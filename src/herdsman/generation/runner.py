"""One step of a model over many sequences at different places: the protocol, and the way torch does it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, scaled_dot_product_attention, silu

from herdsman.generation.cache import BLOCK_TOKENS, PagedCache, blocks_for
from herdsman.model.llama import Block, Llama
from herdsman.model.options import ModelOptions
from herdsman.model.rope import rotate

Weights = Literal["auto", "float32", "bfloat16", "int8", "float8"]

Matrix = Callable[[Tensor], Tensor]
"""Activations [tokens, inputs] to [tokens, outputs]."""

MakeMatrix = Callable[[str, Sequence[Tensor]], Matrix]
"""Makes one of weights [outputs, inputs] that are applied to the same activations, for a place such as "3.ffn.up"."""


@dataclass
class Step:
    """Tokens to compute: of some sequences one each, which is decoding, and of others a stretch of the prompt.

    Attributes:
        tokens: int64 [T], those of all sequences laid end to end.
        starts: [S + 1]; those of sequence s are `tokens[starts[s] : starts[s + 1]]`.
        lengths: [S], tokens of each sequence that are in the cache already. Token j of sequence s stands at the
            position `lengths[s] + j - starts[s]`.
        tables: [S], the blocks of each sequence in order, enough for all its tokens.
        wanted: int64 [R], places in `tokens` whose logits are asked for.
    """

    tokens: Tensor
    starts: list[int]
    lengths: list[int]
    tables: list[list[int]]
    wanted: Tensor


class Runner(Protocol):
    """A model with its weights in some form.

    Attributes:
        dtype: of the keys and values it writes, and of the cache it needs.
        device: where it computes.
        vocab_size: columns of its logits.
    """

    options: ModelOptions
    vocab_size: int
    dtype: torch.dtype
    device: torch.device

    def forward(self, step: Step, cache: PagedCache) -> Tensor:
        """Computes the step's tokens and writes their keys and values: float32 logits [R, vocab] of those wanted."""
        ...


def make_runner(model: Llama, weights: Weights = "float32") -> Runner:
    """The fastest runner for a model's device and the form its weights shall have.

    Raises:
        MachineError: this machine cannot compute with such weights.
    """
    if weights in ("float32", "bfloat16"):
        return TorchRunner(model, getattr(torch, weights))
    if weights == "auto":
        return TorchRunner(model, torch.bfloat16 if model.output_weight.is_cuda else torch.float32)
    raise NotImplementedError(weights)


def dense(name: str, weights: Sequence[Tensor], dtype: torch.dtype) -> Matrix:
    """Weights as they are; where they must be copied for another type, those of one place become one matrix."""
    if all(weight.dtype == dtype for weight in weights):
        if len(weights) == 1:
            return lambda x: linear(x, weights[0])
        return lambda x: torch.cat([linear(x, weight) for weight in weights], -1)
    fused = torch.cat([weight.to(dtype) for weight in weights])
    return lambda x: linear(x, fused)


class TorchRunner:
    """Any device that torch has, in any of its floating-point types.

    Args:
        model: the decoder. Weights that have the type already are used where they are, not copied.
        dtype: of activations, keys and values.
        make_matrix: makes the matrices; `dense` in `dtype` if left out.
    """

    def __init__(self, model: Llama, dtype: torch.dtype, make_matrix: MakeMatrix | None = None):
        make = make_matrix or (lambda name, weights: dense(name, weights, dtype))
        self.options, self.vocab_size = model.options, 1 if model.is_scoring else model.vocab_size
        self.dtype, self.device = dtype, model.output_weight.device
        assert model.embedding is not None
        assert model.norm is not None
        with torch.inference_mode():
            self.cos, self.sin = model.cos, model.sin
            self.embedding, self.norm = model.embedding.weight.detach(), model.norm.weight.detach().to(dtype)
            self.output = make("output", [model.output_weight.detach()])
            blocks = cast("list[Block]", list(model.blocks.values()))
            self.layers = [_Layer(number, block, dtype, make) for number, block in enumerate(blocks)]

    @torch.inference_mode()
    def forward(self, step: Step, cache: PagedCache) -> Tensor:
        eps, options = self.options.norm_eps, self.options
        heads, kv_heads, width = options.heads, options.kv_heads, options.head_width
        plan = _Plan(step, options, self.dtype, self.device)
        cos, sin = self.cos[plan.positions][:, None], self.sin[plan.positions][:, None]
        x = embedding(step.tokens.to(self.device), self.embedding).to(self.dtype)
        for number, layer in enumerate(self.layers):
            projected = layer.qkv(rms_norm(x, x.shape[-1:], layer.attention_norm, eps)).unflatten(-1, (-1, width))
            turned = rotate(projected[:, : heads + kv_heads], cos, sin)
            q, k, v = turned[:, :heads], turned[:, heads:], projected[:, heads + kv_heads :]
            cache.keys[number][plan.blocks, :, plan.slots] = k
            cache.values[number][plan.blocks, :, plan.slots] = v
            x = x + layer.out(plan.attend(q, k, v, cache.keys[number], cache.values[number]).flatten(1))
            gate, up = layer.gate_up(rms_norm(x, x.shape[-1:], layer.ffn_norm, eps)).chunk(2, -1)
            x = x + layer.down(silu(gate) * up)
        x = x[step.wanted.to(self.device)]
        return self.output(rms_norm(x, x.shape[-1:], self.norm, eps)).float()


class _Layer:
    def __init__(self, number: int, block: Block, dtype: torch.dtype, make: MakeMatrix):
        attention, ffn = block.attention, block.ffn

        def matrix(name: str, *projections: torch.nn.Linear) -> Matrix:
            return make(f"{number}.{name}", [projection.weight.detach() for projection in projections])

        self.qkv = matrix("attention.qkv", attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = matrix("attention.out", attention.o_proj)
        self.gate_up = matrix("ffn.gate_up", ffn.gate_proj, ffn.up_proj)
        self.down = matrix("ffn.down", ffn.down_proj)
        self.attention_norm = block.attention_norm.weight.detach().to(dtype)
        self.ffn_norm = block.ffn_norm.weight.detach().to(dtype)


class _Plan:
    """Where each token of a step stands, and which sequences attend together: those of like size, filled up."""

    def __init__(self, step: Step, options: ModelOptions, dtype: torch.dtype, device: torch.device):
        positions: list[int] = []
        blocks: list[int] = []
        groups: defaultdict[tuple[bool, int, int], list[int]] = defaultdict(list)
        for row, (start, end) in enumerate(pairwise(step.starts)):
            length, table = step.lengths[row], step.tables[row]
            places = range(length, length + end - start)
            positions += places
            blocks += [table[place // BLOCK_TOKENS] for place in places]
            # Doubling sizes: at most half of what a group computes is filling.
            groups[length == 0, (end - start - 1).bit_length(), blocks_for(places.stop).bit_length()].append(row)
        self.positions = torch.tensor(positions, device=device)
        self.blocks = torch.tensor(blocks, device=device)
        self.slots = self.positions % BLOCK_TOKENS
        self.groups = [
            (_Fresh if fresh else _Continued)(step, rows, options, dtype, device)
            for (fresh, _, _), rows in groups.items()
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
    """Sequences that go on: their keys and values are collected from the cache."""

    def __init__(self, step: Step, rows: list[int], options: ModelOptions, dtype: torch.dtype, device: torch.device):
        super().__init__(step, rows, options, dtype, device)
        ends = [step.lengths[row] + step.starts[row + 1] - step.starts[row] for row in rows]
        longest = blocks_for(max(ends))
        tables = [step.tables[row][:longest] for row in rows]
        self.tables = torch.tensor([[*table, *table[:1] * (longest - len(table))] for table in tables], device=device)
        lengths = torch.tensor([step.lengths[row] for row in rows])[:, None]
        positions = lengths + torch.arange(self.places.shape[1])
        seen = torch.arange(longest * BLOCK_TOKENS) <= positions[..., None]
        groups = options.heads // options.kv_heads
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill_(~seen, -torch.inf)
        self.mask = mask.repeat(1, groups, 1)[:, None].to(device)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        q = self._by_sequence(q)
        rows, heads, queries, width = q.shape
        # The query heads that share a key head are queries of it: keys need not be repeated.
        q = q.reshape(rows, self.kv_heads, -1, width)
        k, v = (
            x[self.tables].transpose(1, 2).reshape(rows, self.kv_heads, -1, width)
            for x in (keys, values)
        )  # fmt: skip
        out = scaled_dot_product_attention(q, k, v, attn_mask=self.mask)
        return out.view(rows, heads, queries, width).transpose(1, 2)
