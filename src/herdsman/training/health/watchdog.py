"""Ends a run that makes no progress, and says on which rank it hung.

A thread on every rank watches the training loop. In a folder that all ranks see:

    heartbeat_RANK.json   where the rank is, every few seconds
    hang                  made by the first rank whose loop gave no sign of life for too long: all ranks now write
    stacks_RANK.txt       the stacks of all its threads
    flight_RANK.json      what it has queued and waits for (flight.py)
    hang.json             the verdict: the ranks that hold up the others

Then every rank ends itself with EXIT_HUNG, and its agent starts it again. A rank that cannot write, because its process
is stopped or stuck in a call that does not let Python run, is named for that, and killed by its agent.
"""

from __future__ import annotations

import faulthandler
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from herdsman.files import read_json, write_json
from herdsman.training.health.exits import EXIT_HUNG
from herdsman.training.health.flight import Culprits, find_culprits, write_extract
from herdsman.training.health.options import WatchdogOptions

HEARTBEAT_SECONDS = 5.0
LOOK_SECONDS = 1.0
MARK, VERDICT = "hang", "hang.json"


class Watchdog:
    """Watches over one rank from the moment it is made.

    `close` it when training is over, after a last collective: a rank that is done while others hang looks silent.

    Args:
        folder: of this attempt, seen by all ranks; what an earlier attempt left in it is taken for a hang of this one.
        report: called with the verdict, on one rank alone, before the ranks end: to write an event.
    """

    def __init__(
        self,
        options: WatchdogOptions,
        folder: Path,
        rank: int = 0,
        world: int = 1,
        report: Callable[[dict[str, Any]], None] = lambda verdict: None,
    ):
        self.options, self.folder, self.rank, self.world, self.report = options, folder, rank, world, report
        folder.mkdir(parents=True, exist_ok=True)
        self.step, self.phase = 0, "start"
        self.limit_seconds, self.beat_at = options.first_step_seconds, time.monotonic()
        self._write_heartbeat(0.0)
        self.closed = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.thread.start()

    def beat(self, step: int, phase: str = "step", allow_seconds: float | None = None) -> None:
        """A sign of life from the loop; a few hundred nanoseconds.

        Args:
            step: the step that is done or at work.
            phase: what begins now, for the reports.
            allow_seconds: time until the next beat, where it may take longer than a step: an evaluation.
        """
        self.step, self.phase = step, phase
        self.limit_seconds, self.beat_at = allow_seconds or self.options.timeout_seconds, time.monotonic()

    def close(self) -> None:
        self.closed.set()
        self.thread.join()

    def _watch(self) -> None:
        written = time.monotonic()
        while not self.closed.wait(min(LOOK_SECONDS, self.options.timeout_seconds / 4)):
            silent_seconds = time.monotonic() - self.beat_at
            if silent_seconds > self.limit_seconds or (self.folder / MARK).exists():
                self._end(silent_seconds)
            if time.monotonic() - written >= HEARTBEAT_SECONDS:
                written = time.monotonic()
                with suppress(OSError):  # a full disk is the checkpoints' business
                    self._write_heartbeat(silent_seconds)

    def _end(self, silent_seconds: float) -> None:
        """Does not return. No failure in here may keep the process alive."""
        try:
            (self.folder / MARK).touch()
            self._write_heartbeat(silent_seconds)
            with open(self.folder / f"stacks_{self.rank}.txt", "w") as file:
                faulthandler.dump_traceback(file)
            write_extract(self.folder, self.rank)
            self._agree()
        except Exception as error:
            print(f"watchdog of rank {self.rank}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
        finally:
            os._exit(EXIT_HUNG)

    def _agree(self) -> None:
        """Waits for the extracts; the lowest rank that wrote one gives the verdict, the others wait for it."""
        until = time.monotonic() + self.options.gather_seconds
        while len(self._extracts()) < self.world and time.monotonic() < until:
            time.sleep(0.05)
        extracts = self._extracts()
        if self.rank == min(extracts):
            culprits = find_culprits({rank: read_json(path) for rank, path in extracts.items()}, self.world)
            verdict = self._verdict(culprits)
            write_json(self.folder / VERDICT, verdict)
            self.report(verdict)
            print(f"the run hangs at step {self.step}: {_sentence(verdict)}", file=sys.stderr, flush=True)
        while not (self.folder / VERDICT).exists() and time.monotonic() < until + self.options.gather_seconds:
            time.sleep(0.05)

    def _extracts(self) -> dict[int, Path]:
        return {int(path.stem.partition("_")[2]): path for path in self.folder.glob("flight_*.json")}

    def _verdict(self, culprits: Culprits) -> dict[str, Any]:
        places = [_place(self.folder / f"heartbeat_{rank}.json") for rank in culprits.ranks]
        return {"step": self.step, "ranks": culprits.ranks, "reason": culprits.reason, "places": places}

    def _write_heartbeat(self, silent_seconds: float) -> None:
        """Renamed into place, but not flushed to the disk: it need not outlive a power cut."""
        beside = self.folder / f"heartbeat_{self.rank}.writing"
        row = {
            "rank": self.rank,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "step": self.step,
            "phase": self.phase,
            "silent_seconds": round(silent_seconds, 1),
            "unix_seconds": round(time.time(), 1),
        }
        beside.write_text(json.dumps(row) + "\n")
        beside.replace(self.folder / f"heartbeat_{self.rank}.json")


def _place(heartbeat: Path) -> dict[str, Any] | None:
    try:
        row = read_json(heartbeat)
    except (OSError, ValueError):
        return None
    return {name: row[name] for name in ("host", "pid", "step", "phase")}


def _sentence(verdict: dict[str, Any]) -> str:
    if not verdict["ranks"]:
        return str(verdict["reason"])
    hosts = [place["host"] if place else "unknown host" for place in verdict["places"]]
    named = ", ".join(f"rank {rank} on {host}" for rank, host in zip(verdict["ranks"], hosts, strict=True))
    return f"{named} {verdict['reason']}"
