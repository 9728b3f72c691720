"""Claims on runs: one owner at a time among processes, and among machines that share nothing but the folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

from herdsman.files import read_json, write_json
from herdsman.scaling.claims import Claims

CONTENDER = """
import sys, time
from pathlib import Path
from herdsman.scaling.claims import Claims
folder, log, claims = Path(sys.argv[1]), Path(sys.argv[2]), Claims()
for _ in range(60):
    with claims.on(folder) as mine:
        if mine:
            with open(log, "a") as file:
                file.write(f"in {sys.argv[3]}\\n"); file.flush()
                time.sleep(0.004)
                file.write(f"out {sys.argv[3]}\\n")
    time.sleep(0.001)
"""
MACHINES = """
import sys, threading, time
from pathlib import Path
from herdsman.scaling import claims
claims.MACHINE = "machine " + sys.argv[3]
claims.Workspace.locked = lambda self: threading.Lock()  # the kernel's locks do not reach other machines
owner, done = claims.Claims(silent_seconds=0.5, beat_seconds=0.05), False
while not done:
    with owner.on(Path(sys.argv[1])) as mine:
        if mine:
            with open(sys.argv[2], "a") as file:
                file.write(f"in {sys.argv[3]}\\n"); file.flush()
                time.sleep(0.2)
                file.write(f"out {sys.argv[3]}\\n")
            done = True
    time.sleep(0.01)
"""
HOLDER = """
import sys, time
from pathlib import Path
from herdsman.scaling import claims
if sys.argv[2:]:
    claims.MACHINE = sys.argv[2]
with claims.Claims(beat_seconds=0.05).on(Path(sys.argv[1])) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def begin(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def holds(folder: Path, owner: Claims) -> bool:
    with owner.on(folder) as mine:
        return mine


def test_of_many_processes_one_is_in_at_a_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [begin(CONTENDER, tmp_path / "run", log, number) for number in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    lines = log.read_text().splitlines()
    assert len({line.split()[1] for line in lines}) > 1
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert (entered.split()[0], left) == ("in", f"out {entered.split()[1]}")
    assert not list((tmp_path / "run").glob("claim-*"))


def test_what_a_killed_process_held_is_free_at_once(tmp_path: Path) -> None:
    holder = begin(HOLDER, tmp_path)
    assert holder.stdout
    assert holder.stdout.readline() == "True\n"
    assert not holds(tmp_path, Claims())
    holder.kill()
    holder.wait()
    assert list(tmp_path.glob("claim-*"))
    assert holds(tmp_path, Claims())
    assert not list(tmp_path.glob("claim-*"))


def claim_of_another_machine(folder: Path, beat: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    write_json(folder / "claim-1.json", {"machine": "elsewhere", "process": 1, "beat": beat})


def test_another_machines_claim_holds_as_long_as_it_beats(tmp_path: Path) -> None:
    owner = Claims(silent_seconds=0.2)
    for beat in range(6):
        claim_of_another_machine(tmp_path, beat)
        assert not holds(tmp_path, owner)
        time.sleep(0.1)
    time.sleep(0.2)
    assert holds(tmp_path, owner)


def test_a_silent_machine_is_followed_by_one_owner_at_a_time(tmp_path: Path) -> None:
    claim_of_another_machine(tmp_path / "run")
    log = tmp_path / "log"
    machines = [begin(MACHINES, tmp_path / "run", log, number) for number in range(4)]
    assert [machine.wait() for machine in machines] == [0] * 4
    lines = log.read_text().splitlines()
    assert sorted(lines) == sorted(f"{way} {number}" for number in range(4) for way in ("in", "out"))
    for entered, left in zip(lines[::2], lines[1::2], strict=True):
        assert (entered.split()[0], left) == ("in", f"out {entered.split()[1]}")


def test_an_owner_that_was_taken_over_ends(tmp_path: Path) -> None:
    holder = begin(HOLDER, tmp_path, "elsewhere")
    assert holder.stdout
    assert holder.stderr
    assert holder.stdout.readline() == "True\n"
    assert read_json(tmp_path / "claim-1.json")["machine"] == "elsewhere"
    (tmp_path / "claim-2.json").touch()
    assert holder.wait(timeout=20) == 1
    assert f"{tmp_path.name} was taken over by another process" in holder.stderr.read()
