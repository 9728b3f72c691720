"""What all commands share: where they print, what they are given, and how they fail."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer
from rich.console import Console

from herdsman.errors import InputError, WorkspaceError
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


def file_to_write(path: Path | None) -> Path | None:
    """Checks the file that the user named for a result, before there is one: an option's callback.

    Raises:
        InputError: no file can be there.
    """
    if path is None:
        return None
    if path.exists() and not path.is_file():
        raise InputError("is there already and is not a file", where=path, do="name a file")
    for folder in path.parents:
        if folder.exists() and not folder.is_dir():
            raise InputError("is not a folder", where=folder, do=f"choose another place than {path}")
    return path


def fail(sentence: str, status: int) -> NoReturn:
    """Ends the program with a sentence on standard error."""
    Console(stderr=True, highlight=False).print(f"herdsman: {sentence}", markup=False, soft_wrap=True)
    sys.exit(status)
