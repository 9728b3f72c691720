"""The command of scaling laws: scale."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from herdsman.commands.shared import JsonOption, SetOption, fail, file_to_write, out
from herdsman.errors import RecipeError
from herdsman.progress import Progress
from herdsman.recipe import Recipe, load_recipe
from herdsman.workspace import Workspace

if TYPE_CHECKING:
    from herdsman.scaling.isoflop import Family
    from herdsman.scaling.law import Fit
    from herdsman.scaling.runs import Train
    from herdsman.scaling.sweep import Sweep

ProcessesOption = Annotated[
    int | None, typer.Option(min=1, help="Runs at once on this machine; one a core or a GPU if left out.")
]
REPEATED = 4  # passes over data from which repetition bends curves (Muennighoff et al. 2023, arXiv 2305.16264)


def scale(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file; may be left out with --points.")] = None,
    workspace: Annotated[Path | None, typer.Option(help="Where results go; herds/NAME if left out.")] = None,
    points: Annotated[Path | None, typer.Option(help="Fit this table of runs (CSV or JSON) and run nothing.")] = None,
    budget: Annotated[
        float | None, typer.Option(min=1, help="FLOPs of the model wanted: its size and tokens, and its recipe.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(callback=file_to_write, help="Where to write that recipe; WORKSPACE/scaling if left out."),
    ] = None,
    processes: ProcessesOption = None,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """How large a model for how much compute? Runs an IsoFLOP sweep and fits scaling laws. Run again to resume; on
    further machines that share the folder, run it too to take part."""
    from herdsman.scaling.law import fit_isoflop
    from herdsman.scaling.points import read_points

    if recipe is None and points is None:
        raise RecipeError("there is no recipe and no table", do="give a recipe, or a table with --points")
    loaded = load_recipe(recipe, set) if recipe else None
    root = workspace or (Path("herds") / loaded.name if loaded else Path())
    if points:
        fit = fit_isoflop(read_points(points))
        found = fit.as_json()
    else:
        assert loaded
        try:
            sweep = _run(loaded, root, processes)
        except KeyboardInterrupt:
            fail("stopped; run the same command to go on where it stopped", 130)
        fit, found = sweep.write()
        write_report(root)
    found["at"] = _at(fit, budget or max(curve.flops for curve in fit.curves))
    if loaded and budget:
        found["flagship"] = _flagship(
            fit, budget, loaded, to or root / "scaling" / f"flagship-{budget:.3g}.toml".replace("+", "")
        )
    if json_:
        print(json.dumps(found, indent=1))
        return
    _show(fit, found)


def prepare(recipe: Recipe, root: Path, processes: int | None, progress: Progress) -> tuple[Train, int]:
    """Makes the data if need be; what trains one small model, and how many of them at once."""
    from herdsman.parallel import available_cores
    from herdsman.stages import fingerprints, raise_herd, resolve_device, train_model

    if not Workspace(root).stands("tokens", fingerprints(recipe)["tokens"]):
        raise_herd(recipe, Workspace(root), progress, until="tokens")
    if processes is None:
        processes = 1 if recipe.machine.processes > 1 or recipe.machine.nodes != "1" else available_cores()
        if resolve_device(recipe.machine).type == "cuda":
            import torch

            processes = torch.cuda.device_count() if recipe.machine.processes == 1 else 1
    machine = recipe.machine
    if processes > 1 and machine.threads is None:
        machine = machine.model_copy(update={"threads": max(1, available_cores() // processes)})
    return partial(train_model, recipe.model_copy(update={"machine": machine})), processes


def _run(recipe: Recipe, root: Path, processes: int | None) -> Sweep:
    """Makes the data if need be, says what the sweep takes, and does it."""
    from herdsman.scaling.isoflop import grid
    from herdsman.scaling.runs import run_all
    from herdsman.scaling.sweep import Sweep

    progress = Progress()
    for each in recipe.scaling.budgets:
        grid(each, _family(recipe), recipe.scaling)  # says now, and not after the data is made, if one is too small
    train, count = prepare(recipe, root, processes, progress)
    sweep = Sweep(root, recipe.scaling, recipe.model, recipe.pretrain, recipe.seed)
    runs = sweep.runs()
    tokens, unique = [run.tokens for run in runs], sweep.unique_tokens()
    progress.line(
        f"{len(runs)} runs at {len(sweep.budgets)} budgets: {sum(run.flops for run in runs):.3g} FLOPs and "
        f"{sum(tokens):,} tokens in all, {count} at once. A curve whose minimum lies outside gets further runs."
    )
    if max(tokens) > REPEATED * unique:
        progress.line(
            f"The longest run reads the herd's {unique:,} tokens {max(tokens) / unique:.1f} times. Repetition bends "
            "curves: add pages or lower scaling.budgets."
        )
    run_all(sweep.runs, sweep.folder, train, count, progress, f"scale {recipe.name}")
    return sweep


def write_report(root: Path) -> None:
    from herdsman.release import report

    report.write_report(root, root / "report.html")


def _at(fit: Fit, flops: float) -> dict[str, Any]:
    figures = {"tokens": fit.tokens(flops), "parameters": fit.parameters(flops), "loss": fit.loss(flops)}
    return {"flops": flops} | {name: asdict(figure) for name, figure in figures.items()}


def _family(recipe: Recipe) -> Family:
    from herdsman.model.count import SPECIAL_TOKENS
    from herdsman.scaling.isoflop import Family

    return Family(recipe.model, recipe.tokenizer.vocab_size + SPECIAL_TOKENS, recipe.pretrain.phases[0].sequence_length)


def _flagship(fit: Fit, budget: float, recipe: Recipe, path: Path) -> dict[str, Any]:
    from herdsman.files import write_text
    from herdsman.scaling.flagship import flagship, flagship_recipe

    family = _family(recipe)
    found = flagship(fit, budget, family)
    write_text(path, flagship_recipe(found, recipe, recipe.name, recipe.pretrain, family))
    model = found.model.model_dump(exclude_defaults=True)
    return {"recipe": str(path), "parameters": found.parameters, "tokens": found.tokens, "model": model}


def _show(fit: Fit, found: dict[str, Any]) -> None:
    columns = ("FLOPs", "runs", "best tokens (95% interval)", "parameters", "tokens a parameter", "loss", "")
    table = Table(*columns, box=None, pad_edge=False)
    for curve in fit.curves:
        start = (f"{curve.flops:.3g}", f"{len(curve.points)}")
        if curve.tokens is None:
            table.add_row(*start, "", "", "", "", f"not used: {curve.problem}")
            continue
        tokens = f"{curve.best_tokens:.3g} ({curve.tokens.low:.3g} to {curve.tokens.high:.3g})"
        ratio = curve.best_tokens / curve.best_parameters
        table.add_row(*start, tokens, f"{curve.best_parameters:.3g}", f"{ratio:.3g}", f"{curve.lowest_loss:.4f}", "")
    out.print(table)
    exponent, coefficient = fit.exponent, fit.coefficient
    out.print(
        f"\noptimal tokens = {coefficient.value:.3g} x FLOPs^{exponent.value:.4f}   (95% intervals: "
        f"{coefficient.low:.3g} to {coefficient.high:.3g}, {exponent.low:.4f} to {exponent.high:.4f}; "
        "Llama 3: 0.299, 0.537)"
    )
    if fit.excess > 1:
        out.print(
            f"The minima scatter {fit.excess:.1f} times as far around it as the runs' noise explains; the intervals "
            "are wider for it."
        )
    at = found["at"]
    tokens, parameters, loss = at["tokens"], at["parameters"], at["loss"]
    out.print(
        f"at {at['flops']:.3g} FLOPs: {tokens['value']:.4g} tokens ({tokens['low']:.4g} to {tokens['high']:.4g}), "
        f"{parameters['value']:.4g} parameters by FLOPs / 6 tokens, loss {loss['value']:.4f} "
        f"({loss['low']:.4f} to {loss['high']:.4f})"
    )
    if check := found.get("check"):
        tokens, loss, curve = check["foretold_tokens"], check["foretold_loss"], check["curve"]
        out.print(
            f"check at {check['flops']:.3g} FLOPs, not fitted: foretold {tokens['value']:.4g} tokens "
            f"({tokens['low']:.4g} to {tokens['high']:.4g}) and loss {loss['value']:.4f}; the runs' minimum is at "
            f"{curve['best_tokens']:.4g} tokens and {curve['lowest_loss']:.4f} ({check['loss_error']:+.1%})"
            + (f"; {curve['problem']}" if curve["problem"] else "")
        )
    if ship := found.get("flagship"):
        size = f"{ship['parameters']:,} parameters, {ship['tokens']:,} tokens"
        out.print(f"its recipe: {ship['recipe']}, {size}", soft_wrap=True)
