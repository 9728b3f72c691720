"""The commands that make a herd: raise, join, rehearse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from herdsman.commands.shared import JsonOption, RecipeArgument, SetOption, fail, out
from herdsman.errors import RecipeError
from herdsman.progress import Progress
from herdsman.recipe import load_recipe
from herdsman.workspace import Workspace


def raise_(
    recipe: RecipeArgument,
    workspace: Annotated[Path | None, typer.Option(help="Where results go; herds/NAME if left out.")] = None,
    until: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    set: SetOption = None,
) -> None:
    """Do it: run every stage of the recipe, from pages to a chat model. Run again to resume."""
    from herdsman.stages import default_workspace, raise_herd

    loaded = load_recipe(recipe, set)
    root = workspace or default_workspace(loaded)
    progress = Progress()
    progress.line(f"Raising {loaded.name} into {root}")
    try:
        did = raise_herd(loaded, Workspace(root), progress, until)
    except KeyboardInterrupt:
        fail("stopped; run the same command to go on where it stopped", 130)
    progress.line("Done." if did else "Nothing to do: every stage stands.")
    if until is None:
        progress.line(f"  report: {root / 'report.html'}\n  talk to it: herdsman chat {root}")


def join(
    recipe: RecipeArgument,
    workspace: Annotated[Path | None, typer.Option(help="That of the raise; herds/NAME if left out.")] = None,
    set: SetOption = None,
) -> None:
    """Take part, on a further machine, in the pretraining of a raise on several; waits until it begins."""
    from herdsman.ranks import join as take_part
    from herdsman.stages import default_workspace

    loaded = load_recipe(recipe, set)
    try:
        did = take_part(loaded, Workspace(workspace or default_workspace(loaded)), Progress())
    except KeyboardInterrupt:
        fail("stopped; run the same command to take part again", 130)
    Progress().line("Done." if did else "Nothing to do: pretraining is done.")


def rehearse(
    recipe: RecipeArgument,
    workspace: Annotated[Path | None, typer.Option(help="Where it runs; herds/NAME-rehearsal if left out.")] = None,
    layout: Annotated[
        str | None, typer.Option(metavar="tensor=2,context=2,...", help="Degrees to rehearse, if not the recipe's.")
    ] = None,
    json_: JsonOption = False,
    set: SetOption = None,
) -> None:
    """Will it work? The same stages, schedule and parallel layout, shrunk to this machine, with a table of proofs."""
    from herdsman.rehearsal import rehearse as run
    from herdsman.training.parallel.layout import LayoutOptions

    loaded = load_recipe(recipe, set)
    degrees = LayoutOptions(**_degrees(layout)) if layout else None
    root = workspace or Path("herds") / f"{loaded.name}-rehearsal"
    progress = Progress()
    progress.line(f"Rehearsing {loaded.name} in {root}")
    try:
        proofs = run(loaded, root, progress, degrees)
    except KeyboardInterrupt:
        fail("stopped; run the same command to go on where it stopped", 130)
    if json_:
        print(json.dumps([vars(proof) for proof in proofs], indent=1))
    else:
        table = Table("proven", "found", "", box=None, pad_edge=False)
        for proof in proofs:
            table.add_row(proof.what, proof.found, "[green]yes[/]" if proof.holds else "[red]NO[/]")
        out.print(table)
    if not all(proof.holds for proof in proofs):
        raise typer.Exit(1)


def _degrees(text: str) -> dict[str, int]:
    try:
        pairs = [part.split("=") for part in text.split(",")]
        degrees = {axis.strip(): int(degree) for axis, degree in pairs}
    except ValueError:
        degrees = {"": 0}
    axes = ("tensor", "context", "pipeline", "data")
    if not set(degrees) <= set(axes) or any(degree < 1 for degree in degrees.values()):
        raise RecipeError(
            f"is not degrees of {', '.join(axes)}", where=f"--layout {text}", do="write --layout tensor=2,pipeline=2"
        )
    return degrees
