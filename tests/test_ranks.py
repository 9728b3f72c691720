"""Pretraining on two processes: equal to one, killed, stopped, torn, refused, and joined from another machine.

Runs on two processes are compared bit for bit with each other, and within rounding with the run on one.
"""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from safetensors.numpy import load_file

from tests.conftest import Herdsman
from tests.raising import Raise, events, kill_again_and_again, learnt, weights
from tests.test_journey import RECIPE

TWO = "machine.processes=2"
SHORTER = {
    "tokens = 120_000": "tokens = 48_000",
    "tokens = 40_000": "tokens = 16_000",
    "every_seconds = 0.5": "every_tokens = 6144",
    "[pretrain]\n": '[pretrain]\nprecision = "float32"\n',
}
STEPS = 63
TOLERANCE = 1e-5
"""Of losses and weights, between sums in another order over the whole run."""

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Herd:
    """A short recipe, a workspace with its data stages, and two undisturbed runs of its pretraining."""

    recipe: Path
    data: Path
    alone: Path
    spread: Path

    def begin(self, root: Path, *settings: str, verb: str = "raise") -> Raise:
        return Raise(self.recipe, root, *settings, verb=verb, data=self.data)


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory, html_folder: Path) -> Herd:
    root = tmp_path_factory.mktemp("ranks")
    text = RECIPE.format(folder=str(html_folder))
    for old, new in SHORTER.items():
        assert old in text
        text = text.replace(old, new)
    recipe = root / "short.toml"
    recipe.write_text(text)
    herd = Herd(recipe, root / "data", root / "alone", root / "spread")
    assert Raise(recipe, herd.data, until="search").end()[0] == 0
    for space, settings in ((herd.alone, ()), (herd.spread, (TWO,))):
        status, errors = herd.begin(space, *settings).end()
        assert status == 0, errors
    assert len(learnt(herd.alone)) == STEPS
    return herd


def assert_same(root: Path, expected: Path) -> None:
    """To the bit: the curve's every step, and the model."""
    assert learnt(root) == learnt(expected)
    assert weights(root) == weights(expected)


def assert_alike(root: Path, expected: Path) -> None:
    """Within rounding."""
    assert [loss for loss, _ in learnt(root)] == pytest.approx([loss for loss, _ in learnt(expected)], abs=TOLERANCE)
    mine, others = (load_file(space / "pretrain" / "model" / "model.safetensors") for space in (root, expected))
    assert mine.keys() == others.keys()
    for name, weight in mine.items():
        assert weight == pytest.approx(others[name], abs=TOLERANCE), name


def one_sentence(errors: str) -> str:
    """The only complaint; nothing of Python around it."""
    assert "Traceback" not in errors
    (sentence,) = [line for line in errors.splitlines() if line.startswith("herdsman: ")]
    return sentence


def said(root: Path) -> list[str]:
    """Kinds of events, without those that come again and again, or when other work holds a process up."""
    return [row["event"] for row in events(root) if row["event"] not in ("step", "checkpoint", "straggler")]


def test_two_processes_learn_what_one_does(herd: Herd) -> None:
    assert_alike(herd.spread, herd.alone)
    manifests = [json.loads((root / "pretrain" / "manifest.json").read_text()) for root in (herd.alone, herd.spread)]
    assert manifests[0]["fingerprint"] == manifests[1]["fingerprint"]
    assert manifests[0]["counts"] == manifests[1]["counts"]
    untrained = [
        (root / "pretrain" / "untrained" / "model.safetensors").read_bytes() for root in (herd.alone, herd.spread)
    ]
    assert untrained[0] == untrained[1]


def test_killed_ranks_cost_steps_and_nothing_else(herd: Herd, tmp_path: Path, herdsman: Herdsman) -> None:
    root = tmp_path / "killed"
    raising, _, given_up = kill_again_and_again(lambda: herd.begin(root, TWO), [14, 30, 46], random.Random(1))
    status, errors = raising.end()
    assert (status, given_up) == (0, 0), errors
    assert "Traceback" not in errors
    assert errors.count("was killed by SIGKILL; starting again") == 3
    assert_same(root, herd.spread)
    again = ["interruption", "restart", "start", "ready"]
    assert said(root) == ["started", "start", "ready", *again * 3, "end", "finished"]
    account = json.loads(herdsman("status", root, "--json").stdout)["stages"]["pretrain"]["goodput"]
    assert account["attempts"] == 4
    assert account["recomputed"] > 0
    assert 0 < account["effective"] < 1
    assert "with 4 starts was effective; " in herdsman("status", root).stdout


def test_ctrl_c_then_sigterm_then_a_torn_checkpoint(herd: Herd, tmp_path: Path) -> None:
    root = tmp_path / "stopped"
    raising = herd.begin(root, TWO)
    raising.wait_for_steps(15)
    ranks = raising.ranks()
    assert len(ranks) == 2
    raising.process.send_signal(signal.SIGINT)
    status, errors = raising.end()
    assert (status, one_sentence(errors)) == (130, "herdsman: stopped; run the same command to go on where it stopped")
    assert not any(map(psutil.Process.is_running, ranks))

    raising = herd.begin(root, TWO)
    raising.wait_for_steps(35)
    ranks = raising.ranks()
    raising.process.send_signal(signal.SIGTERM)
    status, errors = raising.end()
    assert status == 75, errors
    assert "stopped by SIGTERM after step" in one_sentence(errors)
    assert not any(map(psutil.Process.is_running, ranks))
    newest, before = sorted((root / "pretrain" / "scratch" / "training").glob("step-*"), reverse=True)[:2]
    stopped_at = next(row["step"] for row in events(root) if row["event"] == "end")
    assert newest.name == f"step-{stopped_at:010d}"

    os.truncate(newest / "__1_0.distcp", 100)
    raising = herd.begin(root, TWO)
    status, errors = raising.end()
    assert status == 0, errors
    assert "this checkpoint is torn and is not loaded (__1_0.distcp has 100 bytes" in errors
    assert raising.starts()[-1]["step"] == int(before.name.removeprefix("step-"))
    assert_same(root, herd.spread)


def test_sigterm_to_a_single_process(herd: Herd, tmp_path: Path) -> None:
    root = tmp_path / "stopped"
    raising = herd.begin(root)
    raising.wait_for_steps(20)
    raising.process.send_signal(signal.SIGTERM)
    status, errors = raising.end()
    assert status == 75, errors
    assert "stopped by SIGTERM after step" in one_sentence(errors)
    assert herd.begin(root).end()[0] == 0
    assert_same(root, herd.alone)


def test_it_goes_on_from_another_model(herd: Herd, tmp_path: Path) -> None:
    start = herd.alone / "pretrain"
    status, errors = herd.begin(tmp_path / "on", f"pretrain.start={start}", TWO).end()
    assert status == 0, errors
    untrained = tmp_path / "on" / "pretrain" / "untrained" / "model.safetensors"
    assert untrained.read_bytes() == weights(herd.alone)
    before, after = (json.loads((root / "pretrain/summary.json").read_text()) for root in (herd.alone, tmp_path / "on"))
    assert after["validation_loss"]["untrained"] == pytest.approx(before["validation_loss"]["average"], rel=1e-4)
    for wrong, said in {
        "model.dim=16": "has dim = 32, the recipe 16",
        f"pretrain.start={tmp_path}": "no readable model here",
    }.items():
        status, errors = herd.begin(tmp_path / "wrong", f"pretrain.start={start}", wrong).end()
        assert (status, said in one_sentence(errors)) == (2, True), errors


def test_a_layout_that_does_not_fit_is_one_sentence(herd: Herd, tmp_path: Path) -> None:
    status, errors = herd.begin(tmp_path / "herd", TWO, "pretrain.layout.tensor=2").end()
    assert status == 2
    assert "1 key and value heads cannot be split evenly over tensor = 2; choose a divisor" in one_sentence(errors)


def test_what_the_disk_refuses_is_one_sentence(herd: Herd, tmp_path: Path) -> None:
    """In a folder with a name that is awkward to quote. No file may grow beyond what the untrained model takes."""
    root = tmp_path / "schwarze Schafe, 黒い羊"
    raising = herd.begin(root, TWO)
    limit = (herd.spread / "pretrain" / "model" / "model.safetensors").stat().st_size + 50_000
    raising.wait_for(raising.ranks)
    for process in (psutil.Process(raising.process.pid), *raising.ranks()):
        process.rlimit(psutil.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    status, errors = raising.end()
    assert status == 1
    assert "the last 3 checkpoints could not be written (OSError: [Errno 27] File too large)" in one_sentence(errors)
    assert learnt(root), "training went on after the first of them"


def test_a_second_machine_joins(herd: Herd, tmp_path: Path) -> None:
    """Two launchers stand for two machines."""
    root, several = tmp_path / "several", ('machine.nodes="2"', f"machine.rendezvous={free_address()}")
    joining = herd.begin(root, *several, verb="join")
    raising = herd.begin(root, *several)
    for each in (raising, joining):
        status, errors = each.end()
        assert status == 0, errors
    assert "Waiting for pretrain to begin" in errors
    assert_same(root, herd.spread)
    status, errors = herd.begin(root, *several, verb="join").end()
    assert (status, errors.splitlines()[-1]) == (0, "Nothing to do: pretraining is done.")


def test_a_machine_leaves_and_comes_back(herd: Herd, tmp_path: Path) -> None:
    root, address = tmp_path / "elastic", free_address()
    several = ("machine.nodes=1:2", f"machine.rendezvous={address}")
    raising, joining = herd.begin(root, *several), herd.begin(root, *several, verb="join")
    raising.wait_for(lambda: any(start["ranks"] == 2 for start in raising.starts()))
    raising.wait_for_steps(12)
    joining.process.kill()
    joining.process.wait()
    raising.wait_for(lambda: raising.starts()[-1]["ranks"] == 1)
    (rank,) = raising.ranks()
    rank.suspend()  # or training might be over before the other is back
    joining = herd.begin(root, *several, verb="join")
    joining.wait_for(lambda: keeps_connection(joining.process.pid, address))
    rank.resume()
    for each in (raising, joining):
        status, errors = each.end()
        assert status == 0, errors
    assert [start["ranks"] for start in raising.starts()][-3:] == [2, 1, 2]
    assert_alike(root, herd.alone)


def keeps_connection(pid: int, address: str) -> bool:
    """Whether a process is in touch with the rendezvous, and not only looks whether it is there."""

    def ports() -> set[int]:
        connections = psutil.Process(pid).net_connections("tcp")
        return {end.laddr.port for end in connections if end.raddr and end.raddr.port == int(address.split(":")[1])}

    before = ports()
    time.sleep(0.5)
    return bool(before & ports())


def test_what_joining_needs(herd: Herd, tmp_path: Path, herdsman: Herdsman) -> None:
    def complaint(*settings: str) -> str:
        parts: list[Any] = [part for setting in settings for part in ("--set", setting)]
        result = herdsman("join", herd.recipe, "--workspace", tmp_path, *parts)
        assert result.returncode == 2
        return one_sentence(result.stderr)

    assert "this is for runs on several machines" in complaint()
    two = "machine.nodes=1:2"
    assert "this is for runs on several machines" in complaint(two)
    assert "nowhere is not HOST:PORT" in complaint(two, "machine.rendezvous=nowhere")
    with socket.create_server(("127.0.0.1", 0)) as another:
        address = f"127.0.0.1:{another.getsockname()[1]}"
        assert "no pretrain stage has begun here" in complaint(two, f"machine.rendezvous={address}")


def test_a_rank_that_comes_when_all_is_done_leaves_no_trace(herd: Herd) -> None:
    scratch = herd.spread / "pretrain" / "scratch"
    command = [sys.executable, "-m", "herdsman.ranks", str(scratch / "job.json")]
    assert subprocess.run(command, env={**os.environ, "RANK": "0"}).returncode == 93
    assert not scratch.exists()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
