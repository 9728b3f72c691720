"""The launcher with real processes: what ends it, what it starts again, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from herdsman.cluster.launch import launch
from herdsman.errors import InputError, MachineError
from herdsman.events import EventLog, read_events
from tests.cluster.ranks import STEPS, expected

RANKS = str(Path(__file__).with_name("ranks.py"))


def command(folder: Path, plan: str) -> list[str]:
    return [sys.executable, RANKS, str(folder), plan]


def start(folder: Path, plan: str, processes: int, **options: object) -> subprocess.Popen[str]:
    """A launcher in a process of its own, which can be killed."""
    call = f"launch({command(folder, plan)!r}, {processes}, logs=__import__('pathlib').Path({str(folder / 'logs')!r})"
    call += "".join(f", {name}={value!r}" for name, value in options.items()) + ")"
    code = f"import sys; from herdsman.cluster.launch import launch; sys.exit({call})"
    return subprocess.Popen([sys.executable, "-c", code], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait_for(what: Callable[[], object], seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)


def alive(folder: Path) -> list[int]:
    """Ranks that are left, of all the starts."""
    pids = [int(path.read_text() or 0) for path in (*folder.glob("start_*"), *folder.glob("pid_*"))]
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def starts(folder: Path, rank: int = 0) -> int:
    return len(list(folder.glob(f"start_{rank}_*")))


def test_runs_the_ranks_and_keeps_their_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = dict(os.environ), signal.getsignal(signal.SIGTERM)
    plan = "print('rank', rank, 'of', world, os.environ['OMP_WAIT_POLICY']); print('trouble', rank, file=sys.stderr)"
    assert launch(command(tmp_path, plan), 3, logs=tmp_path / "logs") == 0
    (attempt,) = (tmp_path / "logs").glob("*/attempt_0")
    assert {path.name: path.read_text() for path in attempt.glob("*.out")} == {
        f"rank_{rank}.out": f"rank {rank} of 3 PASSIVE\n" for rank in range(3)
    }
    assert (attempt / "rank_2.err").read_text() == "trouble 2\n"
    shown = capfd.readouterr()
    assert "rank 0 of 3" in shown.out
    assert "trouble 0" in shown.err
    assert "rank 1" not in shown.out
    assert (dict(os.environ), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize(("code", "other"), [(75, 75), (93, 1), (33, 0)])
def test_a_final_exit_is_not_started_again(tmp_path: Path, code: int, other: int) -> None:
    # The second rank ends later: with 75 it is given the time to write its checkpoint.
    late = f"time.sleep(1); (folder / 'saved').touch(); sys.exit({other})"
    plan = f"if rank == 0: sys.exit({code})\n{late}"
    assert launch(command(tmp_path, plan), 2, logs=tmp_path / "logs") == code
    assert starts(tmp_path) == 1
    assert (tmp_path / "saved").exists() == (code == 75)
    assert not alive(tmp_path)


def test_gives_up_after_as_many_failures_without_progress(tmp_path: Path) -> None:
    events = EventLog(tmp_path / "events.jsonl")
    with pytest.raises(MachineError, match="rank 1 ended with exit code 7: 3 failures in a row"):
        launch(
            command(tmp_path, "time.sleep(60 if rank == 0 else 1)\nsys.exit(7)"),  # the other rank gets to start
            2,
            logs=tmp_path / "logs",
            restarts=2,
            events=events,
        )
    assert starts(tmp_path) == 3
    assert [row["event"] for row in read_events(events.path)] == ["interruption", "restart"] * 2 + ["interruption"]
    assert read_events(events.path)[0]["ranks"] == {"1": 7}
    assert not alive(tmp_path)


def test_failures_with_progress_in_between_are_not_counted_together(tmp_path: Path) -> None:
    plan = "sys.exit(0 if attempt == 4 else 7)"
    code = launch(
        command(tmp_path, plan), 1, logs=tmp_path / "logs", restarts=2, progress=lambda: starts(tmp_path) // 2
    )
    assert code == 0
    assert starts(tmp_path) == 5


def test_a_rank_that_fails_while_the_others_stop_in_order_is_a_failure(tmp_path: Path) -> None:
    plan = "if attempt == 0: sys.exit(7 if rank == 1 else 75)"
    assert launch(command(tmp_path, plan), 2, logs=tmp_path / "logs") == 0
    assert starts(tmp_path) == 2


OBEDIENT = """
from herdsman.training.health.signals import StopRequests
requests = StopRequests()
(folder / f'ready_{rank}').touch()
while not requests.wanted()[0]: time.sleep(0.02)
time.sleep(0.5)
(folder / f'saved_{rank}').write_text(requests.reason)
sys.exit(75)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_told_to_stop_the_ranks_checkpoint_and_the_launcher_says_again(tmp_path: Path, name: str) -> None:
    launcher = start(tmp_path, OBEDIENT, 2)
    wait_for(lambda: all((tmp_path / f"ready_{rank}").exists() for rank in range(2)))
    launcher.send_signal(signal.Signals[name])
    assert launcher.wait(30) == 75, launcher.stderr and launcher.stderr.read()
    assert [(tmp_path / f"saved_{rank}").read_text() for rank in range(2)] == [name, name]
    assert not alive(tmp_path)


def test_ctrl_c_ends_ranks_that_do_not_listen(tmp_path: Path) -> None:
    plan = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); time.sleep(60)"
    launcher = start(tmp_path, plan, 2)
    wait_for(lambda: starts(tmp_path, 1))
    time.sleep(0.3)
    launcher.send_signal(signal.SIGINT)
    launcher.wait(30)
    assert launcher.stderr
    assert "KeyboardInterrupt" in launcher.stderr.read()
    assert not alive(tmp_path)


def test_ranks_die_with_a_killed_launcher(tmp_path: Path) -> None:
    launcher = start(tmp_path, "time.sleep(60)", 3)
    wait_for(lambda: all(starts(tmp_path, rank) for rank in range(3)))
    launcher.kill()
    launcher.wait()
    wait_for(lambda: not alive(tmp_path), 5)


def test_nodes_must_be_a_number_or_a_range(tmp_path: Path) -> None:
    for nodes in ("0", "three", "4:2", "2:"):
        with pytest.raises(InputError, match="not a number of machines" if nodes != "2:" else "rendezvous"):
            launch(["true"], 1, logs=tmp_path, nodes=nodes)


@pytest.mark.slow
def test_two_killed_ranks_in_one_run_do_not_change_the_result(tmp_path: Path) -> None:
    launcher = start(tmp_path, "train", 2)
    for victim, step in ((1, 10), (0, 30)):
        wait_for(lambda step=step: any(row.get("step", 0) >= step for row in read_events(tmp_path / "events.jsonl")))
        os.kill(int((tmp_path / f"pid_{victim}").read_text()), signal.SIGKILL)
    assert launcher.wait(60) == 0, launcher.stderr and launcher.stderr.read()
    assert json.loads((tmp_path / "result.json").read_text()) == expected()
    rows = read_events(tmp_path / "events.jsonl")
    resumed = [row["step"] for row in rows if row["event"] == "start"]
    assert len(resumed) == 3
    assert resumed[0] == 0 < 10 <= resumed[1] < 30 <= resumed[2] < STEPS
    assert not alive(tmp_path)


@pytest.mark.slow
def test_a_hung_rank_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    launcher = start(tmp_path, "train and hang", 2)
    assert launcher.wait(90) == 0, launcher.stderr and launcher.stderr.read()
    assert json.loads((tmp_path / "result.json").read_text()) == expected()
    rows = read_events(tmp_path / "events.jsonl")
    (detect,) = [row for row in rows if row["event"] == "detect"]
    assert (detect["ranks"], detect["step"]) == ([1], 20)
    assert [row["step"] for row in rows if row["event"] == "start"] == [0, 20]
    assert launcher.stderr
    assert "ended with exit code 90; starting again" in launcher.stderr.read()
    assert not alive(tmp_path)


def answers(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.slow
def test_a_run_goes_on_when_a_machine_is_lost_and_takes_it_in_again(tmp_path: Path) -> None:
    """Two launchers stand for two machines."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meet = {"nodes": "1:2", "rendezvous": f"127.0.0.1:{probe.getsockname()[1]}", "run": "x"}
    events = tmp_path / "events.jsonl"

    def reached(step: int, world: int) -> bool:
        return any(
            row["world"] == world and row["event"] == "step" and row["step"] >= step for row in read_events(events)
        )

    keeper = start(tmp_path, "train slowly", 1, **meet)
    wait_for(lambda: answers(meet["rendezvous"]))  # it must be the one that keeps the rendezvous
    other = start(tmp_path, "train slowly", 1, **meet)
    wait_for(lambda: reached(5, world=2))
    other.kill()
    wait_for(lambda: reached(10, world=1))
    other = start(tmp_path, "train slowly", 1, **meet)
    wait_for(lambda: keeper.poll() is not None and other.poll() is not None, 90)
    assert (keeper.returncode, other.returncode) == (0, 0), (
        keeper.stderr and keeper.stderr.read(),
        other.stderr and other.stderr.read(),
    )
    assert json.loads((tmp_path / "result.json").read_text()) == expected()
    worlds = [row["world"] for row in read_events(events) if row["event"] == "start"]
    assert worlds[0] == worlds[-1] == 2
    assert 1 in worlds
    assert not alive(tmp_path)
