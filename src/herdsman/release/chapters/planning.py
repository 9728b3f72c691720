"""Chapter of the plan: what was expected of pretraining before it began, beside what came."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from herdsman.cluster.figure import Figure
from herdsman.cluster.goodput import goodput_of_stage
from herdsman.events import EVENTS, read_events
from herdsman.release import figures
from herdsman.release.blocks import Block, Fold, Prose, Table
from herdsman.release.cost import stage_cost
from herdsman.release.journey import Journey
from herdsman.release.plan_text import TITLES, degrees, label, planned_time, read_figures, row, shown, span

TITLE = "Planned and actual"


def lead(journey: Journey) -> str:
    sentence = f"Before it began, pretraining was expected to take {planned_time(journey.root)}"
    if journey["pretrain"].finished:
        return f"{sentence}; it took {figures.duration(_wall_seconds(journey))}."
    return sentence + "."


def blocks(journey: Journey, plan: Mapping[str, Any]) -> list[Block]:
    found: list[Block] = []
    if journey["pretrain"].finished:
        found.append(_compared(journey, plan))
    found += [Prose(f"Note: {warning}.") for warning in plan["warnings"]]
    found.append(Fold("The whole plan", [_phases(plan), *_chapters(plan), _limits(plan)]))
    return found


def _compared(journey: Journey, plan: Mapping[str, Any]) -> Table:
    chapters = {name: read_figures(chapter) for name, chapter in plan["chapters"].items()}
    record = journey["pretrain"]
    account = goodput_of_stage(read_events(journey.root / EVENTS), "pretrain")
    reached = {phase["phase"]: phase for phase in record.manifest.get("metrics", {}).get("speed", {}).get("phases", [])}
    pairs: list[tuple[str, Figure, float | None]] = [
        ("parameters", chapters["model"]["total"], record.get("parameters")),
        ("training tokens", chapters["compute"]["tokens"], record.get("tokens")),
        (label("flops_whole"), chapters["compute"]["flops_whole"], record.get("flops.with_attention")),
    ]
    on_gpus = plan["device"] != "cpu"  # of a CPU, plan and trainer know different peaks
    for phase in plan["phases"]:
        actual = reached.get(phase["name"], {})
        planned = read_figures({name: phase[name] for name in ("step_seconds", "mfu", "memory")})
        pairs += [
            (f"a step of {phase['name']}", planned["step_seconds"], actual.get("seconds")),
            (f"MFU of {phase['name']}", planned["mfu"], actual.get("mfu_causal") if on_gpus else None),
            (f"memory of {phase['name']}", planned["memory"], actual.get("memory_allocated_bytes")),
        ]
    if account:
        trained = account.productive + account.data
        pairs += [
            ("training alone", chapters["time"]["training_seconds"], trained),
            ("effective time", chapters["reliability"]["effective_share"], account.effective),
            ("interruptions", chapters["reliability"]["interruptions"], account.attempts - 1),
        ]
    pairs += [
        ("all of pretraining", chapters["time"]["days"], _wall_seconds(journey) / 86_400),
        ("energy", chapters["energy"]["energy_kwh"], stage_cost(record, journey.options).energy_watt_hours / 1000),
    ]
    rows = [
        (what, shown(figure.value, figure.unit), span(figure), shown(actual, figure.unit), _verdict(figure, actual))
        for what, figure, actual in pairs
        if actual is not None
    ]
    note = (
        f"Planned for {plan['gpus']:,} x {plan['hardware']}. Steps, MFU and memory are medians and peaks of what was "
        "measured; MFU and memory are compared on GPUs, for a CPU's peak and the model's part of its memory are not "
        "known. Energy is not metered, but follows from time."
    )
    return Table(
        "What was planned, and what came", ("", "planned", "range", "actual", ""), rows, note, text_columns=(0,)
    )


def _verdict(figure: Figure, actual: float) -> str:
    """As planned within half a percent, in range, or how far off."""
    off = f"{100 * (actual / figure.value - 1):+.0f}%" if figure.value else ""
    return "as planned" if off in ("+0%", "-0%") else "in range" if figure.holds(actual) else f"{off} off"


def _wall_seconds(journey: Journey) -> float:
    return float(journey["pretrain"].manifest.get("wall_seconds", 0.0))


def _phases(plan: Mapping[str, Any]) -> Table:
    rows = []
    for phase in plan["phases"]:
        names = ("tokens", "step_seconds", "mfu", "memory", "seconds")
        numbers = [shown(figure.value, figure.unit) for figure in read_figures({n: phase[n] for n in names}).values()]
        rows.append((phase["name"], figures.count(phase["steps"]), degrees(phase["layout"]), *numbers))
    return Table("By phase", ("phase", "steps", "layout", "tokens", "a step", "MFU", "memory", "time"), rows)


def _chapters(plan: Mapping[str, Any]) -> list[Table]:
    longest = next(phase for phase in plan["phases"] if phase["name"] == plan["longest"])
    tables = {title: plan["chapters"][name] for name, title in TITLES.items()} | {
        f"A step of {longest['name']}, by part": longest["step_parts"],
        f"Memory of {longest['name']}, by part": longest["memory_parts"],
    }
    return [
        Table(
            title,
            ("", "expected", "range", "is", "source"),
            [row(name, figure) for name, figure in read_figures(chapter).items()],
            text_columns=(0, 3, 4),
        )
        for title, chapter in tables.items()
    ]


def _limits(plan: Mapping[str, Any]) -> Table:
    rows = [
        (
            limit["name"],
            f"{limit['value']:.0e}",
            f"{limit['share']['value']:.3g} x",
            limit["verdict"],
            limit["since"],
            limit["ended"] or "",
            limit["source"],
        )
        for limit in plan["limits"]
    ]
    columns = ("threshold", "of", "reached", "", "since", "ended", "source")
    return Table("What laws count", columns, rows, "Facts, not legal advice.", text_columns=(0, 3, 4, 5, 6))
