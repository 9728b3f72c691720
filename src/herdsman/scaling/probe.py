"""What a data set is worth: a half-trained model annealed with it and without it (paper, section 3.1.3).

Both annealings start from the same checkpoint, optimizer included, with the learning rate going linearly to 0: one on
the default data alone, one with a share of the new set among them. Each is repeated with other seeds of the data's
order, and all models are measured on the same documents and questions.

    probes/<what all of it depends on>/
      runs/default-1 ...    shared by all data sets; the first keeps the checkpoint, in pretrain/half
      runs/NAME-1 ...       with a data set
      with/                 the documents with the mix of each kind of run
      measured/             held-out text and benchmarks, by run
      NAME/                 the data set as documents and tokens, and result.json
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from herdsman.errors import InputError, RecipeError
from herdsman.evaluation.options import EvaluationOptions
from herdsman.files import atomic_folder, digest_of, read_json, write_json
from herdsman.model.count import count_parameters, training_flops
from herdsman.model.options import ModelOptions
from herdsman.progress import Progress
from herdsman.scaling.compare import changes
from herdsman.scaling.dataset import DOCUMENTS, MIX, STREAM, TOKENS, fingerprint_of, identity, lay_beside, with_mix
from herdsman.scaling.measure import Yardstick
from herdsman.scaling.runs import STAGE, Run, Train, run_all
from herdsman.scaling.sweep import FOLDER, INPUTS, Sweep
from herdsman.tokens.streams import TokenStreams
from herdsman.training.checkpoints.integrity import Torn, read_manifest
from herdsman.training.options import MANNER, Phase, PretrainOptions
from herdsman.training.schedule import Schedule, stream_shares
from herdsman.workspace import Work

PROBES, RESULT = "probes", "result.json"
DEFAULT, HALF = "default", "half"


def probe(
    data: Path,
    sweep: Sweep,
    evaluation: EvaluationOptions,
    train: Train,
    device: torch.device | str,
    processes: int,
    progress: Progress,
) -> dict[str, Any]:
    """Runs what is missing of a probe and returns its result, which it also writes to `result.json`.

    Args:
        data: see `dataset.read_texts`.
        sweep: the recipe's: its model, its pretraining and where it lies.
        train: trains one model, see `runs`.
        processes: trainings at the same time on this machine.

    Raises:
        InputError: there is no such data set or checkpoint.
        RecipeError: pretraining is annealing already where the probe is to begin.
    """
    options, model, seed = sweep.options.probe, sweep.model, sweep.seed
    inputs = {stage: sweep.root / stage for stage in INPUTS}
    rows = sweep.family.vocab_size
    schedule = Schedule(sweep.pretrain, count_parameters(model, rows).total)
    given = find_checkpoint(Path(options.checkpoint), options.at * schedule.tokens) if options.checkpoint else None
    begin = read_manifest(given).tokens if given else round(options.at * schedule.tokens)
    shortened, before = annealing(sweep.pretrain, schedule, begin, options.tokens)
    begin = shortened.checkpoints.every_tokens or begin
    shaping = [options.checkpoint, options.held_out_share, shortened.model_dump(exclude=MANNER), model.model_dump()]
    base = sweep.root / FOLDER / PROBES / digest_of([*shaping, seed, *map(fingerprint_of, inputs.values())])[:8]
    name = f"{data.stem}-{identity(data)[:6]}"
    own = base / name
    lay_beside(data, own, inputs, options.held_out_share, seed, processes, progress)

    shares = stream_shares(before, read_json(inputs["documents"] / MIX))
    mixed = {stream: (1 - options.share) * share for stream, share in shares.items()} | {STREAM: options.share}
    flops = training_flops(model, rows, shortened.phases[-1].tokens)
    runs = {}
    for kind, mix, tokens in ((DEFAULT, shares, inputs["tokens"]), (name, mixed, own / TOKENS)):
        documents = with_mix(inputs["documents"], base / "with", "anneal", mix)
        read = {**inputs, "documents": documents, "tokens": tokens}
        plain = [Run("", model, shortened, read, seed + number, flops) for number in range(options.seeds)]
        runs[kind] = [replace(run, name=f"{kind}-{run.seed}-{run.fingerprint[:8]}") for run in plain]
    all_runs = [run for both in zip(*runs.values(), strict=True) for run in both]
    if not given:  # the first run trains up to the checkpoint as well
        all_runs[0] = replace(all_runs[0], flops=flops * all_runs[0].tokens / shortened.phases[-1].tokens)
    progress.line(
        f"{len(all_runs)} annealings of {shortened.phases[-1].tokens:,} tokens after {begin:,}, {processes} at once"
    )
    half = base / "runs" / all_runs[0].name / STAGE / HALF
    start = given.parent if given else half
    train_from = partial(anneal, start, half, begin, train)
    wanted = partial(_open_runs, all_runs, start)
    run_all(wanted, base / "runs", train_from, processes, progress, "anneal")

    yardstick = Yardstick.of([inputs["documents"], own / DOCUMENTS], inputs["tokenizer"], evaluation, progress)
    stages = [[base / "runs" / run.name / STAGE for run in kind] for kind in runs.values()]
    places = [yardstick.measure_all(kind, base / "measured", device, progress) for kind in stages]
    there = TokenStreams.open(own / TOKENS).sizes()[STREAM]["tokens"]
    reads = shortened.phases[-1].steps * shortened.phases[-1].batch_tokens
    result = {
        "data": str(data), "name": name, "seeds": options.seeds, "share": options.share, "annealed_tokens": reads,
        "begins_after_tokens": begin, "tokens_of_pretraining": schedule.tokens, "new_tokens": there,
        "epochs_of_new": options.share * reads / there,
        "changes": changes(places, list(yardstick.questions)),
    }  # fmt: skip
    write_json(own / RESULT, result)
    return result


def annealing(
    pretrain: PretrainOptions, schedule: Schedule, begin: int, tokens: int | None
) -> tuple[PretrainOptions, Phase]:
    """Pretraining up to the step nearest to `begin` tokens, then annealing; and the phase that it is cut in.

    The checkpoint to anneal from is kept: `checkpoints.every_tokens` are the tokens before it.

    Raises:
        RecipeError: pretraining is annealing already there.
    """
    number = schedule.place(0, begin).number
    phase = pretrain.phases[number]
    if any(one.learning_rate != "cosine" or one.mix == "anneal" for one in pretrain.phases[: number + 1]):
        raise RecipeError(
            f"pretraining is annealing already after {begin:,} tokens",
            where="scaling.probe.at",
            do="let the probe begin earlier",
        )
    steps = max(1, round((begin - schedule.token_starts[number]) / phase.batch_tokens))
    begin = schedule.token_starts[number] + steps * phase.batch_tokens
    cut = phase.model_copy(update={"tokens": steps * phase.batch_tokens})
    last = Phase(
        name="probe",
        tokens=tokens or max(phase.batch_tokens, schedule.tokens // 10),
        batch_tokens=phase.batch_tokens,
        sequence_length=phase.sequence_length,
        learning_rate="linear_to_zero",
        mix="anneal",
        layout=phase.layout,
    )
    # Gates would move the place; the curve of the learning rate must stay that of the whole pretraining.
    kept = [one.model_copy(update={"gate": None, "average_checkpoints": 0}) for one in (*pretrain.phases[:number], cut)]
    curve = {"cosine_tokens" if schedule.by_tokens else "cosine_steps": schedule.horizon}
    saved = pretrain.checkpoints.model_copy(update={"every_tokens": begin, "keep_every_tokens": begin})
    update = {"phases": [*kept, last], "checkpoints": saved, "average": "none", "validations": 1, "samples": 0, **curve}
    return pretrain.model_copy(update=update), phase


def find_checkpoint(folder: Path, most_tokens: float) -> Path:
    """The newest checkpoint of a folder that has been trained on at most so many tokens.

    Raises:
        InputError: there is none, or it does not stand where the schedule says.
    """
    found: dict[int, Path] = {}
    for path in folder.glob("step-*"):
        with suppress(Torn):
            found[read_manifest(path).tokens] = path
    early = [tokens for tokens in found if 0 < tokens <= most_tokens]
    if not early:
        raise InputError(
            f"there is no checkpoint of at most {most_tokens:,.0f} tokens",
            where=folder,
            do="point to a folder with step-... in it, or leave scaling.probe.checkpoint out",
        )
    path = found[max(early)]
    gates = read_manifest(path).state["course"]["gates"].values()
    if any(gate["prolonged_steps"] for gate in gates):
        raise InputError(
            "a gate has prolonged a phase before it, so it stands at no place of the recipe's schedule",
            where=path,
            do="leave scaling.probe.checkpoint out",
        )
    return path


def anneal(
    start: Path, half: Path, begin: int, train: Train, model: ModelOptions, pretrain: PretrainOptions, work: Work
) -> None:
    """One run: from the checkpoint in `start`, if there is one by now; else from the beginning.

    Args:
        half: where the first run keeps the checkpoint of `begin` tokens for the others.
    """
    checkpoints = work.scratch / "training"
    if start.exists() and not checkpoints.exists():
        found = find_checkpoint(start, begin)
        with atomic_folder(checkpoints) as beside:
            shutil.copytree(found, beside / found.name)
    train(model, pretrain, work)
    if work.out == half.parent and start == half and not half.exists():
        found = find_checkpoint(checkpoints, begin)
        with atomic_folder(half) as beside:
            shutil.copytree(found, beside / found.name)


def _open_runs(runs: Sequence[Run], start: Path) -> list[Run]:
    """The first run alone as long as there is no checkpoint to anneal from."""
    return list(runs) if start.exists() else list(runs[:1])
