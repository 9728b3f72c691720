"""The `pretrain` stage: main phase and annealing, validation and samples on the way, averaged checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.files import read_json, read_jsonl, write_json
from herdsman.model.count import count_parameters, training_flops
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import load_model, save_model
from herdsman.tokens.loader import TokenOrder
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models, exponential_weights
from herdsman.training.loop import train
from herdsman.training.losses import Loss, cross_entropy
from herdsman.training.optimizer import matmul_precision, resolve_precision
from herdsman.training.options import PretrainOptions
from herdsman.training.schedule import Schedule, spread, stream_shares
from herdsman.workspace import Work

Sampler = Callable[[Llama, list[str]], list[str]]


@dataclass(frozen=True)
class Sequences:
    """Packed training sequences on the model's device: tokens and document numbers, each [batch, seq + 1]."""

    tokens: Tensor
    documents: Tensor


def pretrain(
    options: PretrainOptions, model_options: ModelOptions, work: Work, device: torch.device, sampler: Sampler
) -> None:
    """Trains the model of `model_options` on the token streams.

    Writes `untrained/`, `model/` (the average of the annealed checkpoints, or the last weights where the schedule
    averages none) and `summary.json`.

    Args:
        sampler: continues prompts with a model, to show what it has learnt so far.

    Raises:
        InputError: a sequence of the schedule is longer than the model's context.
    """
    longest = max(phase.sequence_length for phase in options.phases)
    if longest > model_options.context_length:
        raise InputError(
            f"a phase has sequences of {longest} tokens, the model a context of {model_options.context_length}",
            where="pretrain.phases",
            do="raise model.context_length or shorten the sequences",
        )
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    schedule = Schedule(options, count_parameters(model_options, tokenizer.vocab_size).total)
    streams = TokenStreams.open(work.inputs["tokens"])
    mixes = read_json(work.inputs["documents"] / "mix.json")
    segments = schedule.segments(mixes)
    order = TokenOrder(streams, work.seed, segments, work.scratch / "packing", work.progress, work.workers)
    precision = resolve_precision(options.precision, device)
    model = Llama(model_options, tokenizer.vocab_size).initialise(work.seed)
    if not (work.out / "untrained").exists():
        save_model(model, work.out / "untrained")
    model.to(device)

    def batch_at(step: int) -> list[Sequences]:
        place = schedule.place(step)
        length = place.phase.sequence_length
        count = place.phase.batch_tokens // length
        batch = order.read(schedule.tokens_before(step), count, length)
        rows = max(1, options.micro_batch_tokens // length)
        return [
            Sequences(
                torch.as_tensor(batch.tokens[i : i + rows]).to(device),
                torch.as_tensor(batch.documents[i : i + rows]).to(device),
            )
            for i in range(0, count, rows)
        ]

    held_out = _held_out_sequences(
        work.inputs["documents"], tokenizer, options.phases[0].sequence_length, options.validation_tokens
    )
    validation_steps = spread(schedule.steps, options.validations)
    sample_steps = spread(schedule.steps, options.samples)
    averaged_steps = set(schedule.averaged_steps())

    def after_step(step: int, trained: Llama) -> None:
        if step in validation_steps:
            loss = validation_loss(trained, held_out, precision, options.micro_batch_tokens)
            write_json(work.scratch / "validation" / f"{step:08d}.json", {"step": step, "loss": loss})
        if step in sample_steps:
            texts = sampler(trained.eval(), options.sample_prompts)
            pairs = [{"prompt": p, "text": t} for p, t in zip(options.sample_prompts, texts, strict=True)]
            write_json(work.scratch / "samples" / f"{step:08d}.json", {"step": step, "samples": pairs})
        if step in averaged_steps or step == schedule.steps - 1:
            save_model(trained, work.scratch / "checkpoints" / f"{step:08d}")

    log = work.logs / "curve.jsonl"
    finished = work.scratch / "finished.json"
    if not finished.exists():
        with work.progress.task(f"train {model_options.layers} layers", schedule.steps, "steps") as task:
            train(
                model,
                steps=schedule.steps,
                batch_at=batch_at,
                loss_of=next_token_loss,
                learning_rate=schedule.learning_rate,
                optimizer=options.optimizer,
                scratch=work.scratch,
                log=log,
                task=task,
                after_step=after_step,
                precision=precision,
                checkpoint_seconds=options.checkpoint_seconds,
            )
        write_json(finished, {})
    last = work.scratch / "checkpoints" / f"{schedule.steps - 1:08d}"
    averaged = [work.scratch / "checkpoints" / f"{step:08d}" for step in sorted(averaged_steps)] or [last]
    candidates = {"uniform": work.scratch / "uniform", "exponential": work.scratch / "exponential", "none": last}
    average_models(averaged, candidates["uniform"])
    average_models(averaged, candidates["exponential"], exponential_weights(len(averaged), options.average_decay))
    base = load_model(candidates[options.average], device)
    save_model(base, work.out / "model")
    losses = {
        "untrained": _loss_of_folder(work.out / "untrained", held_out, precision, options, device),
        "last_checkpoint": _loss_of_folder(last, held_out, precision, options, device),
        "uniform_average": _loss_of_folder(candidates["uniform"], held_out, precision, options, device),
        "exponential_average": _loss_of_folder(candidates["exponential"], held_out, precision, options, device),
        "average": validation_loss(base, held_out, precision, options.micro_batch_tokens),
    }
    _report(work, options, model_options, schedule, tokenizer, streams, mixes, losses, precision, log)


def next_token_loss(model: Llama, batch: Sequences) -> Loss:
    """Cross-entropy of each next token. The border from one document's end to the next document's first token is not
    trained: nothing in sight could tell what comes."""
    hidden = model(batch.tokens[:, :-1], documents=batch.documents[:, :-1])
    inside = (batch.documents[:, 1:] == batch.documents[:, :-1]).float()
    return cross_entropy(model.logits(hidden), batch.tokens[:, 1:], inside)


@torch.no_grad()
def validation_loss(model: Llama, sequences: Sequences, precision: torch.dtype, micro_batch_tokens: int) -> float:
    """Mean loss in nats a token on held-out sequences."""
    model.eval()
    device = next(model.parameters()).device
    rows = max(1, micro_batch_tokens // sequences.tokens.shape[1])
    total, weight = 0.0, 0.0
    for i in range(0, len(sequences.tokens), rows):
        with matmul_precision(device, precision):
            part = Sequences(sequences.tokens[i : i + rows].to(device), sequences.documents[i : i + rows].to(device))
            loss = next_token_loss(model, part)
        total, weight = total + float(loss.total), weight + float(loss.weight)
    return total / weight


def _held_out_sequences(documents: Path, tokenizer: Tokenizer, length: int, max_tokens: int) -> Sequences:
    """The first held-out documents, in the order of their ids, laid end to end and cut into sequences."""
    texts = sorted((row["id"], row["text"]) for row in read_documents(documents, "held_out", ["id", "text"]))
    tokens: list[int] = []
    owners: list[int] = []
    for number, (_, text) in enumerate(texts):
        ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.end_of_text]
        tokens += ids
        owners += [number] * len(ids)
        if len(tokens) > max_tokens + length:
            break
    count = min(len(tokens), max_tokens) // (length + 1)
    if count == 0:
        raise InputError(
            f"the held-out documents hold {len(tokens)} tokens, fewer than one sequence of {length}",
            where=documents,
            do="gather more pages or raise documents.held_out_share",
        )
    used = count * (length + 1)
    return Sequences(
        torch.tensor(tokens[:used]).view(count, length + 1), torch.tensor(owners[:used]).view(count, length + 1)
    )


def _loss_of_folder(
    folder: Path, sequences: Sequences, precision: torch.dtype, options: PretrainOptions, device: torch.device
) -> float:
    return validation_loss(load_model(folder, device), sequences, precision, options.micro_batch_tokens)


def _report(
    work: Work,
    options: PretrainOptions,
    model_options: ModelOptions,
    schedule: Schedule,
    tokenizer: Tokenizer,
    streams: TokenStreams,
    mixes: dict[str, dict[str, float]],
    losses: dict[str, float],
    precision: torch.dtype,
    log: Path,
) -> None:
    """Fills the manifest's figures and writes `summary.json`: curves, samples, the phases and what each stream gave."""
    rows = read_jsonl(log)
    every = max(1, len(rows) // 400)
    parameters = count_parameters(model_options, tokenizer.vocab_size).total
    flops = {"six_n_d": training_flops(model_options, tokenizer.vocab_size, schedule.tokens)}
    flops["with_attention"] = sum(
        training_flops(model_options, tokenizer.vocab_size, phase.steps * phase.batch_tokens, phase.sequence_length)
        for phase in options.phases
    )
    work.counts |= {"steps": schedule.steps, "tokens": schedule.tokens, "parameters": parameters}
    work.metrics |= {"validation_loss": losses, "flops": flops, "precision": str(precision).removeprefix("torch.")}
    work.summarise(
        {
            "parameters": parameters,
            "vocab_size": tokenizer.vocab_size,
            "model": model_options.model_dump()
            | {"ffn_dim": model_options.ffn_dim, "head_width": model_options.head_width},
            "tokens": schedule.tokens,
            "steps": schedule.steps,
            "flops": flops,
            "precision": str(precision).removeprefix("torch."),
            "validation_loss": losses,
            "averaged_steps": [] if options.average == "none" else schedule.averaged_steps(),
            "phases": [
                phase.model_dump()
                | {"steps": phase.steps, "first_step": start, "mix_shares": stream_shares(phase, mixes)}
                for phase, start in zip(options.phases, schedule.starts, strict=False)
            ],
            "curve": [
                {
                    "step": row["step"],
                    "tokens": schedule.tokens_before(row["step"] + 1),
                    "loss": sum(r["loss"] for r in rows[i : i + every]) / len(rows[i : i + every]),
                    "learning_rate": row["learning_rate"],
                    "gradient_norm": row["gradient_norm"],
                }
                for i, row in list(enumerate(rows))[::every]
            ],
            "validation": [
                entry | {"tokens": schedule.tokens_before(entry["step"] + 1)}
                for entry in map(read_json, sorted((work.scratch / "validation").glob("*.json")))
            ],
            "samples": [
                entry | {"tokens": schedule.tokens_before(entry["step"] + 1)}
                for entry in map(read_json, sorted((work.scratch / "samples").glob("*.json")))
            ],
            "streams": streams.sizes(),
        }
    )
