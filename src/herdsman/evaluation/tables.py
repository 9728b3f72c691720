"""From rows of predictions to the tables that are reported: shares with intervals, bits per byte by category."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from herdsman.evaluation.benchmarks import ARTIFACT, Benchmark
from herdsman.evaluation.statistics import bits_per_byte, bits_per_byte_interval, normal_margin, wilson

ALL = "all"
CATEGORIES = ("general", "reasoning", "code", "multilingual")
EXAMPLES = 3
METRICS = {"choice": ("acc", "acc_norm"), "free": ("strict", "flexible")}

Rows = list[dict[str, Any]]


def bits_results(rows_of: dict[str, Rows], seed: int) -> list[dict[str, Any]]:
    """Bits per byte by category, `all` last: documents, bytes, and for each model value, low and high.

    Args:
        rows_of: by model, one row a document, the same documents in the same order for all models.
        seed: of the bootstrap.
    """
    documents = next(iter(rows_of.values()))
    found = {row["category"] for row in documents}
    results = []
    for category in [*(c for c in CATEGORIES if c in found), *sorted(found - set(CATEGORIES)), ALL]:
        places = [index for index, row in enumerate(documents) if category in (row["category"], ALL)]
        sizes = [documents[index]["bytes"] for index in places]
        models = {}
        for model, rows in rows_of.items():
            nats = [rows[index]["nats"] for index in places]
            low, high = bits_per_byte_interval(nats, sizes, seed)
            models[model] = {"value": bits_per_byte(nats, sizes), "low": low, "high": high}
        results.append({"category": category, "documents": len(places), "bytes": sum(sizes), "models": models})
    return results


def benchmark_results(benchmark: Benchmark, rows_of: dict[str, Rows], shots: int) -> list[dict[str, Any]]:
    """One entry a metric: the data's origin, the chance level and, for each model, its score with intervals.

    `low` and `high` are Wilson's interval; `margin` is the half-width the paper's formula gives; `setting` says how the
    model was asked; `cut` counts the questions that were longer than the context.
    """
    some = next(iter(rows_of.values()))
    chance = fmean(1 / len(row["choices"]) for row in some) if benchmark.kind == "choice" else 0.0
    return [
        {
            "benchmark": benchmark.name,
            "title": benchmark.title,
            "metric": metric,
            "examples": len(some),
            "chance": chance,
            "licence": benchmark.licence,
            "source": benchmark.source,
            "carried_by": ARTIFACT,
            "models": {model: _scored(benchmark, model, rows, metric, shots) for model, rows in rows_of.items()},
        }
        for metric in METRICS[benchmark.kind]
    ]


def _scored(benchmark: Benchmark, model: str, rows: Rows, metric: str, shots: int) -> dict[str, Any]:
    right = sum(row[metric] for row in rows)
    score = right / len(rows)
    low, high = wilson(right, len(rows))
    return {
        "score": score,
        "right": right,
        "low": low,
        "high": high,
        "margin": normal_margin(score, len(rows)),
        "cut": sum(row["cut"] for row in rows),
        "setting": setting(benchmark, model, shots),
    }


def setting(benchmark: Benchmark, model: str, shots: int) -> str:
    """How the model was asked, in words."""
    if benchmark.kind == "choice":
        return "0-shot, likelihood of each answer, plain text"
    asked = "as turns of a chat" if model == "final" else "plain text"
    return f"{shots}-shot, greedy, {asked}"


def examples(benchmarks: dict[str, Benchmark], rows_of: dict[str, dict[str, Rows]]) -> list[dict[str, Any]]:
    """A few questions of each benchmark with the right answer and what each model made of them.

    The first one that the last model answers right is among them, if there is one.
    """
    shown = []
    for name, benchmark in benchmarks.items():
        metric = METRICS[benchmark.kind][-1]
        last = list(rows_of[name].values())[-1]
        places = sorted(range(len(last)), key=lambda place: (-last[place][metric], place))[:1]
        places += [place for place in range(len(last)) if place not in places][: EXAMPLES - 1]
        for place in sorted(places):
            answers = {model: _answer(benchmark, rows[place]) for model, rows in rows_of[name].items()}
            row = last[place]
            choice = benchmark.kind == "choice"
            shown.append(
                {
                    "benchmark": name,
                    "title": benchmark.title,
                    "question": row["context"] if choice else row["question"],
                    "choices": row["choices"] if choice else [],
                    "right": row["choices"][row["right"]] if choice else row["right"],
                    "answers": answers,
                }
            )
    return shown


def _answer(benchmark: Benchmark, row: dict[str, Any]) -> dict[str, Any]:
    text = row["choices"][row["chosen_norm"]] if benchmark.kind == "choice" else row["answer"].strip()
    return {"text": text, "right": bool(row[METRICS[benchmark.kind][-1]])}
