"""Chapter of scaling laws: IsoFLOP curves, the law through their minima, and what it foretold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from herdsman.files import read_json
from herdsman.release import figures
from herdsman.release.blocks import Block, Chapter, Chart, Figure, Figures, Table
from herdsman.release.charts import Line, LineChart, draw
from herdsman.scaling.sweep import FOLDER, LAW

TITLE = "How large, for how much compute"
COLOURS = ("grass", "sky", "clay", "hay", "heather")
DRAWN = 40  # points of a drawn curve


def chapter(root: Path) -> Chapter | None:
    """None where no sweep has been fitted."""
    try:
        law = read_json(root / FOLDER / LAW)
    except (OSError, ValueError):
        return None
    used = [curve for curve in law["curves"] if curve["tokens"]]
    runs = sum(len(curve["points"]) for curve in law["curves"])
    lead = (
        f"{runs} small models at {len(law['curves'])} budgets say how compute is best spent: training tokens grow "
        f"as its power {law['tokens']['exponent']:.3f}."
    )
    blocks: list[Block] = [_figures(law), Chart(draw(_curves(law["curves"])), _curves_caption(law))]
    blocks += [Chart(draw(_law_chart(law, used)), _law_caption(law)), Chart(draw(_loss_chart(law, used)))]
    return Chapter(FOLDER, TITLE, lead, [*blocks, _table(law), *_check(law)])


def _figures(law: Mapping[str, Any]) -> Figures:
    tokens = law["tokens"]
    between = f"{tokens['low_exponent']:.3f} to {tokens['high_exponent']:.3f} with 95% confidence; Llama 3: 0.537"
    found = [
        Figure(f"{tokens['exponent']:.3f}", "exponent of tokens", between),
        Figure(f"{1 - tokens['exponent']:.3f}", "exponent of parameters"),
        Figure(f"{law['noise']:.4f}", "noise of a run", "nats a token, from the curves' residuals"),
    ]
    if check := law.get("check"):
        note = f"loss at {figures.power_of_ten(check['flops'])} FLOPs"
        found.append(Figure(f"{100 * check['loss_error']:+.1f}%", "forecast against run", note))
    return Figures(found)


def _curves(curves: Sequence[Mapping[str, Any]]) -> LineChart:
    """Runs as dots, parabolas as lines; the colours come round again where there are more budgets."""
    lines = []
    for number, curve in enumerate(curves):
        colour, points = COLOURS[number % len(COLOURS)], curve["points"]
        x = [point["tokens"] for point in points]
        if curve["curvature"]:
            drawn = [float(tokens) for tokens in np.geomspace(x[0], x[-1], DRAWN)]
            heights = [
                curve["curvature"] * math.log(tokens / curve["best_tokens"]) ** 2 + curve["lowest_loss"]
                for tokens in drawn
            ]
            lines.append(Line("", drawn, heights, colour))
        label = f"{figures.power_of_ten(curve['flops'])} FLOPs"
        lines.append(Line(label, x, [point["loss"] for point in points], colour, "points"))
    return LineChart(
        "Held-out loss of models trained with the same compute, by training tokens, with parabolas",
        "training tokens",
        "held-out loss, nats a token",
        tuple(lines),
        log_x=True,
    )


def _curves_caption(law: Mapping[str, Any]) -> str:
    outside = [curve for curve in law["curves"] if curve["problem"]]
    said = "Each colour is one budget: many tokens for a small model, or few for a large one. The best is in between."
    return said + "".join(f" {figures.power_of_ten(c['flops'])} FLOPs is not used: {c['problem']}." for c in outside)


def _law_chart(law: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> LineChart:
    flops = [curve["flops"] for curve in used]
    check = law.get("check")
    ends = [flops[0], check["flops"] if check else flops[-1]]
    fitted = [law["tokens"]["coefficient"] * end ** law["tokens"]["exponent"] for end in ends]
    lines = [
        Line("law", ends, fitted, "grass"),
        Line("minima of the curves", flops, [curve["best_tokens"] for curve in used], "sky", "points"),
    ]
    if check:
        lines.append(Line("the check's minimum", ends[1:], [check["curve"]["best_tokens"]], "clay", "points"))
    return LineChart(
        "Compute-optimal training tokens by compute", "training FLOPs", "training tokens", tuple(lines),
        log_x=True, log_y=True,
    )  # fmt: skip


def _law_caption(law: Mapping[str, Any]) -> str:
    tokens = law["tokens"]
    said = f"tokens = {tokens['coefficient']:.3g} × FLOPs^{tokens['exponent']:.4f}."
    if law["excess"] > 1:
        said += (
            f" The minima scatter {law['excess']:.1f} times as far as the runs' noise explains; intervals are wider."
        )
    return said


def _loss_chart(law: Mapping[str, Any], used: Sequence[Mapping[str, Any]]) -> LineChart:
    flops, loss, check = [curve["flops"] for curve in used], law["loss"], law.get("check")
    x = [float(value) for value in np.geomspace(flops[0], check["flops"] if check else flops[-1], DRAWN)]
    fitted = [loss["floor"] + loss["scale"] * (value / loss["middle"]) ** -loss["exponent"] for value in x]
    lines = [
        Line("law", x, fitted, "grass"),
        Line("lowest losses of the curves", flops, [curve["lowest_loss"] for curve in used], "sky", "points"),
    ]
    if check:
        lines.append(Line("the check's lowest", x[-1:], [check["curve"]["lowest_loss"]], "clay", "points"))
    return LineChart(
        "Held-out loss of the compute-optimal model by compute", "training FLOPs", "held-out loss, nats a token",
        tuple(lines), log_x=True,
    )  # fmt: skip


def _table(law: Mapping[str, Any]) -> Table:
    rows: list[tuple[object, ...]] = []
    for curve in law["curves"]:
        start = (figures.power_of_ten(curve["flops"]), len(curve["points"]))
        if not curve["tokens"]:
            rows.append((*start, "", "", "", "", ""))
            continue
        low, high = (figures.short_count(curve["tokens"][end]) for end in ("low", "high"))
        loss = curve["lowest_loss"]
        best = (figures.short_count(curve[name]) for name in ("best_tokens", "best_parameters"))
        rows.append((*start, *best, f"{low} to {high}", f"{loss:.4f}", f"{loss * law['bits_per_nat']:.4f}"))
    columns = ("FLOPs", "runs", "best tokens", "best parameters", "tokens, 95%", "loss", "bits per byte")
    note = (
        "FLOPs count every matrix product a token meets, the output layer's too, and causal attention. Bits per byte "
        "are reckoned from the loss by the vocabulary's bytes a token on held-out text."
    )
    return Table("The minima", columns, rows, note)


def _check(law: Mapping[str, Any]) -> list[Block]:
    check = law.get("check")
    if not check:
        return []
    curve, tokens, loss = check["curve"], check["foretold_tokens"], check["foretold_loss"]
    shown = figures.short_count
    rows = [
        (
            "best tokens",
            f"{shown(tokens['value'])} ({shown(tokens['low'])} to {shown(tokens['high'])})",
            shown(curve["best_tokens"]),
        ),
        (
            "lowest loss",
            f"{loss['value']:.4f} ({loss['low']:.4f} to {loss['high']:.4f})",
            f"{curve['lowest_loss']:.4f}",
        ),
        ("loss at the foretold size", "", f"{check['loss_at_foretold_tokens']:.4f}"),
    ]
    title = f"What the law foretold for {figures.power_of_ten(check['flops'])} FLOPs, before these were run"
    return [Table(title, ("", "foretold (95% interval)", "by the runs' parabola"), rows)]
