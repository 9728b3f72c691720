"""What all commands share: where they print, what they are given, and how they fail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from herdsman.errors import WorkspaceError
from herdsman.workspace import Workspace

# A table in a pipe or a file must not be cut at some terminal's width.
out = Console(highlight=False, width=None if sys.stdout.isatty() else 200)

RecipeArgument = Annotated[Path, typer.Argument(help="A recipe file, such as recipes/tiny.toml.")]
WorkspaceArgument = Annotated[Path, typer.Argument(help="A herd's folder, such as herds/tiny.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key, such as --set seed=2.")
]

WeightsOption = Annotated[
    Literal["auto", "float32", "bfloat16", "int8", "float8"],
    typer.Option(help="The form of the weights in memory."),
]


def existing(root: Path) -> Workspace:
    """The workspace of a herd that is there.

    Raises:
        WorkspaceError: there is no such folder.
    """
    if not root.is_dir():
        raise WorkspaceError(
            "there is no herd here", where=root, do="raise one first: herdsman raise recipes/tiny.toml"
        )
    return Workspace(root)


def fail(sentence: str, status: int) -> NoReturn:
    """Ends the program with a sentence on standard error."""
    Console(stderr=True, highlight=False).print(f"herdsman: {sentence}", markup=False, soft_wrap=True)
    sys.exit(status)
