"""Told to stop: a signal or a file asks, the loop agrees on it over all ranks, checkpoints and ends with EXIT_AGAIN.

Schedulers send SIGTERM before they take a machine away, and SIGUSR1 some time before a job's limit. A signal reaches
ranks at different moments, and a rank that stopped alone would leave the others waiting. So each rank only notes it,
and the loop adds `wanted()` to a number that it reduces over all ranks anyway: a sum above 0 means that all stop, at
the same step. SIGINT stays Ctrl-C, which ends a run at once; it resumes from the last checkpoint.
"""

from __future__ import annotations

import signal
import time
from pathlib import Path
from types import FrameType

STOP_FILE, SAVE_FILE = "STOP", "SAVE"
LOOK_SECONDS = 5.0  # between looks at the folder: it may be on storage that thousands of ranks share


class StopRequests:
    """Notes SIGTERM and SIGUSR1 from the moment it is made; must be made in the main thread.

    Args:
        folder: where `touch STOP` stops the run as a signal does, and `touch SAVE` asks for a checkpoint. None: the
            files are not looked for; one rank is enough to look.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.signal: str | None = None
        self.files: set[str] = set()
        self.looked = -LOOK_SECONDS
        self.before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGUSR1)}

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name

    def wanted(self) -> tuple[float, float]:
        """(stop, save), each 0.0 or 1.0, to be summed over the ranks: above 0, all ranks do it after this step."""
        self._look()
        stop = self.signal is not None or STOP_FILE in self.files
        return float(stop), float(SAVE_FILE in self.files)

    @property
    def reason(self) -> str:
        """Why this rank wants to stop, for the event log."""
        return self.signal or (f"a file {STOP_FILE}" if STOP_FILE in self.files else "another rank")

    def done(self) -> None:
        """Removes the files, once what they asked for is done: the next start must not stop again."""
        if self.folder is not None:
            for name in self.files:
                (self.folder / name).unlink(missing_ok=True)
        self.files = set()

    def close(self) -> None:
        """Puts the earlier signal handlers back."""
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _look(self) -> None:
        if self.folder is not None and time.monotonic() - self.looked >= LOOK_SECONDS:
            self.looked = time.monotonic()
            self.files |= {name for name in (STOP_FILE, SAVE_FILE) if (self.folder / name).exists()}
