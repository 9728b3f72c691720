"""How long a step takes, by part: work over rates, for the busiest rank of a layout. Needs no torch.

Each part is an amount that follows from the model and the code (operations, bytes) over a rate of the hardware. One
rate, that of matrix products, is fitted for H100s on row 1 of Llama 3's Table 4; the others are assumed or measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from herdsman.cluster.hardware import THIS, Hardware
from herdsman.cluster.job import Job, Rank, Share, ends_of, ranks_of
from herdsman.cluster.memory import TILE
from herdsman.cluster.schedules import bubble, gathers, stages_per_rank
from herdsman.model.count import model_flops
from herdsman.training.parallel.layout import Layout

DIM_PASSES, FFN_PASSES = 36, 15
"""Times that a block's operations element by element, forward and backward, go over the residual stream and over the
feed-forward layer: norms, sums, rotations; SwiGLU."""
HEAD_PASSES, HEAD_BLOCKS = 25, 3
"""The same for the embedding, the last norm and the loss's hidden states, and blocks whose operations are as many."""
LOGIT_BYTES = 24  # read and written for each logit beside the products, see model/likelihood.py
ACCUMULATE_BYTES = 8  # a micro-batch's gradient added to the sum, beside reading it
OPTIMIZER_BYTES = {"adamw": 48, "muon": 60}  # a parameter: gradients scaled and measured, states and weight updated
NEWTON_SCHULZ_ITERATIONS = 5  # training/muon.py
SPREAD: dict[str, tuple[float, float]] = {
    "float32": (0.77, 1.43),
    "bfloat16": (0.77, 1.43),
    "float8": (0.81, 1.91),
}
"""Published seconds over estimated ones on H100, H200 and B200, from the fastest software (NVIDIA's) to the slowest
(torchtitan's, on GPUs held at 500 W): how far a run on hardware that is not calibrated may come out. `published.check`
prints them, and slower ones still: torchtitan's sequences of 32K tokens and more."""
CALIBRATED_SPREAD = (0.83, 1.2)  # of what the calibrated machine itself then measured, see docs/benchmarks/plan.md
EXPOSED = 0.5  # of what goes from stage to stage: assumed; the rest hides behind work


@dataclass(frozen=True)
class StepTime:
    """One step of all ranks.

    Attributes:
        parts: seconds of the busiest rank, in the order in which they are shown.
        tokens: trained on.
        flops_causal, flops_whole: that the mathematics asks for, with attention counted over half of the sequence, as
            Llama 3 and Megatron do, or over all of it.
        mfu_causal, mfu_whole: these over what all ranks could have done.
        processes: ranks.
    """

    parts: dict[str, float]
    tokens: int
    flops_causal: float
    flops_whole: float
    mfu_causal: float
    mfu_whole: float
    processes: int

    @property
    def seconds(self) -> float:
        return sum(self.parts.values())

    @property
    def flops_per_second(self) -> float:
        """Of one rank, attention counted causally."""
        return self.flops_causal / self.seconds / self.processes

    def as_json(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "tokens": self.tokens, "mfu_causal": self.mfu_causal, **self.parts}


def estimate_step(job: Job, layout: Layout, hardware: Hardware) -> StepTime:
    """Seconds of a step. Attention is charged for the keys in sight, MFU counts those of whole sequences.

    Raises:
        InputError: the hardware does not multiply in the job's precision.
    """
    share, ranks = Share.of(job, layout), ranks_of(job, layout)
    block, head = _block(job, layout, hardware, share), _head(job, layout, hardware, share)
    work, busy, rank = max(
        (_work(job, layout, hardware, block, head, rank) for rank in {ranks[0], ranks[len(ranks) // 2], ranks[-1]}),
        key=lambda found: found[1],
    )
    parts = {name: seconds * share.micro_batches for name, seconds in work.items()}
    if layout.pipeline > 1:
        parts["pipeline"] = _handed_on(job, layout, hardware, share)
        parts["bubble"] = busy * share.micro_batches * bubble(layout, share.micro_batches)
    parts["data"] = _data(job, layout, hardware, share, rank, busy)
    parts["optimizer"] = _optimizer(job, layout, hardware, rank)
    parts = {name: seconds for name, seconds in parts.items() if seconds}
    tokens = job.rows * job.sequence_length
    causal, whole = (
        tokens * model_flops(job.model, job.vocab_size, keys) for keys in (job.sequence_length / 2, job.sequence_length)
    )
    at_peak = sum(parts.values()) * layout.processes * hardware.peak_flops(job.precision)
    return StepTime(parts, tokens, causal, whole, causal / at_peak, whole / at_peak, layout.processes)


def _block(job: Job, layout: Layout, hardware: Hardware, share: Share) -> dict[str, float]:
    """Seconds of a block's forward and backward pass over a micro-batch."""
    s, tensor, tokens, each = job.sizes, layout.tensor, share.tokens, job.bytes_each
    peak, reached = hardware.peak_flops(job.precision), hardware.efficiencies
    attending, full = hardware.attention_at(job.model.head_width), job.recompute == "full"
    # Of three products for each matrix a third runs again; attention counts six products, of which two.
    again = 4 / 3 if full else 1.0
    moved = tokens * each * (DIM_PASSES * s.dim + FFN_PASSES * s.ffn) / tensor
    start = reached.block_seconds
    seconds = {
        "matmul": again * 6 * s.matrices / tensor * tokens / (peak * hardware.gemm_at(s.dim // tensor)),
        "attention": again * attention_flops(job, hardware) / tensor * tokens / (peak * attending),
        "elementwise": moved * (1.0 if job.recompute == "none" else 4 / 3) / hardware.elementwise_rate,
        "overhead": start.value * again if start else 0.0,
    }
    gathered_again = full or (job.recompute == "selective" and job.trainer == "herdsman")
    if tensor > 1:
        # Gathered before and reduced after attention and feed-forward, in both directions; fully, all but the last
        # again, selectively the two gatherings.
        collectives = 11 if full else 10 if gathered_again else 8
        moved = collectives * tokens * s.dim * each * (tensor - 1) / tensor
        seconds["tensor"] = moved / hardware.bandwidth(tensor)
    if layout.context > 1:
        # Keys and values gathered, their gradients reduced in float32.
        width = 2 * s.keys / tensor * (each * (2 if gathered_again else 1) + 4)
        seconds["context"] = tokens * (layout.context - 1) * width / hardware.bandwidth(tensor * layout.context)
    return seconds


def attention_flops(job: Job, hardware: Hardware) -> float:
    """Operations of a block's attention for a token: six products over the keys in sight. On CPUs tiles of queries look
    at all keys that any of them sees, see model/tiled.py."""
    keys = job.keys
    if hardware.device == "cpu":
        keys += TILE if (job.document_tokens or job.sequence_length) < job.sequence_length else TILE / 2
    return 12 * job.sizes.queries * min(keys, job.sequence_length)


def _head(job: Job, layout: Layout, hardware: Hardware, share: Share) -> dict[str, float]:
    """Seconds of the loss over a micro-batch: Herdsman computes the logits twice, see model/likelihood.py."""
    s, tensor, tokens = job.sizes, layout.tensor, share.tokens
    rate = hardware.peak_flops(job.precision) * hardware.gemm_at(s.dim)
    logits = tokens * job.vocab_size / tensor
    hidden, start = tokens * s.dim * job.bytes_each * HEAD_PASSES, hardware.efficiencies.block_seconds
    return {
        "matmul": (8 if job.trainer == "herdsman" else 6) * logits * s.dim / rate,
        "elementwise": logits * LOGIT_BYTES / hardware.memory_rate + hidden / hardware.elementwise_rate,
        "overhead": HEAD_BLOCKS * start.value if start else 0.0,
        "tensor": 2 * tokens * s.dim * job.bytes_each * (tensor - 1) / tensor / hardware.bandwidth(tensor),
    }


def _work(
    job: Job, layout: Layout, hardware: Hardware, block: dict[str, float], head: dict[str, float], rank: Rank
) -> tuple[dict[str, float], float, Rank]:
    """Seconds of a rank's own work on a micro-batch, by part and in all."""
    parts = {name: seconds * rank.blocks for name, seconds in block.items()}
    if rank.is_last:
        for name, seconds in head.items():
            parts[name] = parts.get(name, 0.0) + seconds
    summed = local_parameters(job, layout, rank) * (job.bytes_each + ACCUMULATE_BYTES)
    parts["elementwise"] += summed / hardware.memory_rate
    return parts, sum(parts.values()), rank


def _handed_on(job: Job, layout: Layout, hardware: Hardware, share: Share) -> float:
    """Hidden states that go on to the next stage, and their gradients back."""
    passed = share.tokens * job.sizes.dim * job.bytes_each / layout.tensor
    passings = 2 * stages_per_rank(layout) * share.micro_batches
    return EXPOSED * passings * passed / hardware.bandwidth(layout.tensor * layout.context * layout.pipeline)


def _data(job: Job, layout: Layout, hardware: Hardware, share: Share, rank: Rank, busy: float) -> float:
    """What does not hide behind work of weights that are gathered and gradients that are reduced.

    A gathering hides behind a forward pass, the last reduction behind the last backward pass; the first block's and the
    last block's hide behind nothing.
    """
    shards = layout.shards * layout.context
    if layout.data * layout.context == 1:
        return 0.0
    local, inner = local_parameters(job, layout, rank), layout.tensor * layout.context * layout.pipeline
    rate = hardware.bandwidth(inner * layout.shards)
    part, blocks = (shards - 1) / shards, max(1, rank.blocks)
    gather, reduce = job.bytes_each * local * part / rate, 4 * local * part / rate
    if replicas := layout.data // layout.shards - 1:
        reduce += 2 * 4 * local / shards * replicas / (replicas + 1) / hardware.bandwidth(layout.processes)
    times = gathers(layout, share.micro_batches)
    hidden = busy / 3 * share.micro_batches / max(1.0, times / 2) if times > 1 else busy / 3
    gathered = gather / blocks + times * max(0.0, gather * (1 - 1 / blocks) - hidden)
    return gathered + max(reduce / blocks, reduce - 2 * busy / 3)


def _optimizer(job: Job, layout: Layout, hardware: Hardware, rank: Rank) -> float:
    s, shards = job.sizes, layout.shards * layout.context
    mine = local_parameters(job, layout, rank) / shards
    seconds = mine * OPTIMIZER_BYTES[job.optimizer] / hardware.memory_rate
    if job.optimizer == "muon":
        rate = hardware.peak_flops(job.precision) * hardware.gemm_at(s.dim)
        shapes = ((s.queries, s.dim), (s.keys, s.dim), (s.keys, s.dim), (s.dim, s.queries), *((s.ffn, s.dim),) * 3)
        each = sum(4 * min(shape) ** 2 * max(shape) + 2 * min(shape) ** 3 for shape in shapes)
        seconds += NEWTON_SCHULZ_ITERATIONS * each * rank.blocks / (shards * layout.tensor) / rate
    return seconds


def local_parameters(job: Job, layout: Layout, rank: Rank) -> float:
    """Parameters of a rank before they are sharded."""
    return (rank.blocks * job.sizes.block + ends_of(job, rank)) / layout.tensor


def spread(hardware: Hardware, precision: str = "bfloat16") -> tuple[float, float]:
    """Factors of the estimated seconds between which the real ones are expected."""
    return CALIBRATED_SPREAD if hardware.name == THIS else SPREAD[precision]
