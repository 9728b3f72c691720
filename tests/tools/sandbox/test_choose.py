"""The first sandbox that holds is chosen; where the kernel refuses namespaces, that is said, and WebAssembly serves."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from herdsman.errors import InputError, MachineError
from herdsman.tools.sandbox import choose as module
from herdsman.tools.sandbox.choose import CANARIES, choose, explained, findings
from tests.tools.sandbox.backends import backend

# What a container's default rules refuse (Docker's: unshare, mount, clone into namespaces) is what our own filter does.
CONFINED = """
import ctypes, json, os
from herdsman.tools.sandbox import inside
from herdsman.tools.sandbox.seccomp import filter_program
inside.lock_down(ctypes.CDLL(None), filter_program())
from herdsman.errors import MachineError
from herdsman.tools.sandbox.choose import choose, findings
try:
    choose("bubblewrap")
except MachineError as error:
    problem = str(error)
sandbox = choose()
print(json.dumps([problem, sandbox.name, sandbox.run("print(6 * 7)").output, [vars(f) for f in findings()]]))
"""


def test_the_first_that_holds() -> None:
    backend("bubblewrap")
    sandbox = choose()
    assert sandbox.name == "bubblewrap"
    assert choose("bubblewrap") is sandbox
    assert {finding.state for finding in findings()} <= {"ok", "note"}


def test_in_a_container_that_refuses_namespaces() -> None:
    backend("bubblewrap")
    backend("wasm")
    run = subprocess.run([sys.executable, "-c", CONFINED], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    problem, name, output, found = json.loads(run.stdout)
    assert "refuse namespaces" in problem
    assert (name, output) == ("wasm", "42\n")
    assert [(finding["name"], finding["state"]) for finding in found] == [
        ("sandbox bubblewrap", "note"),
        ("sandbox wasm", "ok"),
    ]


def test_a_sandbox_that_does_not_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TRIED", {})
    monkeypatch.setattr(module, "holds", lambda sandbox, attacks: "it does not hold against: fork bomb")
    backend("bubblewrap")
    with pytest.raises(MachineError, match=r"no sandbox holds here .*fork bomb.*install bubblewrap"):
        choose("bubblewrap")
    assert "none holds here" in list(findings())[-1].text


def test_names() -> None:
    with pytest.raises(InputError, match="choose one of: auto, bubblewrap, wasm"):
        choose("docker")
    assert {attack.group for attack in CANARIES} >= {"files", "network", "processes", "kernel", "memory"}


@pytest.mark.parametrize(
    ("said", "setting", "cause"),
    [
        ("bwrap: setting up uid map: Permission denied", "APPARMOR", "AppArmor"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "APPARMOR", "AppArmor"),
        ("bwrap: No permissions to creating new namespace, likely because", "CLONE", "sysctl"),
        ("bwrap: Creating new namespace failed: No space left on device", "MOST_NAMESPACES", "sysctl"),
        ("bwrap: Creating new namespace failed: Operation not permitted", "CONTAINER_MARKS", "container refuse"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "CONTAINER_MARKS", "container refuse"),
        ("bwrap: pivot_root: Operation not permitted", "", "refuse namespaces"),
    ],
)
def test_the_cause_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, setting: str, cause: str
) -> None:
    mark = tmp_path / "mark"
    mark.write_text("1" if setting == "APPARMOR" else "0")
    for name in ("APPARMOR", "CLONE", "MOST_NAMESPACES"):
        monkeypatch.setattr(module, name, mark if name == setting else tmp_path / "none")
    monkeypatch.setattr(module, "CONTAINER_MARKS", (mark,) if setting == "CONTAINER_MARKS" else ())
    monkeypatch.setattr(module.os, "getuid", lambda: 1000)
    assert cause in explained(said)
    assert said in explained(said)


def test_what_is_no_refusal_is_passed_on() -> None:
    assert explained("it does not hold against: fork bomb") == "it does not hold against: fork bomb"
