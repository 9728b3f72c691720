"""The command that tells what a recipe takes before it is paid for, and what a budget could buy: plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from herdsman.commands.shared import JsonOption, SetOption, out
from herdsman.errors import RecipeError

if TYPE_CHECKING:
    from herdsman.cluster.plan import Plan

HEADLINES = {
    "time": ("days", "gpu_hours", "mfu"),
    "energy": ("cost_dollars", "energy_kwh", "carbon_kg"),
    "compute": ("tokens", "chinchilla_multiple", "flops_6nd", "flops_causal", "flops_whole"),
    "memory": ("fullest",),
    "reliability": ("interruptions", "effective_share", "best_save_interval"),
    "storage": ("checkpoint_bytes", "kept_bytes"),
}
"""What is shown of the figures; all are in --json and in the report."""


def plan(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file, such as recipes/8b.toml.")] = None,
    gpu: Annotated[str | None, typer.Option(help="Hardware: h100, a100-80gb, cpu, this, or a file of its own.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs, or processes on a CPU.")] = None,
    days: Annotated[
        float | None, typer.Option(min=1e-4, help="What is the best model for these GPUs and days?")
    ] = None,
    match: Annotated[str | None, typer.Option(metavar="MODEL", help="What does it take to match this model?")] = None,
    law: Annotated[
        Path | None, typer.Option(help="Scaling law of your own sweep (scaling/law.json), instead of Llama 3's.")
    ] = None,
    to: Annotated[Path | None, typer.Option("--out", help="Write the recipe of --days or --match here.")] = None,
    layouts: Annotated[bool, typer.Option("--layouts", help="Compare parallel layouts.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Predict published runs, and compare.")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine; plans then know it.")] = False,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """What will this recipe take? Time, memory, energy, cost, each with its range; or what could a budget buy?"""
    if recipe is None:
        raise RecipeError("no recipe is given", where="plan", do="name one, such as recipes/8b.toml")
    from herdsman.planning import machine_for, plan_recipe
    from herdsman.recipe import load_recipe

    loaded = load_recipe(recipe, set)
    result = plan_recipe(loaded, *machine_for(loaded, gpu, gpus))
    if json_:
        print(json.dumps(result.as_json(), indent=1, default=str))
    else:
        _show(result)


def _show(plan: Plan) -> None:
    from herdsman.release.plan_text import degrees, row, shown

    devices = "processes" if plan.device == "cpu" else "GPUs"
    total = int(plan.chapters["model"]["total"].value)
    out.print(f"{plan.name}: {total:,} parameters, on {plan.gpus:,} {devices} ({plan.hardware})")
    table = Table("", "expected", "range", "is", box=None, pad_edge=False)
    for chapter, names in HEADLINES.items():
        for name in names:
            table.add_row(*row(name, plan.chapters[chapter][name])[:4])
    out.print(table)
    for standing in plan.limits:
        limit = standing.limit
        if standing.verdict != "below" and limit.ended is None:
            out.print(f"{limit.name}: {standing.share.value:.3g} times {limit.value:.0e}, {standing.verdict}")
    rates = plan.rates
    by_size = f" (by the model's size: {', '.join(rates.by_size)})" if rates.by_size else ""
    out.print(
        f"learning rate: up to {rates.peak_learning_rate:.3g} in {rates.warmup_steps:,} steps, "
        f"down to {rates.final_learning_rate:.3g}{by_size}"
    )
    phases = Table(
        "phase",
        "steps",
        "tokens",
        "batch",
        "sequence",
        "layout",
        "a step",
        "MFU",
        "memory",
        "time",
        box=None,
        pad_edge=False,
    )
    for phase in plan.phases:
        phases.add_row(
            phase.name, f"{phase.steps:,}", shown(phase.tokens.value, "tokens"), shown(phase.batch_tokens, "tokens"),
            f"{phase.sequence_length:,}", degrees(vars(phase.layout)), shown(phase.step_seconds.value, "s"),
            shown(phase.mfu.value, "share"), shown(phase.memory.value, "B"), shown(phase.seconds.value, "s"),
        )  # fmt: skip
    out.print(phases)
    longest = plan.longest
    out.print(f"a step of {longest.name}: {_parts(longest.step_parts, 's')}")
    out.print(f"its memory: {_parts(longest.memory_parts, 'B')}")
    for warning in plan.warnings:
        out.print(f"[yellow]note:[/] {warning}")


def _parts(parts: dict[str, Any], unit: str) -> str:
    """Parts, largest first."""
    from herdsman.release.plan_text import shown

    ordered = sorted(parts.items(), key=lambda part: -part[1].value)
    return ", ".join(f"{name} {shown(figure.value, unit)}" for name, figure in ordered)
