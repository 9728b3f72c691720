"""What models make of benchmarks: points measured here, read from a table, or found in an evaluated herd."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from herdsman.errors import InputError
from herdsman.files import read_jsonl
from herdsman.scaling.points import read_rows

HELP = "give flops, nats_per_character and, where accuracy is known, accuracy, questions and chance"


@dataclass(frozen=True)
class Score:
    """What one model makes of one benchmark.

    Attributes:
        flops: of its training.
        nats_per_character: mean over the questions of the right answer's negative log-likelihood per character.
        accuracy: share of right answers; None if only the likelihood is known.
        questions: that were asked.
        chance: accuracy of guessing.
        optimal: whether it is a compute-optimal model of the scaling-law runs, which step 1 takes alone.
    """

    benchmark: str
    model: str
    flops: float
    nats_per_character: float
    accuracy: float | None
    questions: int
    chance: float
    optimal: bool = True


def nats_per_character(row: Mapping[str, Any]) -> float:
    """Of a row of `evaluation.multiple_choice`: the right answer's negative log-likelihood over its characters."""
    return float(-row["logprobs"][row["right"]] / len(row["choices"][row["right"]]))


def score_of(
    benchmark: str, model: str, flops: float, rows: Sequence[Mapping[str, Any]], optimal: bool = True
) -> Score:
    """A model's point from its rows of `evaluation.multiple_choice`; accuracy is that per character, `acc_norm`."""
    return Score(
        benchmark,
        model,
        flops,
        fmean(map(nats_per_character, rows)),
        fmean(row["acc_norm"] for row in rows),
        len(rows),
        fmean(1 / len(row["choices"]) for row in rows),
        optimal,
    )


def read_scores(path: Path) -> list[Score]:
    """Reads a table (CSV or JSON) with the fields of `Score` as columns.

    `flops` and `nats_per_character` must be there; `accuracy` may be empty, and where it is given `questions` and
    `chance` are too. `benchmark`, `model` and `optimal` (1 if left out) may be left out.

    Raises:
        InputError: the file cannot be read, or a row lacks a number.
    """
    rows = read_rows(path)
    if not rows:
        raise InputError("holds no points", where=path, do=HELP)
    return [_score(row, place) for place, row in rows]


def _score(row: Mapping[str, Any], place: str) -> Score:
    needed = ["flops", "nats_per_character"]
    accuracy = str(row.get("accuracy") if row.get("accuracy") is not None else "").strip()
    needed += ["accuracy", "questions", "chance"] if accuracy else []
    values = {}
    for name in needed:
        try:
            values[name] = float(row[name])
        except (KeyError, TypeError, ValueError):
            raise InputError(f"{name} is {row.get(name)!r}, not a number", where=place, do=HELP) from None
    shares = [values.get("accuracy", 0.0), values.get("chance", 0.0)]
    if not values["flops"] > 0 or not values["nats_per_character"] > 0 or not all(0 <= share <= 1 for share in shares):
        raise InputError(
            "has numbers that cannot be", where=place, do="give flops and nats_per_character above 0 and shares of 1"
        )
    return Score(
        str(row.get("benchmark") or "benchmark"),
        str(row.get("model") or place),
        values["flops"],
        values["nats_per_character"],
        values.get("accuracy"),
        int(values.get("questions", 0)),
        values.get("chance", 0.0),
        str(row.get("optimal", 1)).strip().lower() not in ("0", "false", "no"),
    )


def evaluated(root: Path, benchmarks: Iterable[str], flops: float) -> dict[str, Score]:
    """What the base model of a workspace made of these benchmarks, by name, as far as it was evaluated."""
    found = {}
    for name in benchmarks:
        path = root / "evaluate" / "predictions" / f"base.{name}.jsonl"
        if path.exists():
            found[name] = score_of(name, "base", flops, read_jsonl(path))
    return found
