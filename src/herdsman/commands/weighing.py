"""The commands that weigh a herd and its data before the large run: forecast, mix, probe."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from herdsman.commands.scaling import ProcessesOption, prepare, write_report
from herdsman.commands.shared import JsonOption, RecipeArgument, SetOption, fail, out
from herdsman.errors import RecipeError
from herdsman.progress import Progress
from herdsman.recipe import Recipe, load_recipe

WorkspaceOption = Annotated[Path | None, typer.Option(help="Where results go; herds/NAME if left out.")]


def forecast(
    recipe: Annotated[Path | None, typer.Argument(help="A recipe file; may be left out with --points.")] = None,
    workspace: WorkspaceOption = None,
    points: Annotated[Path | None, typer.Option(help="Forecast from this table (CSV or JSON) alone.")] = None,
    flops: Annotated[float | None, typer.Option(min=1, help="With --points: training FLOPs of the model.")] = None,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """How well will it answer? Forecasts benchmarks from the models of `herdsman scale`, before the herd is raised."""
    from herdsman.scaling.forecast import make_record
    from herdsman.scaling.scores import read_scores

    if points:
        if flops is None:
            raise RecipeError("of which model is not said", where="--points", do="add --flops, such as --flops 3.8e25")
        record = make_record(read_scores(points), flops, before_run=True)
    elif recipe:
        from herdsman.scaling.herd_forecast import forecast_herd
        from herdsman.stages import resolve_device

        loaded, root = _loaded(recipe, workspace, set)
        device = resolve_device(loaded.machine)
        record = forecast_herd(root, loaded.model, loaded.pretrain, loaded.evaluate, device, Progress())
        write_report(root)
    else:
        raise RecipeError("there is no recipe and no table", do="give a recipe, or a table with --points")
    if json_:
        print(json.dumps(record, indent=1))
        return
    table = Table("benchmark", "nats a character", "accuracy", "chance", "", box=None, pad_edge=False)
    for entry in record["forecasts"]:
        accuracy = entry["accuracy"]
        note = "" if accuracy is None or entry["rises"] else "accuracy does not rise yet, where it will is open"
        table.add_row(
            entry["benchmark"], _estimate(entry["nats_per_character"]), _estimate(accuracy) if accuracy else "",
            f"{entry['chance']:.3f}" if accuracy else "", note,
        )  # fmt: skip
    when = "before the run" if record["before_run"] else "after the run"
    out.print(f"forecast for {record['flops']:.4g} FLOPs, made {record['made_at']}, {when}; 95% intervals")
    out.print(table)


def mix(
    recipe: RecipeArgument,
    workspace: WorkspaceOption = None,
    processes: ProcessesOption = None,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """Which mix of the data is better? Trains small models on several mixes, proposes one and checks it."""
    loaded, root = _loaded(recipe, workspace, set)
    progress = Progress()

    def run() -> dict[str, Any]:
        from herdsman.scaling.mix import search_mix
        from herdsman.scaling.sweep import Sweep
        from herdsman.stages import resolve_device

        train, count = prepare(loaded, root, processes, progress)
        sweep = Sweep(root, loaded.scaling, loaded.model, loaded.pretrain, loaded.seed)
        device = resolve_device(loaded.machine)
        return search_mix(sweep, loaded.documents.mix, loaded.evaluate, train, device, count, progress)

    found = _resumable(run)
    write_report(root)
    if json_:
        print(json.dumps(found, indent=1))
        return
    base, proposal = found["base"], found["proposal"]
    table = Table("part of the mix", "now", "proposed", box=None, pad_edge=False)
    for part, share in base["parts"].items():
        table.add_row(part, f"{share:.3f}", f"{proposal['parts'][part]:.3f}")
    out.print(table)
    out.print(
        f"\nweighted loss at {found['check_flops']:.3g} FLOPs, bits per byte: predicted change "
        f"{_signed(found['predicted_change'])}, measured {_signed(found['measured_change'])}"
    )
    _show_changes(found["changes"], "now", "proposed")
    verdict = "better" if found["better"] else "not clearly better: the recipe's mix may stay"
    out.print(f"The proposal is {verdict}. As recipe keys: {root / 'scaling' / 'mixes' / 'mix.toml'}", soft_wrap=True)


def probe(
    recipe: RecipeArgument,
    dataset: Annotated[Path, typer.Argument(help="A documents folder, JSON Lines with `text`, or text files.")],
    workspace: WorkspaceOption = None,
    processes: ProcessesOption = None,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """What is a data set worth? Anneals a half-trained model with it and without it, and compares."""
    loaded, root = _loaded(recipe, workspace, set)
    progress = Progress()

    def run() -> dict[str, Any]:
        from herdsman.scaling.dataset import identity

        identity(dataset)  # a mistake is told of before torch is loaded and data are made
        from herdsman.scaling.probe import probe as run_probe
        from herdsman.scaling.sweep import Sweep
        from herdsman.stages import resolve_device

        train, count = prepare(loaded, root, processes, progress)
        sweep = Sweep(root, loaded.scaling, loaded.model, loaded.pretrain, loaded.seed)
        return run_probe(dataset, sweep, loaded.evaluate, train, resolve_device(loaded.machine), count, progress)

    found = _resumable(run)
    write_report(root)
    if json_:
        print(json.dumps(found, indent=1))
        return
    out.print(
        f"{found['data']}: {found['share']:.0%} of {found['annealed_tokens']:,} tokens of annealing after "
        f"{found['begins_after_tokens']:,} of {found['tokens_of_pretraining']:,}, {found['seeds']} times; its "
        f"{found['new_tokens']:,} tokens are read {found['epochs_of_new']:.2g} times"
    )
    _show_changes(found["changes"], "without", "with it")


def _loaded(recipe: Path, workspace: Path | None, set: list[str] | None) -> tuple[Recipe, Path]:
    from herdsman.stages import default_workspace

    loaded = load_recipe(recipe, set)
    return loaded, workspace or default_workspace(loaded)


def _resumable(run: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return run()
    except KeyboardInterrupt:
        fail("stopped; run the same command to go on where it stopped", 130)


def _show_changes(changes: list[dict[str, Any]], before: str, after: str) -> None:
    table = Table("measured on", "", before, after, "change (95% interval)", "", box=None, pad_edge=False)
    for entry in changes:
        better = (entry["change"]["value"] > 0) == (entry["measure"] == "accuracy")
        verdict = ("better" if better else "worse") if entry["change"]["clear"] else "not clear"
        table.add_row(
            entry["what"], entry["measure"].replace("_", " "), f"{entry['before']:.4f}", f"{entry['after']:.4f}",
            _signed(entry["change"]), verdict,
        )  # fmt: skip
    out.print(table)


def _estimate(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:.3f} ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _signed(estimate: Mapping[str, float]) -> str:
    return f"{estimate['value']:+.4f} ({estimate['low']:+.4f} to {estimate['high']:+.4f})"
