"""Fixtures shared by the tests of the whole journey."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from herdsman.artifacts import fetch_all, iter_members

ROOT = Path(__file__).parents[1]
DOCUMENTATION = ("mako", "alembic")

Herdsman = Callable[..., "subprocess.CompletedProcess[str]"]


def write_site(folder: Path) -> None:
    """Real documentation pages as a folder of HTML, taken from two source archives of the sample."""
    for name, path in fetch_all(DOCUMENTATION).items():
        for member in iter_members(path):
            if member.name.endswith(".html") and "/test/" not in member.name:
                target = folder / name / member.name.partition("/")[2]
                target.parent.mkdir(parents=True, exist_ok=True)
                with member.open() as file:
                    target.write_bytes(file.read())


@pytest.fixture(scope="session")
def html_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """See `write_site`."""
    folder = tmp_path_factory.mktemp("site")
    write_site(folder)
    return folder


@pytest.fixture
def herdsman() -> Herdsman:
    """Runs the command line in a process of its own, as a user does."""

    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "herdsman", *map(str, arguments)],
            capture_output=True,
            text=True,
            env={**os.environ, "COLUMNS": "200", **settings},
            timeout=300,
        )

    return run
