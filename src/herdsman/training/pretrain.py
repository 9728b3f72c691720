"""The `pretrain` stage: main phases, longer contexts and annealing, validation and samples on the way, averages.

It runs on this process alone, or on every rank of a group that has been made before; then rank 0 writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist

from herdsman.errors import InputError
from herdsman.events import EVENTS, EventLog
from herdsman.files import read_json, write_json
from herdsman.model.count import count_parameters
from herdsman.model.llama import Llama, initialise
from herdsman.model.options import ModelOptions
from herdsman.model.store import copy_model, read_config
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models, exponential_weights
from herdsman.training.held_out import HeldOut, greedy_share
from herdsman.training.loop import Training
from herdsman.training.metrics import Metrics, Utilisation
from herdsman.training.objective import NextToken
from herdsman.training.optimizer import resolve_precision
from herdsman.training.options import PretrainOptions
from herdsman.training.parallel.build import Fill, lay_out
from herdsman.training.parallel.layout import Layout
from herdsman.training.parallel.mesh import Mesh
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.parallel.running import Running
from herdsman.training.peaks import peak_of
from herdsman.training.pretrain_summary import summarise
from herdsman.training.schedule import spread
from herdsman.training.sinks import open_sinks
from herdsman.training.token_course import TokenCourse
from herdsman.training.whole import save_whole, weights_of, whole
from herdsman.workspace import Work

Sampler = Callable[[Llama, list[str]], list[str]]
Needles = Callable[[int], Sequence[tuple[list[int], list[int]]]]
LARGEST_SAMPLED = 4_000_000_000


def pretrain(
    options: PretrainOptions,
    model_options: ModelOptions,
    work: Work,
    device: torch.device,
    sampler: Sampler,
    needles: Needles,
) -> None:
    """Trains the model of `model_options` on the token streams.

    Writes `untrained/`, `model/` (the average of the annealed checkpoints, or the last weights, as the recipe says) and
    `summary.json`.

    Args:
        sampler: continues prompts with a model, to show what it has learnt so far.
        needles: pairs of context and answer that have together so many tokens, for the gates of long contexts.

    Raises:
        InputError: a sequence of the schedule is longer than the model's context.
        RecipeError: the layout does not fit the model or the processes.
    """
    lengths = [phase.sequence_length for phase in options.phases]
    if max(lengths) > model_options.context_length:
        raise InputError(
            f"a phase has sequences of {max(lengths)} tokens, the model a context of {model_options.context_length}",
            where="pretrain.phases",
            do="raise model.context_length or shorten the sequences",
        )
    stretches = _stretches(options, model_options)
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    parameters = count_parameters(model_options, tokenizer.vocab_size).total
    precision = resolve_precision(options.precision, device)
    running = Running(
        precision, options.attention, options.recompute, options.compile, fp8=options.precision == "float8"
    )

    def build(fill: Fill, layout: Layout = stretches[0].layout) -> ParallelModel:
        return lay_out(model_options, tokenizer.vocab_size, layout, device, fill, running)

    first = not Mesh.needed() or dist.get_rank() == 0
    model = build(_first_weights(options.start, model_options, tokenizer.vocab_size, work.seed))
    if not (work.out / "untrained").exists():
        save_whole(model, work.out / "untrained")
    held_out = HeldOut.of(work.inputs["documents"], tokenizer, lengths[0], options.validation_tokens)

    def validate(trained: ParallelModel) -> float:
        return held_out.loss(trained, options.micro_batch_tokens)

    for phase in options.phases:
        if phase.gate:
            needles(phase.sequence_length + 1)  # says now, and not after days, if a sequence has no room for them

    def needle(trained: ParallelModel, length: int) -> float:
        return greedy_share(trained, needles(length + 1), options.micro_batch_tokens)

    streams = TokenStreams.open(work.inputs["tokens"])
    mixes = read_json(work.inputs["documents"] / "mix.json")
    course = TokenCourse(
        options, options.health.spikes, model, parameters, streams, mixes, work.seed, work.scratch / "packing",
        work.progress, work.workers, validate, needle,
    )  # fmt: skip

    def after_step(step: int, tokens: int, trained: ParallelModel) -> None:
        # Asked anew each time: gates move the end of the schedule.
        schedule = course.schedule
        if step in spread(schedule.steps, options.validations):
            loss = validate(trained)
            if first:
                entry = {"step": step, "tokens": tokens, "loss": loss}
                write_json(work.scratch / "validation" / f"{step:08d}.json", entry)
        if step in spread(schedule.steps, options.samples) and parameters <= LARGEST_SAMPLED:
            together = whole(trained)
            if together is not None and first:
                texts = sampler(together.eval(), options.sample_prompts)
                pairs = [{"prompt": p, "text": t} for p, t in zip(options.sample_prompts, texts, strict=True)]
                told = {"step": step, "tokens": tokens, "samples": pairs}
                write_json(work.scratch / "samples" / f"{step:08d}.json", told)
        if step in schedule.averaged_steps() or step == schedule.steps - 1:
            save_whole(trained, work.scratch / "checkpoints" / f"{step:08d}")

    processes = dist.get_world_size() if Mesh.needed() else 1
    peak = peak_of(device, precision, running.fp8)

    def measures(step: int) -> Metrics:
        use = Utilisation(model_options, tokenizer.vocab_size, processes, peak, options.recompute)
        sinks = open_sinks(options.metrics, work.logs, step, options.model_dump(), work.progress.line)
        return Metrics(use, processes, device, sinks, options.metrics.interval_seconds)

    log, finished = work.logs / "curve.jsonl", work.scratch / "finished.json"
    if not finished.exists():
        steps = course.schedule.steps
        with work.progress.task(f"train {model_options.layers} layers", steps, "steps") as task:
            for number, stretch in enumerate(stretches):
                if number:
                    # Its weights come from the checkpoint that the stretch before ended with.
                    del model
                    model = course.model = build(lambda name, weight: None, stretch.layout)
                course.until = stretch.until
                Training(
                    model,
                    NextToken(options.z_loss, streams=tuple(streams.streams)),
                    course,
                    options.optimizer,
                    folder=work.scratch / "training",
                    log=log,
                    events=EventLog(work.out.parent / EVENTS, stage=work.stage),
                    checkpoints=options.checkpoints,
                    health=options.health,
                    task=task if first else None,
                    after_step=after_step,
                    save_at_end=stretch is not stretches[-1],
                    metrics=measures,
                ).run()
        if first:
            write_json(finished, course.state())
        _together()
    course.load(read_json(finished))
    losses = _average(options, course, work, build, validate, first)
    if first:
        name = options.precision if options.precision == "float8" else str(precision).removeprefix("torch.")
        summarise(
            work, options, model_options, tokenizer.vocab_size, parameters, course, losses, name, log, processes, peak
        )
    _together()


def _first_weights(start: str | None, model: ModelOptions, vocab_size: int, seed: int) -> Fill:
    """
    Raises:
        InputError: there is no model to start from, or one of other dimensions.
    """
    if start is None:
        return partial(initialise, options=model, seed=seed)
    folder = Path(start) / "model" if (Path(start) / "model").is_dir() else Path(start)
    found, rows, _ = read_config(folder)
    for name in ("layers", "dim", "heads", "kv_heads", "head_width", "ffn_dim", "tied_embeddings", "rope_theta"):
        if getattr(found, name) != getattr(model, name):
            what = f"has {name} = {getattr(found, name)}, the recipe {getattr(model, name)}"
            raise InputError(what, where=folder, do="give [model] the dimensions of the model to start from")
    if rows != vocab_size:
        what = f"has {rows} rows of vocabulary, the tokenizer {vocab_size}"
        raise InputError(what, where=folder, do="set tokenizer.base to the tokenizer.model beside it")
    return weights_of(folder)


@dataclass(frozen=True)
class _Stretch:
    """Phases that follow each other on one layout, up to but without the phase `until`."""

    layout: Layout
    until: int


def _stretches(options: PretrainOptions, model: ModelOptions) -> list[_Stretch]:
    """
    Raises:
        RecipeError: a layout does not fit the model, its sequences or the processes.
    """
    processes = dist.get_world_size() if Mesh.needed() else 1
    stretches: list[_Stretch] = []
    for number, phase in enumerate(options.phases):
        layout = Layout.of(phase.layout or options.layout, processes)
        layout.check(model, [phase.sequence_length, options.phases[0].sequence_length])
        if stretches and stretches[-1].layout == layout:
            stretches.pop()
        stretches.append(_Stretch(layout, number + 1))
    return stretches


def _average(
    options: PretrainOptions,
    course: TokenCourse,
    work: Work,
    build: Callable[[Fill], ParallelModel],
    validate: Callable[[ParallelModel], float],
    first: bool,
) -> dict[str, float]:
    """Makes the averages, writes the one that becomes the model, and measures all of them."""
    checkpoints, schedule = work.scratch / "checkpoints", course.schedule
    last = checkpoints / f"{schedule.steps - 1:08d}"
    averaged = [checkpoints / f"{step:08d}" for step in schedule.averaged_steps()] or [last]
    candidates = {"uniform": work.scratch / "uniform", "exponential": work.scratch / "exponential", "none": last}
    if first:
        average_models(averaged, candidates["uniform"])
        average_models(averaged, candidates["exponential"], exponential_weights(len(averaged), options.average_decay))
        copy_model(candidates[options.average], work.out / "model")
    _together()

    def loss_of(folder: Path) -> float:
        return validate(build(weights_of(folder)))

    losses = {
        "untrained": loss_of(work.out / "untrained"),
        "last_checkpoint": loss_of(last),
        "uniform_average": loss_of(candidates["uniform"]),
        "exponential_average": loss_of(candidates["exponential"]),
    }
    chosen = {"uniform": "uniform_average", "exponential": "exponential_average", "none": "last_checkpoint"}
    losses["average"] = losses[chosen[options.average]]
    return losses


def _together() -> None:
    if Mesh.needed():
        dist.barrier()
