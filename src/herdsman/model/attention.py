"""Attention behind one interface, and who sees whom."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from herdsman.model.tiled import Plan, plan, tiled_attention


@dataclass(frozen=True)
class Sight:
    """Who sees whom: a query sees the keys of its document at its own place and before (paper, section 3.2).

    Attributes:
        query_places, key_places: [queries] and [keys], places in the sequence. They differ on a rank of context
            parallelism, which has the queries of some places only.
        query_documents, key_documents: [batch, queries] and [batch, keys], document numbers; None where all tokens of a
            sequence belong together.
    """

    query_places: Tensor
    key_places: Tensor
    query_documents: Tensor | None = None
    key_documents: Tensor | None = None

    @property
    def aligned(self) -> bool:
        """Whether queries and keys are the same tokens in the same order."""
        return self.query_places is self.key_places

    @property
    def plain(self) -> bool:
        """Whether this is causal attention over whole sequences and nothing else."""
        return self.aligned and self.query_documents is None

    def mask(self) -> Tensor | None:
        """[batch or 1, 1, queries, keys] of bool, True where a query sees a key; None where the sight is plain."""
        if self.plain:
            return None
        mask = (self.query_places[:, None] >= self.key_places)[None]
        if self.query_documents is not None and self.key_documents is not None:
            mask = mask & (self.query_documents[:, :, None] == self.key_documents[:, None, :])
        return mask[:, None]

    def first_seen(self) -> Tensor | None:
        """[batch or 1, queries], the place of the first key that a query sees; None where places are not aligned."""
        if not self.aligned:
            return None
        if self.query_documents is None:
            return torch.zeros_like(self.query_places)[None]
        return torch.where(self._borders(), self.query_places, 0).cummax(1).values

    def _borders(self) -> Tensor:
        """[batch, queries], True where a document begins."""
        assert self.query_documents is not None
        borders = torch.ones_like(self.query_documents, dtype=torch.bool)
        borders[:, 1:] = self.query_documents[:, 1:] != self.query_documents[:, :-1]
        return borders

    def spans(self) -> list[tuple[int, int, int]] | None:
        """(row, first place, place after the last) of every document; None where spans cannot say who sees whom."""
        if not self.aligned or self.query_documents is None:
            return None
        length = self.query_documents.shape[1]
        starts = self._borders().nonzero().tolist()
        ends = [place if place else length for _, place in starts[1:]] + [length]
        return [(row, start, end) for (row, start), end in zip(starts, ends, strict=True)]


class Backend(Protocol):
    """A way to compute attention."""

    def prepare(self, sight: Sight) -> Any:
        """What `attend` needs to know of a sight; worked out once for all layers."""
        ...

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prepared: Any) -> Tensor:
        """q [batch, heads, queries, width], k and v [batch, kv_heads, keys, width]: [batch, heads, queries, width]."""
        ...


class Dense:
    """torch's attention, with the mask written out where there is more than causality."""

    def prepare(self, sight: Sight) -> Tensor | None:
        return sight.mask()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prepared: Tensor | None) -> Tensor:
        grouped = not q.is_cuda and q.shape[1] != k.shape[1]
        if not grouped:  # CUDA's kernels that take a mask want keys and values once for every query head
            groups = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
        return scaled_dot_product_attention(q, k, v, attn_mask=prepared, is_causal=prepared is None, enable_gqa=grouped)


class Tiled:
    """Matrix products over tiles of queries: the fastest on CPUs, see `model.tiled`."""

    def prepare(self, sight: Sight) -> Plan | Tensor | None:
        first_seen = sight.first_seen()
        return sight.mask() if first_seen is None else plan(first_seen)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prepared: Plan | Tensor | None) -> Tensor:
        return tiled_attention(q, k, v, prepared) if isinstance(prepared, Plan) else Dense().attend(q, k, v, prepared)


class Flex:
    """FlexAttention, compiled into one kernel that skips the blocks nobody sees. Trains on CUDA only."""

    def prepare(self, sight: Sight) -> Any:
        if sight.plain:
            return None
        from torch.nn.attention.flex_attention import create_block_mask

        queries, keys, ours, theirs = sight.query_places, sight.key_places, sight.query_documents, sight.key_documents

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            before = queries[query] >= keys[key]
            return before if ours is None or theirs is None else before & (ours[row, query] == theirs[row, key])

        batch = None if ours is None else len(ours)
        return create_block_mask(sees, batch, None, len(queries), len(keys), device=str(queries.device))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prepared: Any) -> Tensor:
        if prepared is None:
            return Dense().attend(q, k, v, None)
        grouped = q.shape[1] != k.shape[1]
        return _flex_attention(q.is_cuda)(q, k, v, block_mask=prepared, enable_gqa=grouped)


class Varlen:
    """Flash attention over documents laid end to end. CUDA, in half precision."""

    def prepare(self, sight: Sight) -> Any:
        spans = sight.spans()
        if spans is None:
            return Flex().prepare(sight)
        length = len(sight.query_places)
        ends = [0] + [row * length + end for row, _, end in spans]
        offsets = torch.tensor(ends, dtype=torch.int32, device=sight.query_places.device)
        return offsets, max(end - start for _, start, end in spans)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, prepared: Any) -> Tensor:
        if not isinstance(prepared, tuple):
            return Flex().attend(q, k, v, prepared)
        from torch.nn.attention.varlen import varlen_attn

        offsets, longest = prepared
        batch, _, length, width = q.shape
        q, k, v = (x.transpose(1, 2).reshape(batch * length, -1, width) for x in (q, k, v))
        grouped = q.shape[1] != k.shape[1]
        out: Any = varlen_attn(q, k, v, offsets, offsets, longest, longest, window_size=(-1, 0), enable_gqa=grouped)
        return out.view(batch, length, -1, width).transpose(1, 2)


BACKENDS: dict[str, type[Backend]] = {"dense": Dense, "tiled": Tiled, "flex": Flex, "varlen": Varlen}


def choose_backend(name: str, device: torch.device, dtype: torch.dtype) -> Backend:
    """The back-end of a name; `auto` is the fastest of the device's that can train."""
    if name != "auto":
        return BACKENDS[name]()
    if device.type != "cuda":
        return Tiled()
    return Varlen() if dtype.itemsize == 2 and _has_varlen() else Flex()


def _has_varlen() -> bool:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return False
    return {"window_size", "enable_gqa"} <= set(inspect.signature(varlen_attn).parameters)


@lru_cache(maxsize=2)
def _flex_attention(compiled: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiled else flex_attention
