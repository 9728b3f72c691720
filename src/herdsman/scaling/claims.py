"""Who works on which run, among processes and machines that share a folder and nothing else.

A claim is a file `claim-1.json` in the run's folder, made so that only one can make it, and written anew every few
seconds. Whoever finds it unchanged for long takes the run over with `claim-2.json`, which again only one can make; the
owner of an older claim that was only slow sees that and ends. Clocks of machines are never compared. On one machine a
lock of the kernel tells at once that an owner is gone.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from herdsman.errors import WorkspaceError
from herdsman.files import write_json
from herdsman.workspace import Workspace

BEAT_SECONDS = 5.0
SILENT_SECONDS = 120.0  # longer than what network file systems keep of a folder before they look again
BOOT = Path("/proc/sys/kernel/random/boot_id")
MACHINE = f"{socket.gethostname()}/{BOOT.read_text().strip() if BOOT.exists() else uuid.getnode()}"
NAME = "claim-{}.json"


class Claims:
    """The claims of one process, and what it has seen of others'."""

    def __init__(self, silent_seconds: float = SILENT_SECONDS, beat_seconds: float = BEAT_SECONDS):
        self.silent_seconds, self.beat_seconds = silent_seconds, beat_seconds
        self._seen: dict[Path, tuple[str, float]] = {}

    @contextmanager
    def on(self, folder: Path) -> Iterator[bool]:
        """Whether the folder is this process's for the time of the block."""
        lock = Workspace(folder).locked()
        try:
            lock.__enter__()
        except WorkspaceError:
            yield False
            return
        try:
            number = self._take(folder)
            if number is None:
                yield False
                return
            over = threading.Event()
            beats = threading.Thread(target=self._beat, args=(folder, number, over), daemon=True, name="claim")
            beats.start()
            try:
                yield True
            finally:
                over.set()
                beats.join()
                for past in range(number + 1):
                    for path in folder.glob(NAME.format(past) + "*"):  # also what a killed owner had half written
                        path.unlink(missing_ok=True)
        finally:
            lock.__exit__(None, None, None)

    def _take(self, folder: Path) -> int | None:
        """The number of this process's new claim; None while another one holds."""
        numbers = [int(path.stem.rpartition("-")[2]) for path in folder.glob(NAME.format("*"))]
        number = max(numbers, default=0)
        if number and not self._given_up(folder / NAME.format(number)):
            return None
        try:
            with open(folder / NAME.format(number + 1), "x") as file:
                json.dump(_content(0), file)
            return number + 1
        except FileExistsError:
            return None

    def _given_up(self, claim: Path) -> bool:
        try:
            text = claim.read_text()
        except OSError:
            return False  # just given back: the next look will tell
        with suppress(ValueError):  # being written, or its owner died of it
            if json.loads(text)["machine"] == MACHINE:
                return True  # its owner would hold the lock
        before, since = self._seen.setdefault(claim, (text, time.monotonic()))
        if before != text:
            self._seen[claim] = (text, time.monotonic())
            return False
        return time.monotonic() - since >= self.silent_seconds

    def _beat(self, folder: Path, number: int, over: threading.Event) -> None:
        beat = 0
        while True:
            if (folder / NAME.format(number + 1)).exists():
                print(f"herdsman: {folder.name} was taken over by another process", file=sys.stderr, flush=True)
                os._exit(1)  # in the midst of a step: what it would write is another's by now
            with suppress(OSError):  # a full disk is the run's to tell
                write_json(folder / NAME.format(number), _content(beat))
            beat += 1
            if over.wait(self.beat_seconds):
                return


def _content(beat: int) -> dict[str, object]:
    return {"machine": MACHINE, "process": os.getpid(), "beat": beat}
