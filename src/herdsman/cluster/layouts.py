"""The search for the fastest layout of a job on so many GPUs, with reasons for what it leaves out. Needs no torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from herdsman.cluster.hardware import Hardware
from herdsman.cluster.job import Job, Share
from herdsman.cluster.memory import Memory, estimate_memory
from herdsman.cluster.step_time import StepTime, estimate_step
from herdsman.errors import RecipeError
from herdsman.training.parallel.layout import ONE_STAGE, Layout, LayoutOptions, ScheduleName

FULLEST = 0.92
"""Of a GPU's memory: the rest is for what is not reckoned, NCCL's buffers and gaps."""
LEAST_CONTEXT_TOKENS = 32_768
"""Context parallelism is not offered for shorter sequences: what it really costs there is not measured."""
MOST_TENSOR, MOST_CONTEXT = 64, 64
SCHEDULES: tuple[ScheduleName, ...] = ("1F1B", "Interleaved1F1B", "LoopedBFS")
"""Those that are searched. Schedules that split the backward pass in two have less idle time, but what the split costs
is not measured; GPipe only takes more memory than 1F1B."""
RECOMPUTE: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")
ROWS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Candidate:
    """A layout that fits.

    Attributes:
        job: as given, with the micro-batch and the recomputation that go with the layout.
        why_not_first: what makes it slower than the fastest; empty for that one.
    """

    layout: Layout
    job: Job
    step: StepTime
    memory: Memory
    why_not_first: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "layout": vars(self.layout),
            "micro_batch_tokens": self.job.micro_batch_tokens,
            "recompute": self.job.recompute,
            "step": self.step.as_json(),
            "memory": self.memory.as_json(),
            "why_not_first": self.why_not_first,
        }


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        best: the fastest first; of layouts with the same degrees only the best.
        infeasible: how many layouts fell out, by the reason.
    """

    considered: int
    best: list[Candidate]
    infeasible: dict[str, int]

    def as_json(self) -> dict[str, Any]:
        best = [candidate.as_json() for candidate in self.best]
        return {"considered": self.considered, "best": best, "infeasible": self.infeasible}


def search(job: Job, hardware: Hardware, gpus: int, most: int = 10, fixed: bool = False) -> Search:
    """Ranks the layouts of a job.

    Args:
        most: of the best layouts that are given back.
        fixed: whether the job keeps its own micro-batch and recomputation, in place of those that suit a layout best.

    Raises:
        InputError: the hardware does not multiply in the job's precision.
    """
    infeasible: Counter[str] = Counter()
    fastest: dict[tuple[int, int, int], Candidate] = {}
    considered = 0
    limit = FULLEST * hardware.memory_bytes.value
    jobs = (
        [job]
        if fixed
        else [
            replace(job, micro_batch_tokens=rows * job.sequence_length, recompute=recompute)
            for rows in ROWS
            if rows <= job.rows
            for recompute in RECOMPUTE
        ]
    )
    for layout in _layouts(job, gpus, hardware.gpus_per_server):
        if reason := _why_not(job, layout, hardware):
            considered += len(jobs)
            infeasible[reason] += len(jobs)
            continue
        for variant in jobs:
            considered += 1
            if reason := _why_no_schedule(variant, layout):
                infeasible[reason] += 1
                continue
            memory = estimate_memory(variant, layout, hardware)
            if memory.total_bytes > limit:
                infeasible[f"it takes more than {FULLEST:.0%} of a GPU's memory"] += 1
                continue
            step = estimate_step(variant, layout, hardware)
            degrees = (layout.tensor, layout.context, layout.pipeline)
            if degrees not in fastest or step.seconds < fastest[degrees].step.seconds:
                fastest[degrees] = Candidate(layout, variant, step, memory)
    ranked = sorted(fastest.values(), key=lambda candidate: candidate.step.seconds)[:most]
    told = [replace(other, why_not_first=_slower(other, ranked[0])) for other in ranked[1:]]
    return Search(considered, ranked[:1] + told, dict(infeasible.most_common()))


def _layouts(job: Job, gpus: int, server: int) -> Iterator[Layout]:
    """All that multiply to the GPUs, sensible or not, with their schedules, stages and shards."""
    for tensor in _divisors(gpus, MOST_TENSOR):
        for context in _divisors(gpus // tensor, MOST_CONTEXT):
            for pipeline in _divisors(gpus // tensor // context, job.model.layers + 2):
                data = gpus // tensor // context // pipeline
                for shards in {data, _inside_server(tensor * context * pipeline, data, server)}:
                    if pipeline == 1:
                        for reshard in (False, True):
                            yield Layout(tensor, context, 1, data, shards, "1F1B", 1, reshard)
                        continue
                    for schedule in SCHEDULES:
                        per_rank = (1,) if schedule in ONE_STAGE else range(2, (job.model.layers + 2) // pipeline + 1)
                        for stages in per_rank:
                            yield Layout(tensor, context, pipeline, data, shards, schedule, pipeline * stages, False)


def _inside_server(inner: int, data: int, server: int) -> int:
    """Shards that stay inside a server: weights are sharded there and replicated between servers (HSDP)."""
    return max(shards for shards in range(1, max(1, server // inner) + 1) if data % shards == 0)


def _divisors(number: int, most: int) -> list[int]:
    return [divisor for divisor in range(1, min(number, most) + 1) if number % divisor == 0]


def _why_not(job: Job, layout: Layout, hardware: Hardware) -> str:
    """Why a layout cannot be, or should not; empty where it can."""
    if layout.tensor > hardware.gpus_per_server:
        return "tensor parallelism would leave the server, whose links are fastest"
    if layout.context > 1 and job.sequence_length < LEAST_CONTEXT_TOKENS:
        return f"context parallelism is for sequences from {LEAST_CONTEXT_TOKENS:,} tokens on"
    if layout.data > job.rows:
        return "more data ranks than sequences in a batch"
    if job.rows % layout.data:
        return "the batch's sequences do not divide by the data ranks"
    try:
        layout.check(job.model, [job.sequence_length])
    except RecipeError:
        return "heads, columns or sequences do not divide by the degrees"
    return ""


def _why_no_schedule(job: Job, layout: Layout) -> str:
    share = Share.of(job, layout)
    rows = job.rows // layout.data
    size = job.micro_batch_tokens // job.sequence_length
    if size > rows or rows % size:
        return "a data rank's sequences do not divide by the micro-batch's"
    if share.needed < layout.pipeline:
        return "fewer micro-batches than the pipeline is deep"
    return ""


def _slower(other: Candidate, first: Candidate) -> str:
    """By how much, and the parts that grew most."""
    share = other.step.seconds / first.step.seconds - 1
    parts = {**dict.fromkeys(first.step.parts, 0.0), **other.step.parts}
    growth = {name: seconds - first.step.parts.get(name, 0.0) for name, seconds in parts.items()}
    grown = sorted((name for name in growth if growth[name] > 0), key=lambda name: -growth[name])[:2]
    return f"{share:.1%} slower: " + ", ".join(f"{name} +{growth[name]:.3g} s" for name in grown)


def options_of(layout: Layout) -> LayoutOptions:
    """A layout as a recipe says it."""
    return LayoutOptions(
        tensor=layout.tensor,
        context=layout.context,
        pipeline=layout.pipeline,
        data=layout.data,
        shards=None if layout.shards == layout.data else layout.shards,
        schedule=layout.schedule,
        stages_per_rank=layout.stages // layout.pipeline,
        reshard_after_forward=layout.reshard_after_forward,
    )
