"""A raise in a process of its own, watched and disturbed: for the tests of ranks and for benchmarks/kills.py."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from herdsman.events import EVENTS, read_events

DATA_STAGES = ("pages", "documents", "tokenizer", "tokens", "search")


class Raise:
    """`herdsman raise` (or `join`), started now.

    Args:
        until: the last stage of a raise.
        data: a workspace whose finished data stages this one borrows, if it has none of its own.
    """

    def __init__(
        self,
        recipe: Path,
        root: Path,
        *settings: str,
        verb: str = "raise",
        until: str = "pretrain",
        data: Path | None = None,
    ):
        self.root, self.pretrain = root, root / "pretrain"
        root.mkdir(parents=True, exist_ok=True)
        for name in DATA_STAGES if data else ():
            if data and not (root / name).exists():
                (root / name).symlink_to(data / name)
        command = [sys.executable, "-m", "herdsman", verb, str(recipe), "--workspace", str(root)]
        command += ["--until", until] if verb == "raise" else []
        command += [part for setting in settings for part in ("--set", setting)]
        self.process = subprocess.Popen(
            command, text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ, "COLUMNS": "200"}
        )

    def end(self, seconds: float = 300.0) -> tuple[int, str]:
        """Waits for the end; the exit status and what stood on standard error."""
        _, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, errors

    def wait_for(self, what: Callable[[], object], seconds: float = 300.0) -> None:
        until = time.monotonic() + seconds
        while not what():
            if self.process.poll() is not None and not what():
                raise AssertionError(f"over before it came about: {self.end()}")
            assert time.monotonic() < until, "it did not come about"
            time.sleep(0.02)

    def wait_for_steps(self, count: int) -> None:
        self.wait_for(lambda: self.steps() >= count)

    def steps(self) -> int:
        """Steps in the curve by now."""
        curve = self.pretrain / "logs" / "curve.jsonl"
        return curve.read_bytes().count(b"\n") if curve.exists() else 0

    def ranks(self) -> list[psutil.Process]:
        """This machine's ranks at work."""
        return [child for child in psutil.Process(self.process.pid).children() if _is_rank(child)]

    def starts(self) -> list[dict[str, Any]]:
        """The `start` events of all starts whose training has come to be ready for its first step."""
        told = events(self.root)
        return [
            event for event, following in pairwise(told) if (event["event"], following["event"]) == ("start", "ready")
        ]


def _is_rank(process: psutil.Process) -> bool:
    try:
        return "herdsman.ranks" in process.cmdline()
    except psutil.Error:
        return False


def events(root: Path) -> list[dict[str, Any]]:
    return read_events(root / EVENTS, "pretrain")


def curve(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "pretrain" / "logs" / "curve.jsonl").read_text().splitlines()]


def weights(root: Path) -> bytes:
    return (root / "pretrain" / "model" / "model.safetensors").read_bytes()


def learnt(root: Path) -> list[tuple[float, float]]:
    """Loss and gradient norm of every step."""
    return [(row["loss"], row["gradient_norm"]) for row in curve(root)]


def kill_again_and_again(
    begin: Callable[[], Raise], steps: list[int], draw: random.Random
) -> tuple[Raise, list[float], int]:
    """Kills with -9, each time as soon as training has come to the next of `steps`: one of its ranks, or, where there
    are none, the raise itself, which is then begun again.

    Returns the raise that is now at work undisturbed, seconds from each kill to the first step after it, and how often
    the launcher had given up and was begun again.
    """
    raising, seconds, given_up = begin(), list[float](), 0
    for step in steps:
        raising.wait_for_steps(step)
        time.sleep(draw.uniform(0, 0.1))  # not always at the same point of a step
        before, ranks = len(raising.starts()), raising.ranks()
        killed = time.monotonic()
        if ranks:
            draw.choice(ranks).kill()
        else:
            raising.process.kill()
            raising.process.wait()
            raising = begin()
        while len(raising.starts()) == before:
            if ranks and raising.process.poll() is not None:
                raising, given_up = begin(), given_up + 1
                ranks = []
            assert time.monotonic() < killed + 300, "training did not start again"
            time.sleep(0.02)
        raising.wait_for_steps(raising.starts()[-1]["step"] + 1)
        seconds.append(time.monotonic() - killed)
    return raising, seconds, given_up
