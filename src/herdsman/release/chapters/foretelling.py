"""Chapters of what small models told before the large one: its benchmarks, a better mix, what data sets are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from herdsman.files import read_json
from herdsman.release import figures
from herdsman.release.blocks import Block, Chapter, Chart, Code, Prose, Section, Table
from herdsman.release.charts import Line, LineChart, draw
from herdsman.scaling.forecast import FORECAST, Sigmoid
from herdsman.scaling.scores import Score, evaluated
from herdsman.scaling.sweep import FOLDER

MIX, PROBES = f"{FOLDER}/mixes", f"{FOLDER}/probes/*/*/result.json"
DRAWN = 60  # points of a drawn curve


def chapters(root: Path) -> list[Chapter]:
    """Those for which there is something."""
    found = [_forecasts(root), _mix(root), _probes(root)]
    return [chapter for chapter in found if chapter]


def _forecasts(root: Path) -> Chapter | None:
    try:
        record = read_json(root / FORECAST)
    except (OSError, ValueError):
        return None
    measured = evaluated(root, [entry["benchmark"] for entry in record["forecasts"]], record["flops"])
    when = "before" if record["before_run"] else "after"
    day = record["made_at"][:10]
    lead = (
        f"Benchmarks for {figures.power_of_ten(record['flops'])} FLOPs, forecast on {day}, {when} the herd was "
        f"trained, from {len({row['model'] for row in record['fitted_on']})} small models."
    )
    rows, blocks = list[tuple[object, ...]](), list[Block]()
    for entry in record["forecasts"]:
        name, found = entry["benchmark"], measured.get(entry["benchmark"])
        points = [Score(**row) for row in record["fitted_on"] if row["benchmark"] == name]
        rows.append(
            _row(name, "nats per character", entry["nats_per_character"], found.nats_per_character if found else None)
        )
        if entry["accuracy"]:
            rows.append(_row(name, "accuracy", entry["accuracy"], found.accuracy if found else None))
        charts: list[Block] = [Chart(draw(_line_chart(name, entry, points, found)))]
        if entry["sigmoid"]:
            charts.append(Chart(draw(_sigmoid_chart(name, entry, points, found)), _accuracy_caption(entry)))
        blocks.append(Section(name, charts))
    columns = ("benchmark", "measure", "forecast", "95% interval", "measured", "")
    note = (
        "First the right answers' negative log-likelihood per character, a line in the logarithm of compute through "
        "the best model of each budget; then accuracy, a sigmoid of that likelihood through all models."
    )
    return Chapter("forecast", "What was forecast", lead, [Table("", columns, rows, note, (0, 1, 5)), *blocks])


def _row(name: str, measure: str, estimate: Mapping[str, float], measured: float | None) -> tuple[object, ...]:
    between = f"{estimate['low']:.3f} to {estimate['high']:.3f}"
    if measured is None:
        return (name, measure, f"{estimate['value']:.3f}", between, "", "not yet")
    held = estimate["low"] <= measured <= estimate["high"]
    return (name, measure, f"{estimate['value']:.3f}", between, f"{measured:.3f}", "inside" if held else "outside")


def _line_chart(name: str, entry: Mapping[str, Any], points: Sequence[Score], found: Score | None) -> LineChart:
    ends = [min(point.flops for point in points), max(entry["flops"], *(point.flops for point in points))]
    fitted = [entry["intercept"] + entry["slope"] * float(np.log10(end)) for end in ends]
    lines = [Line("forecast", ends, fitted, "grass")]
    for label, colour, wanted in (("best of its budget", "sky", True), ("other models", "hay", False)):
        mine = [point for point in points if point.optimal == wanted]
        lines.append(Line(label, [p.flops for p in mine], [p.nats_per_character for p in mine], colour, "points"))
    likelihood = entry["nats_per_character"]
    interval = [likelihood["low"], likelihood["high"]]
    lines.append(Line("95% interval", [entry["flops"]] * 2, interval, "grass", "faint"))
    if found:
        lines.append(Line("measured", [entry["flops"]], [found.nats_per_character], "clay", "points"))
    title = f"{name}: nats per character of the right answer by training compute"
    lines = [line for line in lines if line.x]
    return LineChart(title, "training FLOPs", "nats per character", tuple(lines), log_x=True)


def _sigmoid_chart(name: str, entry: Mapping[str, Any], points: Sequence[Score], found: Score | None) -> LineChart:
    known = [point for point in points if point.accuracy is not None]
    at = [entry["nats_per_character"]["value"], *(point.nats_per_character for point in known)]
    x = np.linspace(min(at), max(at), DRAWN)
    curve = Sigmoid(**entry["sigmoid"])(x).tolist()
    lines = [
        Line("sigmoid", x.tolist(), curve, "grass"),
        Line("models", [p.nats_per_character for p in known], [float(p.accuracy or 0) for p in known], "sky", "points"),
    ]
    if found and found.accuracy is not None:
        lines.append(Line("measured", [found.nats_per_character], [found.accuracy], "clay", "points"))
    title = f"{name}: accuracy by nats per character of the right answer"
    return LineChart(title, "nats per character: better to the left", "accuracy", tuple(lines))


def _accuracy_caption(entry: Mapping[str, Any]) -> str:
    guessing = f"Guessing would be right {figures.percent(entry['chance'])} of the time."
    if entry["rises"]:
        return guessing
    return guessing + " The models' accuracies do not clearly rise, so where they will is open."


def _mix(root: Path) -> Chapter | None:
    try:
        found = read_json(root / MIX / "result.json")
        keys = (root / MIX / "mix.toml").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    measured, predicted = found["measured_change"], found["predicted_change"]
    runs = len(found["runs"])
    verdict = "better by measurement" if found["better"] else "not clearly better by measurement"
    lead = f"{runs} small runs propose another mix, which is {verdict}."
    base, proposal = found["base"], found["proposal"]
    parts = [
        (part, figures.percent(share), figures.percent(proposal["parts"][part]))
        for part, share in base["parts"].items()
    ]
    weighed = ", ".join(f"{name} {weight:g}" for name, weight in found["weights"].items())
    said = (
        f"At {figures.power_of_ten(found['check_flops'])} FLOPs the weighted held-out loss ({weighed}) changes by "
        f"{_signed(measured)} bits per byte; the law of the small runs predicted {_signed(predicted)}."
    )
    blocks: list[Block] = [
        Table("Shares of the tokens", ("part", "recipe", "proposal"), parts),
        Prose(said),
        changes_table(found["changes"], "recipe's mix", "proposal"),
        Code(keys),
    ]
    topics = [row for row in found["topics"] if row["topic"]]
    if topics:
        rows = [
            (row["topic"], row["category"], figures.percent(row["given"]), f"{row['weight']:g}")
            for row in sorted(topics, key=lambda row: -row["given"])[:12]
        ]
        note = (
            "As the topic classifier sees the recipe's mix. A topic with a weight in documents.mix.topic_weights, were "
            "it 1, is a part of the search."
        )
        blocks.append(Table("The most frequent topics", ("topic", "category", "tokens", "weight"), rows, note, (0, 1)))
    return Chapter("mix", "A better mix", lead, blocks)


def _probes(root: Path) -> Chapter | None:
    results = [read_json(path) for path in sorted(root.glob(PROBES))]
    if not results:
        return None
    blocks, shown = list[Block](), figures.short_count
    for found in results:
        said = (
            f"Annealed after {shown(found['begins_after_tokens'])} of {shown(found['tokens_of_pretraining'])} tokens, "
            f"{found['seeds']} times. {figures.percent(found['share'], 0)} of {shown(found['annealed_tokens'])} tokens "
            f"are the new set's, whose own {shown(found['new_tokens'])} were read {found['epochs_of_new']:.2g} times."
        )
        blocks.append(Section(found["name"], [Prose(said), changes_table(found["changes"], "without", "with it")]))
    lead = "A half-trained model, annealed with a data set and without it, says what the set is worth."
    return Chapter("probe", "What data is worth", lead, blocks)


def changes_table(changes: Sequence[Mapping[str, Any]], before: str, after: str) -> Table:
    rows = [
        (
            entry["what"],
            entry["measure"].replace("_", " "),
            f"{entry['before']:.4f}",
            f"{entry['after']:.4f}",
            _signed(entry["change"]),
            verdict(entry),
        )
        for entry in changes
    ]
    columns = ("measured on", "", before, after, "change (95% interval)", "")
    return Table("", columns, rows, "Intervals are paired, over documents or questions and seeds.", (0, 1, 5))


def verdict(entry: Mapping[str, Any]) -> str:
    if not entry["change"]["clear"]:
        return "not clear"
    return "better" if (entry["change"]["value"] > 0) == (entry["measure"] == "accuracy") else "worse"


def _signed(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:+.4f} ({estimate['low']:+.4f} to {estimate['high']:+.4f})"
