"""An ordinary user comes to the interpreter through a closed folder, and sees nothing else of that folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from herdsman.tools.sandbox.interpreter import NOBODY, as_nobody, closed_folders, interpreter

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root starts programs as nobody")


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder that is closed to others, with an open one in it."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    (folder / "open").mkdir()
    (folder / "open" / "file").write_text("shown")
    (folder / "secret").write_text("secret")
    yield folder
    shutil.rmtree(folder)


@as_root
def test_only_the_wanted_part_of_a_closed_folder_is_shown(closed: Path) -> None:
    assert closed_folders((str(closed / "open"),)) == [str(closed)]
    entry, descriptors = as_nobody((str(closed / "open"),))
    command = ["sh", "-c", f"id -u; id -G; cat {closed}/open/file; ls {closed}; cat {closed}/secret"]
    run = subprocess.run([*entry, *command], pass_fds=descriptors, capture_output=True, text=True)
    assert run.stdout == f"{NOBODY}\n{NOBODY}\nshownopen\n"
    assert "No such file" in run.stderr
    assert sorted(path.name for path in closed.iterdir()) == ["open", "secret"], "the host's view is as it was"
    for descriptor in descriptors:
        os.close(descriptor)


@as_root
def test_without_a_closed_folder_no_view_is_made() -> None:
    entry, descriptors = as_nobody(("/usr/lib",))
    assert descriptors == ()
    assert subprocess.run([*entry, "id", "-u"], capture_output=True, text=True).stdout == f"{NOBODY}\n"


def test_it_is_the_python_that_runs_herdsman() -> None:
    python = interpreter()
    run = subprocess.run(
        [*python.entry, python.executable, "-I", "-c", "import sys; print(sys.prefix)"],
        pass_fds=python.descriptors, capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert run.stdout.strip() == sys.prefix, run.stderr
