"""How a plan's figures are called and shown, in the terminal and in the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from herdsman.cluster.figure import Figure
from herdsman.files import read_json
from herdsman.release import figures
from herdsman.workspace import PLAN

TITLES = {
    "model": "The model",
    "compute": "Computing",
    "time": "Time",
    "memory": "Memory of a device",
    "reliability": "Interruptions",
    "energy": "Energy, carbon, cost",
    "storage": "Storage",
}
LABELS = {
    "total": "parameters",
    "feed_forward": "feed-forward",
    "flops_6nd": "FLOPs by 6ND",
    "flops_causal": "FLOPs, attention causal",
    "flops_whole": "FLOPs, attention whole",
    "chinchilla_multiple": "of 20 tokens a parameter",
    "days": "time, with interruptions",
    "gpu_hours": "GPU-hours",
    "training_seconds": "time of training alone",
    "validation_seconds": "validation",
    "mfu": "MFU, attention causal",
    "fullest": "memory of the fullest device",
    "there_is": "memory there is",
    "effective_share": "effective time",
    "best_effective_share": "effective time at best",
    "energy_kwh": "energy of the GPUs",
    "site_energy_kwh": "energy of the site",
    "power_watts": "power of the GPUs",
    "site_power_watts": "power of the site",
    "power_swing_watts": "swing of power",
    "carbon_kg": "CO2 equivalent",
    "cost_dollars": "cost",
    "checkpoint_bytes": "a checkpoint",
    "checkpoint_bytes_per_gpu": "of it, a GPU's part",
    "checkpoint_write_seconds": "to write it",
    "burst_bytes_per_second": "least bandwidth",
    "written_bytes": "checkpoints written",
    "checkpoints_written": "checkpoints",
    "kept_bytes": "kept at the end",
    "token_bytes": "tokens read",
}


def label(name: str) -> str:
    return LABELS.get(name, name.replace("_", " "))


def shown(value: float, unit: str) -> str:
    """A number of this unit as people read it."""
    match unit:
        case "B":
            return figures.size(value)
        case "B/s" | "FLOP/s":
            return f"{figures.size(value)}/s" if unit == "B/s" else f"{figures.power_of_ten(value)} FLOP/s"
        case "s":
            return figures.duration(value) if value >= 1 else f"{1000 * value:.3g} ms"
        case "FLOP":
            return figures.power_of_ten(value)
        case "share":
            return figures.percent(value)
        case "x":
            return f"{value:.3g} x"
        case "days":
            return figures.duration(86_400 * value)
        case "W" | "kWh":
            for scale, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")):
                base = value * (1000 if unit == "kWh" else 1)
                if base >= scale:
                    return f"{base / scale:.3g} {prefix}{'Wh' if unit == 'kWh' else 'W'}"
            return f"{base:.2g} {'Wh' if unit == 'kWh' else 'W'}"
        case "kg":
            return figures.grams(1000 * value) if value < 1e6 else f"{float(f'{value / 1000:.3g}'):,.0f} t"
        case "$":
            return f"${figures.short_count(value)}" if value >= 100 else f"${value:.2f}"
    if 0 < value < 0.001:
        return "under 0.001"
    return f"{figures.short_count(value)}" if value >= 100 else f"{value:.3g}"


def span(figure: Figure) -> str:
    """The range, or nothing where the figure is exact."""
    if figure.low == figure.high:
        return ""
    return f"{shown(figure.low, figure.unit)} to {shown(figure.high, figure.unit)}"


def row(name: str, figure: Figure) -> tuple[str, str, str, str, str]:
    """Label, value, range, origin, source."""
    return label(name), shown(figure.value, figure.unit), span(figure), figure.origin, figure.source


def read_figures(chapter: Mapping[str, Mapping[str, Any]]) -> dict[str, Figure]:
    """Figures of a chapter as `plan.json` keeps them."""
    return {name: Figure(**figure) for name, figure in chapter.items()}


def read_plan(root: Path) -> dict[str, Any] | None:
    """The plan of a herd's present pretraining; None if there is none, or none that this version can read."""
    try:
        plan = read_json(root / PLAN)
        read_figures(plan["chapters"]["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(plan)


def planned_time(root: Path) -> str:
    """How long pretraining was expected to take, and the range; nothing where there is no plan."""
    plan = read_plan(root)
    if plan is None:
        return ""
    days = read_figures(plan["chapters"]["time"])["days"]
    return f"{shown(days.value, 'days')} ({span(days)})"


def degrees(layout: Mapping[str, Any]) -> str:
    """A layout in a word: TP8 PP16 DP128, or one process."""
    names = (("TP", "tensor"), ("CP", "context"), ("PP", "pipeline"), ("DP", "data"))
    return " ".join(f"{short}{layout[name]}" for short, name in names if layout[name] > 1) or "one process"
