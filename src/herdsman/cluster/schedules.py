"""What torch's pipeline schedules cost: idle time, micro-batches in flight, weights gathered. Needs no torch.

Closed forms of the schedules of `torch.distributed.pipelining`, exact for micro-batches that are at least two for each
rank and a multiple of the ranks; forward, backward for inputs and backward for weights take as long each.
"""

from __future__ import annotations

from herdsman.training.parallel.layout import V_SHAPED, Layout

SPLIT_BACKWARD = ("InterleavedZeroBubble", *V_SHAPED)
ACTIVE_STAGES = 3
"""Stages whose weights torch keeps gathered at a time, where a rank has several (`_add_unshard_reshard`)."""


def bubble(layout: Layout, micro_batches: int) -> float:
    """Idle time over work: (PP - 1) / (V M) where stages take turns (paper, section 3.3.2), and a third of it where
    backward passes for weights fill the gaps."""
    if layout.pipeline == 1:
        return 0.0
    gap = (layout.pipeline - 1) / (micro_batches * stages_per_rank(layout))
    return gap / 3 if layout.schedule in SPLIT_BACKWARD else gap


def in_flight(layout: Layout, rank: int, micro_batches: int) -> float:
    """Micro-batches whose activations a pipeline rank holds at most, all of its stages' taken as one."""
    behind, stages = layout.pipeline - 1 - rank, stages_per_rank(layout)
    if layout.pipeline == 1:
        return 1.0
    if layout.schedule in ("GPipe", "LoopedBFS"):
        return float(micro_batches)
    if layout.schedule in SPLIT_BACKWARD:
        return min(micro_batches, layout.pipeline + (0.5 if layout.schedule == "DualPipeV" else 0.0))
    chunks = (stages - 1) * layout.pipeline + (2 if stages > 1 else 1) * behind + 1
    return min(micro_batches * stages, chunks) / stages


def gathered_share(layout: Layout) -> float:
    """Of a rank's weights, those that are gathered at a time."""
    return min(1.0, ACTIVE_STAGES / stages_per_rank(layout))


def gathers(layout: Layout, micro_batches: int) -> float:
    """Times a step that a rank gathers all its weights, at most."""
    if stages_per_rank(layout) > ACTIVE_STAGES:
        return 2.0 if layout.schedule == "LoopedBFS" else 2.0 * max(1, micro_batches // layout.pipeline)
    if layout.pipeline == 1 and layout.reshard_after_forward:
        return 2.0 * micro_batches
    return 1.0


def stages_per_rank(layout: Layout) -> int:
    return layout.stages // layout.pipeline
