"""Chapter of evaluation: bits per byte against baselines, public benchmarks with intervals, answers to read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from herdsman.release import figures
from herdsman.release.blocks import Bar, Bars, Block, Chat, Chats, Dot, DotRow, Dots, Fold, Table, Turn, clip
from herdsman.release.journey import Journey, Record

TITLE = "Evaluation"
MODEL_TITLES = {
    "untrained": "untrained",
    "characters": "order-3 characters",
    "base": "base model",
    "final": "chat model",
}
MODEL_COLOURS = {"untrained": "clay", "characters": "hay", "base": "sky", "final": "grass"}
BENCHMARK_COLUMNS = (
    "benchmark",
    "metric",
    "model",
    "asked",
    "questions",
    "score (95% interval)",
    "paper's ±",
    "chance",
)


def bits(record: Record) -> dict[str, Mapping[str, float]]:
    """Bits per byte on all held-out text, by model: value, low, high."""
    rows = record.get("bits_per_byte", [])
    return dict(_in_order(rows[-1]["models"])) if rows else {}


def lead(record: Record) -> str:
    found = bits(record)
    if "base" not in found:
        return ""
    sentence = f"On text it has never seen, the base model needs {found['base']['value']:.2f} bits a byte"
    others = [
        f"{found[name]['value']:.2f} {words}"
        for name, words in (("untrained", "before training"), ("characters", "for an order-3 character model"))
        if name in found
    ]
    return sentence + (f", against {' and '.join(others)}." if others else ".")


def blocks(journey: Journey) -> list[Block]:
    record = journey["evaluate"]
    found: list[Block] = []
    rows = record.get("bits_per_byte", [])
    if rows:
        found += [_bits_bars(rows[-1]), _bits_table(rows)]
    benchmarks = record.get("benchmarks", [])
    if benchmarks:
        table = Table("", BENCHMARK_COLUMNS, benchmark_rows(record), text_columns=(0, 1, 2, 3))
        found += [_benchmark_dots(benchmarks), Fold("Benchmarks in figures", [table])]
    examples = record.get("examples", [])
    if examples:
        found.append(_examples(examples))
    return found


def _bits_bars(row: Mapping[str, Any]) -> Bars:
    items = [
        Bar(
            MODEL_TITLES.get(name, name),
            entry["value"],
            f"{entry['value']:.3f}",
            f"95% interval {entry['low']:.3f} to {entry['high']:.3f}",
            colour=MODEL_COLOURS.get(name, "sky"),
        )
        for name, entry in _in_order(row["models"])
    ]
    note = (
        f"Lower is better. {row['documents']:,} held-out documents, {figures.size(row['bytes'])}, no part of which was "
        "trained on. Random bytes need 8 bits a byte."
    )
    return Bars("Bits per byte on held-out documents", items, note=note)


def _bits_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = [name for name, _ in _in_order(rows[-1]["models"])]
    columns = ("category", "documents", "size", *(MODEL_TITLES.get(name, name) for name in names))
    body = [
        (
            row["category"],
            figures.count(row["documents"]),
            figures.size(row["bytes"]),
            *(f"{row['models'][name]['value']:.3f}" for name in names),
        )
        for row in rows
    ]
    return Table("By category", columns, body)


def _benchmark_dots(benchmarks: Sequence[Mapping[str, Any]]) -> Dots:
    rows = [
        DotRow(
            f"{entry['title']}, {entry['metric']}",
            [
                Dot(score["score"], score["low"], score["high"], MODEL_TITLES.get(name, name))
                for name, score in _in_order(entry["models"])
            ],
            entry["chance"] or None,
        )
        for entry in benchmarks
    ]
    names = [name for name, _ in _in_order(benchmarks[0]["models"])]
    series = {MODEL_TITLES.get(name, name): MODEL_COLOURS.get(name, "sky") for name in names}
    note = "Share of right answers with 95% Wilson intervals; the upright mark is what guessing would give."
    return Dots("Public benchmarks", rows, series, note)


def benchmark_rows(record: Record) -> list[tuple[str, ...]]:
    """One row a benchmark, metric and model: see the columns of `BENCHMARK_COLUMNS`."""
    return [
        (
            f"{entry['title']} ({entry['licence']})",
            entry["metric"],
            MODEL_TITLES.get(name, name),
            score["setting"],
            figures.count(entry["examples"]),
            figures.interval(score["score"], score["low"], score["high"]),
            f"±{100 * score['margin']:.1f}",
            figures.percent(entry["chance"]),
        )
        for entry in record.get("benchmarks", [])
        for name, score in _in_order(entry["models"])
    ]


def _examples(examples: Sequence[Mapping[str, Any]]) -> Chats:
    items = [
        Chat(
            [Turn("system", entry["title"]), Turn("user", clip(entry["question"], 500) + _choices(entry))],
            [
                (MODEL_TITLES.get(name, name), clip(str(answer["text"]), 300), "right" if answer["right"] else "wrong")
                for name, answer in _in_order(entry["answers"])
            ],
        )
        for entry in examples
    ]
    return Chats("Questions it was asked", items)


def _choices(entry: Mapping[str, Any]) -> str:
    return "".join(f"\n· {choice}" for choice in entry.get("choices", []))


def _in_order(models: Mapping[str, Any]) -> list[tuple[str, Any]]:
    known = [name for name in MODEL_TITLES if name in models]
    return [(name, models[name]) for name in [*known, *(name for name in models if name not in MODEL_TITLES)]]
