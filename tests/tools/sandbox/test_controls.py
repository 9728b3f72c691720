"""The attacks can succeed: against a sandbox with one wall taken down, the siege reports the breach that follows."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from herdsman.tools.sandbox import bubblewrap
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.contained import Contained
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.seccomp import ALLOW, _return
from herdsman.tools.sandbox.siege import besiege
from tests.tools.sandbox.attacks import ATTACKS
from tests.tools.sandbox.backends import backend

OPEN_FILTER = _return(ALLOW)


class Weakened(Bubblewrap):
    """Bubblewrap without some of its arguments and with others, with other limits or without filters."""

    def __init__(self, without: tuple[str, ...] = (), more: tuple[str, ...] = (), **limits: int):
        backend("bubblewrap")
        super().__init__()
        self.without, self.more, self.limits = without, more, limits

    def _arguments(self, limits: Limits, jobs: bool) -> list[str]:
        arguments = [argument for argument in super()._arguments(limits, jobs) if argument not in self.without]
        at = arguments.index("--chdir") - 2  # before the root becomes read-only
        return [*arguments[:at], *self.more, *arguments[at:]]

    def start(
        self, limits: Limits, *, jobs: bool = False, modules: Mapping[str, str] | None = None, cpu_limited: bool = False
    ) -> Contained:
        limits = limits.model_copy(update=self.limits)
        return super().start(limits, jobs=jobs, modules=modules, cpu_limited=cpu_limited)


@pytest.fixture
def shown_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A folder in which the bait lies, that others may enter, as pytest's own may not."""
    folder = tempfile.mkdtemp(dir="/var/tmp")
    Path(folder).chmod(0o755)
    monkeypatch.setattr(tempfile, "tempdir", folder)
    yield folder
    shutil.rmtree(folder)


def broken(sandbox: Bubblewrap, *names: str) -> set[str]:
    """Which of these attacks succeed."""
    attacks = [attack for attack in ATTACKS if attack.name in names]
    assert len(attacks) == len(names)
    return {report.attack.name for report in besiege(sandbox, attacks) if not report.held}


def test_a_shown_folder(shown_folder: str) -> None:
    names = ("read a file of the host", "list a folder of the host", "write in a folder of the host", "climb with dots",
             "link to a file of the host", "through the root of process 1", "a socket file of the host",
             "through its own root", "through the folder of process 1")  # fmt: skip
    assert broken(Weakened(more=("--bind", shown_folder, shown_folder)), *names) == set(names)


def test_a_shared_network() -> None:
    names = ("a listener of the host", "an abstract socket of the host", "cards")
    assert broken(Weakened(more=("--share-net",)), *names) == set(names)


def test_no_filter() -> None:
    names = ("files in memory", "shared segments", "kinds of socket", "io_uring, bpf, keys and the like",
             "memory of its parent")  # fmt: skip
    sandbox = Weakened()
    sandbox._filter = OPEN_FILTER
    assert broken(sandbox, *names) == set(names)


def test_an_environment_that_is_passed_on() -> None:
    class Talkative(Weakened):
        @property
        def _environment(self) -> dict[str, str]:
            return dict(os.environ)

        @_environment.setter
        def _environment(self, value: dict[str, str]) -> None:
            pass

    assert broken(Talkative(without=("--clearenv",)), "see the host's") == {"see the host's"}


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        ({"processes": 64}, "fork bomb"),
        ({"disk_bytes": 32 << 20}, "fill the disk"),
        ({"memory_bytes": 6 << 30}, "four gigabytes"),
        ({"output_bytes": 1 << 20, "answer_bytes": 8 << 20}, "a flood"),
    ],
)
def test_a_limit_that_is_too_high(limits: dict[str, int], name: str) -> None:
    assert broken(Weakened(**limits), name) == {name}


def test_jobs_that_may_start_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bubblewrap, "JOB_PROCESSES", 16)
    assert broken(Weakened(), "it leaves a process") == {"it leaves a process"}


def test_jobs_without_their_filter() -> None:
    sandbox = Weakened()
    sandbox._job_filter = OPEN_FILTER
    assert broken(sandbox, "it starves the server") == {"it starves the server"}


def test_jobs_that_can_leave_files() -> None:
    assert broken(Weakened(more=("--tmpfs", "/var/tmp")), "it leaves files") == {"it leaves files"}
    assert broken(Weakened(more=("--tmpfs", "/work")), "it leaves files") == {"it leaves files"}
