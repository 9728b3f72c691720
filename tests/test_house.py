"""The house keeps its order: a folder imports only from folders before it and from the ground, and torch stays out of
what the command line loads to print its help."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "herdsman"
GROUND = {
    "errors", "events", "files", "options", "orphans", "parallel", "progress", "workspace", "artifacts", "download",
    "package_index", "transfer", "fasttext_file",
}  # fmt: skip
FOLDERS = (
    "pages", "documents", "tokens", "model", "training", "cluster", "generation", "tools", "evaluation", "synthesis",
    "posttraining", "scaling", "safety", "release", "serving",
)  # fmt: skip
ROOF = {
    "recipe",
    "stages",
    "ranks",
    "planning",
    "rehearsal",
    "herd",
    "document_journey",
    "what_if",
    "inspection",
    "commands",
    "cli",
    "__main__",
}


def imports(path: Path) -> Iterator[str]:
    """First part below `herdsman` of everything a file imports from the project, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("herdsman."):
            yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            yield from (name.name.split(".")[1] for name in node.names if name.name.startswith("herdsman."))


def test_every_part_of_the_house_has_its_place() -> None:
    folders = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    files = {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert folders == {*FOLDERS, "commands"}
    assert files | {"commands"} == GROUND | ROOF


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_from_those_before_it(folder: str) -> None:
    allowed = GROUND | set(FOLDERS[: FOLDERS.index(folder) + 1])
    found = {path.name: set(imports(path)) - allowed for path in (SOURCE / folder).rglob("*.py")}
    assert {name: parts for name, parts in found.items() if parts} == {}


def test_the_ground_imports_only_the_ground() -> None:
    assert {name: set(imports(SOURCE / f"{name}.py")) - GROUND for name in GROUND} == {name: set() for name in GROUND}
