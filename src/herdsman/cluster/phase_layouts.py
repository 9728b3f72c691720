"""The fastest layouts of a whole schedule: phases have their own, but share the micro-batch and the recomputation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from herdsman.cluster.hardware import Hardware
from herdsman.cluster.job import Job
from herdsman.cluster.layouts import FULLEST, RECOMPUTE, ROWS, Candidate, options_of, search
from herdsman.cluster.memory import estimate_memory
from herdsman.cluster.step_time import estimate_step
from herdsman.errors import RecipeError
from herdsman.model.options import ModelOptions
from herdsman.training.options import Phase, PretrainOptions
from herdsman.training.parallel.layout import Layout

MOST = 40  # layouts of the main phase that others may take

Layouts = dict[tuple[int, int], Layout]
"""By tokens of the batch and of a sequence."""


def job_of(phase: Phase, pretrain: PretrainOptions, model: ModelOptions, vocab_size: int, hardware: Hardware) -> Job:
    """A phase as the models of time and memory take it."""
    return Job(
        model,
        vocab_size,
        phase.sequence_length,
        phase.batch_tokens,
        pretrain.micro_batch_tokens,
        hardware.resolve(pretrain.precision),
        pretrain.recompute,
        pretrain.optimizer.name,
    )


def main_phase(pretrain: PretrainOptions) -> Phase:
    """The one with most tokens."""
    return max(pretrain.phases, key=lambda phase: phase.tokens)


def lay_out_phases(
    pretrain: PretrainOptions, model: ModelOptions, vocab_size: int, hardware: Hardware, gpus: int
) -> PretrainOptions:
    """The schedule with the layouts, micro-batch and recomputation that are fastest in the main phase, if all phases
    fit with these; each of the others has its own fastest layout.

    Data parallelism is left open, so that the recipe also runs on another number of GPUs.

    Raises:
        RecipeError: nothing fits.
    """
    main = job_of(main_phase(pretrain), pretrain, model, vocab_size, hardware)
    jobs = list(dict.fromkeys(job_of(phase, pretrain, model, vocab_size, hardware) for phase in pretrain.phases))
    commons = (
        replace(main, recompute=recompute, micro_batch_tokens=rows * main.sequence_length)
        for recompute in RECOMPUTE
        for rows in ROWS
    )
    ways = [(common, search(common, hardware, gpus, MOST, fixed=True).best) for common in commons]
    ways = sorted((way for way in ways if way[1]), key=lambda way: way[1][0].step.seconds)
    found = ((common, _others(common, jobs, best, hardware, gpus)) for common, best in ways)
    common, layouts = next((each for each in found if each[1]), (main, Layouts()))
    if not layouts:
        free = search(main, hardware, gpus)
        reason = "its other phases do not fit" if free.best else next(iter(free.infeasible), "there is none")
        raise RecipeError(
            f"no layout on {gpus:,} {hardware.name} is possible: {reason}",
            where="plan",
            do="choose another number of GPUs, or other hardware",
        )
    first = layouts[main.batch_tokens, main.sequence_length]
    phases = []
    for phase in pretrain.phases:
        own = layouts[phase.batch_tokens, phase.sequence_length]
        options = None if own == first else options_of(own).model_copy(update={"data": None})
        phases.append(phase.model_copy(update={"layout": options}))
    return pretrain.model_copy(
        update={
            "layout": options_of(first).model_copy(update={"data": None}),
            "phases": phases,
            "recompute": common.recompute,
            "micro_batch_tokens": common.micro_batch_tokens,
        }
    )


def _others(
    common: Job, jobs: Sequence[Job], best: Sequence[Candidate], hardware: Hardware, gpus: int
) -> Layouts | None:
    """Layouts of all phases with this micro-batch and recomputation; None where one does not fit.

    A phase with too few sequences for so many GPUs takes one of the main phase's layouts, and lets ranks idle.
    """
    layouts = Layouts()
    for own in jobs:
        micro_batch_tokens = max(common.micro_batch_tokens, own.sequence_length)
        job = replace(own, recompute=common.recompute, micro_batch_tokens=micro_batch_tokens)
        mine = search(job, hardware, gpus, most=1, fixed=True).best
        able = [each.layout for each in mine or best if _fits(job, each.layout, hardware)]
        if not able:
            return None
        fastest = min(able, key=lambda layout: estimate_step(job, layout, hardware).seconds)
        layouts[job.batch_tokens, job.sequence_length] = fastest
    return layouts


def _fits(job: Job, layout: Layout, hardware: Hardware) -> bool:
    try:
        layout.check(job.model, [job.sequence_length])
    except RecipeError:
        return False
    return estimate_memory(job, layout, hardware).total_bytes <= FULLEST * hardware.memory_bytes.value
