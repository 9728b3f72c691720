"""Log-probabilities of target tokens from hidden states, without ever holding the logits of the whole vocabulary.

The vocabulary is gone through in slices, twice: forward sums the exponentials, backward computes each slice's logits
again and turns them into gradients on the spot. A slice stays in the processor's cache, so the fourth matrix product
costs less than the passes over memory that it saves, and a vocabulary of 128,000 needs no more room than one of 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

SLICE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 27}
LEAST_SLICE = 256


class VocabularyShard(Protocol):
    """What a rank must know that holds only some rows of the output matrix.

    Attributes:
        first: the token of its first row.
    """

    first: int

    def log_sum_exp(self, local: Tensor) -> Tensor:
        """log of the sum over all ranks of exp(local)."""
        ...

    def sum(self, local: Tensor) -> Tensor:
        """Sum over all ranks."""
        ...

    def highest(self, local: Tensor, tokens: Tensor) -> Tensor:
        """Over all ranks, the token whose value is the highest."""
        ...


def token_logprobs(
    hidden: Tensor, weight: Tensor, targets: Tensor, shard: VocabularyShard | None = None
) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and the logarithm of each softmax's denominator, in float32.

    Args:
        hidden: [tokens, dim].
        weight: output matrix [vocab, dim], or this rank's rows of it.
        targets: [tokens], below the size of the whole vocabulary.
        shard: which rows of the matrix these are, if not all. The gradient of `hidden` is then this rank's part of it,
            to be summed over ranks by the caller.

    Returns:
        Both [tokens]. Matrix products run in autocast's precision where that is on, else in that of `hidden`.
    """
    autocast = torch.is_autocast_enabled(hidden.device.type)
    dtype = torch.get_autocast_dtype(hidden.device.type) if autocast else hidden.dtype
    return _TokenLogprobs.apply(hidden, weight, targets, dtype, shard)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, dtype: torch.dtype, shard: VocabularyShard | None
    ) -> tuple[Tensor, Tensor]:
        h, w = hidden.to(dtype), weight.to(dtype)
        by_slice = []
        for _, part, logits, exact in _slices(h, w, torch.float32):
            p = exact.copy_(torch.mm(h, part.T, out=logits))
            highest = p.amax(-1, keepdim=True)
            by_slice.append(p.sub_(highest).exp_().sum(-1).log_().add_(highest[:, 0]))
        normalisers = torch.stack(by_slice)
        normaliser = normalisers.logsumexp(0)
        rows = targets - shard.first if shard else targets
        inside = (rows >= 0) & (rows < len(w))
        rows = rows.clamp(0, len(w) - 1)
        chosen = (h.float() * w[rows].float()).sum(-1)
        if shard:
            normaliser = shard.log_sum_exp(normaliser)
            chosen = shard.sum(chosen * inside)
        ctx.save_for_backward(h, weight, rows, inside, normalisers, normaliser)
        ctx.dtypes = (hidden.dtype, dtype)
        return chosen - normaliser, normaliser

    @staticmethod
    def backward(ctx: Any, by_logprob: Tensor, by_normaliser: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        """With p the softmax, the logits' gradient is (by_normaliser - by_logprob) p + by_logprob at the target. In a
        slice p is the slice's own softmax times its share of the denominator."""
        h, weight, rows, inside, normalisers, normaliser = ctx.saved_tensors
        hidden_dtype, dtype = ctx.dtypes
        w, by_row = weight.to(dtype), h.T.contiguous()
        scales = (by_normaliser - by_logprob) * (normalisers - normaliser).exp()
        by_hidden = torch.zeros(h.shape, dtype=torch.float32, device=h.device)
        by_weight = torch.empty(weight.shape, dtype=torch.float32, device=h.device)
        for (start, part, logits, p), scale in zip(_slices(h, w, dtype), scales, strict=True):
            torch.softmax(torch.mm(h, part.T, out=logits), -1, out=p)
            by_hidden.addcmul_((p @ part).float(), scale[:, None])
            by_weight[start : start + len(part)] = ((by_row * scale).to(dtype) @ p).T
        by_target = (by_logprob * inside)[:, None]
        by_hidden.addcmul_(w[rows].float(), by_target)
        by_weight.index_add_(0, rows, h.float() * by_target)
        return by_hidden.to(hidden_dtype), by_weight.to(weight.dtype), None, None, None


@torch.no_grad()
def likeliest(hidden: Tensor, weight: Tensor, shard: VocabularyShard | None = None) -> Tensor:
    """The token with the highest score for each of the hidden states [tokens, dim]: [tokens]."""
    h, w = hidden.float(), weight.float()
    best, tokens = torch.full((len(h),), -torch.inf, device=h.device), torch.zeros(len(h), device=h.device).long()
    for start, part, logits, _ in _slices(h, w, h.dtype):
        highest, places = torch.mm(h, part.T, out=logits).max(-1)
        tokens = torch.where(highest > best, places + start, tokens)
        best = torch.maximum(best, highest)
    return shard.highest(best, tokens + shard.first) if shard else tokens


def _slices(h: Tensor, weight: Tensor, second: torch.dtype) -> Iterator[tuple[int, Tensor, Tensor, Tensor]]:
    """Slices of the vocabulary: the first row of each, its rows, and room for its logits and for what is made of them.

    The rooms, [tokens, rows] in the precision of h and in a second one, are the same for every slice: allocated anew
    each time they would cost more than the products (and the C library would not even find the freed room again).
    """
    size = SLICE_ELEMENTS.get(h.device.type, SLICE_ELEMENTS["cpu"]) // max(1, len(h))
    size = min(max(LEAST_SLICE, size), len(weight))
    rooms = [torch.empty(len(h) * size, dtype=dtype, device=h.device) for dtype in (h.dtype, second)]
    for start in range(0, len(weight), size):
        part = weight[start : start + size]
        logits, other = (room[: len(h) * len(part)].view(len(h), len(part)) for room in rooms)
        yield start, part, logits, other
