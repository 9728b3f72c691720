"""Steps in the event log: one line for many, since a line a step would make the log of a long run its largest file."""

from __future__ import annotations

import time

from herdsman.events import EventLog

EVERY_SECONDS = 30.0


class StepEvents:
    """Sums steps up and writes a `step` event every now and then.

    Fields: step (steps done by then), tokens (trained on by then), and since the line before: seconds in steps, of
    these data_seconds waiting for batches and lost_seconds in steps that were skipped.
    """

    def __init__(self, log: EventLog, every_seconds: float = EVERY_SECONDS):
        self.log, self.every_seconds = log, every_seconds
        self.written = time.monotonic()
        self._clear()

    def add(self, step: int, tokens: int, seconds: float, data_seconds: float = 0.0, kept: bool = True) -> None:
        """Notes a step.

        Args:
            step: steps done after it.
            tokens: trained on after it.
            seconds: it took, with the wait for its batch.
            kept: False if its update was skipped.
        """
        self.step, self.tokens = step, tokens
        self.seconds += seconds
        self.data_seconds += data_seconds
        self.lost_seconds += 0.0 if kept else seconds
        if time.monotonic() - self.written >= self.every_seconds:
            self.flush()

    def flush(self) -> None:
        """Writes what has come together; to be called before a checkpoint, a roll-back and the end."""
        if self.seconds:
            self.log.write(
                "step",
                step=self.step,
                tokens=self.tokens,
                seconds=round(self.seconds, 6),
                data_seconds=round(self.data_seconds, 6),
                lost_seconds=round(self.lost_seconds, 6),
            )
        self.written = time.monotonic()
        self._clear()

    def _clear(self) -> None:
        self.step = self.tokens = 0
        self.seconds = self.data_seconds = self.lost_seconds = 0.0
