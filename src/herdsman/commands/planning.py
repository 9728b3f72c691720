"""The command that tells what a recipe takes before it is paid for, and what a budget could buy: plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from herdsman.commands.shared import JsonOption, SetOption, file_to_write, out
from herdsman.errors import RecipeError
from herdsman.files import write_text

if TYPE_CHECKING:
    from herdsman.cluster.layouts import Search
    from herdsman.cluster.plan import Plan
    from herdsman.cluster.questions import Answer

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
    to: Annotated[
        Path | None,
        typer.Option("--out", callback=file_to_write, help="Write the recipe of --days, --match or --layouts here."),
    ] = None,
    layouts: Annotated[bool, typer.Option("--layouts", help="Compare parallel layouts.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Predict published runs, and compare.")] = False,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine; plans then know it.")] = False,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """What will this recipe take? Time, memory, energy, cost, each with its range; or what could a budget buy?"""
    if calibrate:
        _calibrate()
    if check:
        _check(json_)
    if recipe is None:
        if check or calibrate:
            return
        raise RecipeError("no recipe is given", where="plan", do="name one, such as recipes/8b.toml")
    from herdsman.planning import ask, layouts_of, machine_for, plan_recipe
    from herdsman.recipe import load_recipe

    loaded = load_recipe(recipe, set)
    hardware, count = machine_for(loaded, gpu, gpus)
    found: Any
    show: Callable[[Any], None]
    if match is not None or days is not None:
        found, text = ask(loaded, hardware, gpus if match else count, days, match, law)
        show = _show_answer
    elif layouts:
        found, text = layouts_of(loaded, hardware, count)
        show = _show_layouts
    else:
        found, text, show = plan_recipe(loaded, hardware, count), None, _show
    if to is not None and text is None:
        raise RecipeError("there is no new recipe to write", where="--out", do="ask with --days, --match or --layouts")
    if to is not None and text is not None:
        write_text(to, text)
    if json_:
        print(json.dumps(found.as_json(), indent=1, default=str))
        return
    show(found)
    if to is not None:
        out.print(f"wrote {to}; raise it with: herdsman raise {to}", markup=False, soft_wrap=True)


def _show(plan: Plan) -> None:
    from herdsman.release.plan_text import degrees, row, shown

    devices = ("process" if plan.gpus == 1 else "processes") if plan.device == "cpu" else "GPU" + "s" * (plan.gpus > 1)
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


def _show_answer(answer: Answer) -> None:
    from herdsman.release.plan_text import shown, span

    _show(answer.plan)
    model, optimum = answer.model, answer.optimum
    out.print(
        f"model: {model.layers} layers, width {model.dim:,}, {model.heads} heads, {model.kv_heads} of keys and values, "
        f"feed-forward {model.ffn_dim:,}"
    )
    out.print(f"best tokens for these FLOPs: {shown(optimum.value, 'tokens')} ({span(optimum)}; {optimum.source})")
    if answer.loss is not None:
        out.print(f"expected held-out loss: {answer.loss:.3f} nats a token")
    if answer.matched and answer.same_loss_flops:
        matched, least = answer.matched, answer.same_loss_flops
        results = ", ".join(f"{name} {value:g}" for name, value in matched.benchmarks.items())
        out.print(f"{matched.name}: {matched.source}" + (f"; base model: {results}" if results else ""))
        share = least.value / matched.flops
        out.print(
            f"the same loss takes {share:.0%} of its {shown(matched.flops, 'FLOP')} FLOPs at least ({least.source})"
        )


def _show_layouts(search: Search) -> None:
    from herdsman.release.plan_text import degrees, shown

    out.print(f"{search.considered:,} layouts of the phase with most tokens")
    table = Table("layout", "schedule", "rows", "recompute", "a step", "MFU", "memory", "", box=None, pad_edge=False)
    for found in search.best:
        layout, job = found.layout, found.job
        stages = f"{layout.schedule} x {layout.stages // layout.pipeline}" if layout.pipeline > 1 else ""
        sharded = " reshard" if layout.reshard_after_forward else ""
        table.add_row(
            degrees(vars(layout)) + sharded, stages, str(job.micro_batch_tokens // job.sequence_length), job.recompute,
            shown(found.step.seconds, "s"), shown(found.step.mfu_causal, "share"),
            shown(found.memory.total_bytes, "B"), found.why_not_first,
        )  # fmt: skip
    out.print(table)
    for reason, count in search.infeasible.items():
        out.print(f"not possible, {count:,}: {reason}")


def _calibrate() -> None:
    from herdsman.cluster.calibrate import calibrate
    from herdsman.progress import Progress
    from herdsman.recipe import MachineOptions
    from herdsman.stages import resolve_device

    path = calibrate(resolve_device(MachineOptions()), Progress())
    out.print(f"measured this machine: {path}", markup=False, soft_wrap=True)


def _check(json_: bool) -> None:
    from herdsman.cluster.published import check

    lines = check()
    if json_:
        print(json.dumps([line.as_json() for line in lines], indent=1))
    else:
        table = Table("source", "what", "published", "predicted", "off", "within", "", box=None, pad_edge=False)
        for line in lines:
            numbers = [f"{value:,.4g}" if value is not None else "" for value in (line.published, line.predicted)]
            off = f"{line.difference:+.1%}" if line.difference is not None else ""
            claimed = f"{line.tolerance:.1%}" if line.tolerance is not None else ""
            kept = {True: "[green]holds[/]", False: "[red]FAILS[/]", None: escape(line.contradiction)}[line.holds]
            table.add_row(
                line.source, f"{line.what}{f', {line.unit}' if line.unit else ''}", *numbers, off, claimed, kept
            )
        out.print(table)
    if any(line.holds is False for line in lines):
        raise typer.Exit(1)
