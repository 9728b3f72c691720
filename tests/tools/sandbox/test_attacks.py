"""Every attack is held: by both sandboxes, started by root and by an ordinary user.

The sieges wait more than they work, so all of them run at the same time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from herdsman.artifacts import cache_folder
from herdsman.tools.sandbox.choose import REFUSALS
from herdsman.tools.sandbox.interpreter import as_nobody, interpreter
from herdsman.tools.sandbox.wasm import compiled
from tests.tools.sandbox.attacks import ATTACKS

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
USERS = ("root", "ordinary") if os.getuid() == 0 else ("ordinary",)
SIEGES = [(backend, user) for backend in ("bubblewrap", "wasm") for user in USERS]


def start(backend: str, user: str) -> subprocess.Popen[str]:
    """A siege as a process of its own; as root, that of an ordinary user is nobody's."""
    entry: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    if user == "ordinary" and os.getuid() == 0:
        entry, descriptors = as_nobody((*interpreter().folders, str(ROOT), str(cache_folder())))
    return subprocess.Popen(
        [*entry, sys.executable, "-m", "tests.tools.sandbox.besieged", backend],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        pass_fds=descriptors,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "HERDSMAN_CACHE": str(cache_folder())},
    )


@pytest.fixture(scope="module")
def sieges() -> dict[tuple[str, str], dict[str, dict[str, str]]]:
    """Reports by attack, of each siege."""
    try:
        compiled()  # before ordinary users, who may not write to the cache of root
    except Exception as error:
        print(f"no WebAssembly here: {error}")
    running = {siege: start(*siege) for siege in SIEGES}
    reports = {}
    for siege, process in running.items():
        output, errors = process.communicate(timeout=300)
        lines = [json.loads(line) for line in output.splitlines()]
        reports[siege] = {line["attack"]: line for line in lines}
        assert lines, errors
    return reports


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: f"{attack.group}: {attack.name}".replace(" ", "_"))
@pytest.mark.parametrize(("backend", "user"), SIEGES)
def test_it_is_held(
    sieges: dict[tuple[str, str], dict[str, dict[str, str]]], backend: str, user: str, attack: object
) -> None:
    reports = sieges[backend, user]
    if "" in reports:
        reason = reports[""]["evidence"]
        assert any(part in reason for part in (*REFUSALS, "not installed")), reason
        pytest.skip(reason)
    report = reports[f"{attack.group}: {attack.name}"]  # type: ignore[attr-defined]
    assert report["held"], report["evidence"]


def test_there_are_enough_attacks_and_each_is_told_from_the_others() -> None:
    assert len(ATTACKS) >= 60
    assert len({(attack.group, attack.name) for attack in ATTACKS}) == len(ATTACKS)
