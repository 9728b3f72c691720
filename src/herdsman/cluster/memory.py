"""What training keeps in memory, by part, on the fullest rank of a layout. Needs no torch.

It follows the code of `model/` and `training/`: weights and optimizer states in float32, sharded over data and context
ranks; gathered copies in the precision of matrix products; gradients accumulated in float32, whole on every rank until
the last micro-batch; attention that keeps no probabilities; a loss that never holds the logits of all tokens.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from herdsman.cluster.hardware import Hardware
from herdsman.cluster.job import Job, Rank, Share, ends_of, ranks_of
from herdsman.cluster.schedules import gathered_share, in_flight, stages_per_rank
from herdsman.training.parallel.layout import Layout

SLICE_ELEMENTS = {"cpu": 1 << 21, "cuda": 1 << 27}  # logits at a time, as in model/likelihood.py
TILE = 128  # queries at a time of the attention for CPUs, as in model/tiled.py
SPREAD = (0.9, 1.2)
"""Measured over reckoned on layouts of two CPU processes, see tests/cluster/test_memory.py. Allocators of GPUs round up
and leave gaps besides."""


@dataclass(frozen=True)
class Memory:
    """Bytes of the fullest rank.

    Attributes:
        parts: in the order in which they are shown.
        rank: of the pipeline, which one that is.
    """

    parts: dict[str, float]
    rank: int

    @property
    def total_bytes(self) -> float:
        return sum(self.parts.values())

    def as_json(self) -> dict[str, Any]:
        return {"rank": self.rank, "total_bytes": self.total_bytes, **self.parts}


def estimate_memory(job: Job, layout: Layout, hardware: Hardware) -> Memory:
    """Memory at the worst moment of a step, on the rank where it is most."""
    share, ranks = Share.of(job, layout), ranks_of(job, layout)
    block = block_bytes(job, layout, hardware)
    # The first has most micro-batches in flight, the second as many layers as any, the last the logits.
    most: Memory | None = None
    for rank in {ranks[0], ranks[min(1, len(ranks) - 1)], ranks[-1]}:
        memory = Memory(_parts(job, layout, hardware, share, rank, block), rank.number)
        if most is None or memory.total_bytes > most.total_bytes:
            most = memory
    assert most
    return most


def block_bytes(job: Job, layout: Layout, hardware: Hardware) -> float:
    """What a block keeps for its backward pass, for each token of a rank's micro-batch."""
    s, tensor, each = job.sizes, layout.tensor, job.bytes_each
    if job.trainer != "herdsman":
        return each * (2 * s.dim + 2 * s.queries + 2 * s.keys + 2 * s.ffn) / tensor
    residual = residual_bytes(job, layout) * s.dim / tensor
    if job.recompute == "full":
        return residual
    if job.recompute == "none":
        return kept_bytes(job, layout, hardware)
    # Results of products and of reductions: what the two last matrices give is whole before it is reduced.
    products = each * (s.queries + 2 * s.keys + 2 * s.ffn) / tensor + 2 * each * s.dim
    attention = each * s.queries / tensor if hardware.device == "cuda" else 0  # tiled attention is computed again
    reduced = 2 * each * s.dim / tensor if tensor > 1 else 0
    return residual + products + attention + reduced


def kept_bytes(job: Job, layout: Layout, hardware: Hardware) -> float:
    """What a block keeps where nothing is computed again, for each token of a rank's micro-batch.

    With tensor parallelism the residual stream is split over the sequence; what the matrices take is gathered, and kept
    gathered. With context parallelism the keys and values of all ranks are kept, and attention's result in two forms;
    on CPUs, which then have no tiles, a mask too.
    """
    s, tensor, each = job.sizes, layout.tensor, job.bytes_each
    measured = hardware.efficiencies.activations
    residual = 2 * (residual_bytes(job, layout) * s.dim + 4) / tensor  # with the norms' scales
    attention = each * 2 * (s.queries + s.keys * layout.context) / tensor
    if layout.context > 1:
        attention += each * s.queries / tensor + (each * job.sequence_length if hardware.device == "cpu" else 0)
    return (measured.value if measured else 1.0) * (residual + 2 * each * s.dim + attention + 4 * each * s.ffn / tensor)


def residual_bytes(job: Job, layout: Layout) -> int:
    """Of a number of the residual stream: FSDP casts what enters a block, autocast on a single process does not."""
    return job.bytes_each if layout.processes > 1 else 4


def _parts(job: Job, layout: Layout, hardware: Hardware, share: Share, rank: Rank, block: float) -> dict[str, float]:
    s, each = job.sizes, job.bytes_each
    inner, outer = rank.blocks * s.block / layout.tensor, ends_of(job, rank) / layout.tensor
    local, shards = inner + outer, layout.shards * layout.context
    flying = in_flight(layout, rank.number, share.micro_batches)
    kept = rank.blocks * block * share.tokens * flying
    if rank.is_last:
        # The last norm's input and output, the latter gathered.
        kept += share.tokens * (residual_bytes(job, layout) * s.dim / layout.tensor + each * s.dim)
    if hardware.device == "cpu":
        kept += share.tokens * 2 * (job.keys + TILE / 2) * flying  # masks of tiled attention
    handed = received = 0.0
    if layout.pipeline > 1 and job.trainer == "herdsman":
        # torch's pipelines keep what a stage hands on until its gradient is back, and have a buffer for what each stage
        # will receive in each micro-batch, forward and backward.
        state = share.tokens * each * s.dim / layout.tensor
        handed = state * stages_per_rank(layout) * flying
        received = state * share.micro_batches * (2 * stages_per_rank(layout) - rank.is_first - rank.is_last)
    summed_at_once = share.needed == 1 and layout.pipeline == 1
    states = 8 * local if job.optimizer == "adamw" else 4 * inner + 8 * outer
    loss = _loss_bytes(job, layout, hardware, share) if rank.is_last else 0.0
    moving = 0.0 if layout.processes == 1 else (2 * each + 4) * s.block / layout.tensor
    return {
        "weights": 4 * local / shards + _copies(job, layout, rank, local, kept),
        "gradients": 4 * local / shards if summed_at_once else 4 * local,
        "optimizer": states / shards,
        "activations": kept + handed,
        "logits": loss,
        # Beyond the loss's, which is over when the first block's backward pass begins.
        "buffers": max(0.0, _backward_bytes(job, layout, hardware, share) - loss) + moving + received,
    }


def _copies(job: Job, layout: Layout, rank: Rank, local: float, kept: float) -> float:
    """Weights in the precision of matrix products, beside those in float32.

    Args:
        local: parameters of the rank before they are sharded.
        kept: bytes of activations.
    """
    if layout.processes == 1:
        # Autocast's, kept for the step; where blocks are computed again it makes them anew each time.
        blocks = rank.blocks if job.recompute == "none" else 1
        return job.bytes_each * blocks * job.sizes.matrices if job.bytes_each < 4 else 0.0
    if layout.pipeline > 1 and job.trainer == "herdsman":
        return job.bytes_each * local * gathered_share(layout)
    copies = job.bytes_each * local
    # Freed between forward and backward, they grow in the backward pass as activations shrink.
    return max(0.0, copies - kept) if layout.reshard_after_forward and layout.pipeline == 1 else copies


def _loss_bytes(job: Job, layout: Layout, hardware: Hardware, share: Share) -> float:
    """Room for a slice of logits, twice, for the output's gradient in float32, and for hidden states and their gradient
    in several forms, see model/likelihood.py."""
    vocabulary = job.vocab_size / layout.tensor
    slice_ = min(share.tokens * vocabulary, max(256 * share.tokens, SLICE_ELEMENTS[hardware.device]))
    weight = vocabulary * job.sizes.dim
    cast = job.bytes_each * weight if layout.processes == 1 and job.bytes_each < 4 else 0
    return slice_ * 2 * job.bytes_each + 4 * weight + cast + 20 * share.tokens * job.sizes.dim


def _backward_bytes(job: Job, layout: Layout, hardware: Hardware, share: Share) -> float:
    """Of a block's backward pass: gradients on their way, and what is computed again."""
    s, each = job.sizes, job.bytes_each
    passing = (2 * each * s.ffn + 8 * s.dim) / layout.tensor
    again = 0.0
    if job.recompute == "full":
        again = kept_bytes(job, layout, hardware)
    elif job.recompute == "selective":
        again = each * (2 * s.dim + (s.queries + s.keys + 2 * s.ffn) / layout.tensor)
    return share.tokens * (passing + again)
