"""One way to show progress: a bar with rate and time left on a terminal, plain lines everywhere else."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

PLAIN_LINE_SECONDS = 10.0


class Task:
    """One piece of long work with a known or unknown total."""

    def __init__(self, progress: Progress, label: str, total: float | None, unit: str):
        self.progress, self.label, self.total, self.unit = progress, label, total, unit
        self.done, self.message = 0.0, ""
        self.started = self.last_line = time.monotonic()
        self.resumed = 0.0  # done by an earlier process
        self.bar = progress.bars.add_task(label, total=total, unit=unit, rate="", message="") if progress.bars else None

    def advance(self, amount: float = 1) -> None:
        self.update(self.done + amount)

    def update(self, done: float) -> None:
        """Says how much is done by now, counted from the start of the work (also of resumed work)."""
        self.done = done
        self.progress.beat()
        now = time.monotonic()
        if self.bar is not None and self.progress.bars:
            self.progress.bars.update(self.bar, completed=done, rate=self._rate(now), message=self.message)
        elif now - self.last_line >= PLAIN_LINE_SECONDS:
            self.last_line = now
            self.progress.line(self._line(now))

    def expect(self, total: float) -> None:
        """Says that there is more or less to do than was thought."""
        if total != self.total:
            self.total = total
            if self.bar is not None and self.progress.bars:
                self.progress.bars.update(self.bar, total=total)

    def resume(self, done: float) -> None:
        """Says how much an earlier process had done: it counts as done, and not in the rate."""
        self.resumed = done
        self.update(done)

    def note(self, message: str) -> None:
        """A short remark shown at the end of the line, such as the loss."""
        self.message = message

    def _per_second(self, now: float) -> float:
        return (self.done - self.resumed) / max(now - self.started, 1e-3)

    def _rate(self, now: float) -> str:
        rate = self._per_second(now)
        return f"{rate:,.0f} {self.unit}/s" if rate >= 10 else f"{rate:.2f} {self.unit}/s"

    def _line(self, now: float) -> str:
        rate = self._per_second(now)
        share = f"{self.done:,.0f}/{self.total:,.0f} {self.unit}" if self.total else f"{self.done:,.0f} {self.unit}"
        left = f", {(self.total - self.done) / rate:,.0f} s left" if self.total and rate > 0 else ""
        note = f", {self.message}" if self.message else ""
        return f"  {self.label}: {share}, {self._rate(now)}{left}{note}"


class Progress:
    """Shows tasks and lines on standard error, so that standard output stays for answers.

    Args:
        beat: called on every update; the workspace uses it to keep its clock.
    """

    def __init__(self, console: Console | None = None, quiet: bool = False):
        self.console = console or Console(stderr=True, highlight=False)
        self.quiet = quiet
        self.beat: Callable[[], None] = lambda: None
        self.bars: Bars | None = None

    @contextmanager
    def task(self, label: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        """A task for the time of the block. Tasks may be nested."""
        outermost = self.bars is None and self.console.is_terminal and not self.quiet
        if outermost:
            self.bars = Bars(
                TextColumn("  {task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                TextColumn("[dim]{task.fields[message]}"),
                console=self.console,
                transient=True,
            )
            self.bars.start()
        task = Task(self, label, total, unit)
        try:
            yield task
        finally:
            if self.bars and task.bar is not None:
                self.bars.remove_task(task.bar)
            if outermost and self.bars:
                self.bars.stop()
                self.bars = None

    def line(self, text: str) -> None:
        if not self.quiet:
            self.console.print(text, markup=False, soft_wrap=True)
            if not self.console.is_terminal:
                sys.stderr.flush()


SILENT = Progress(quiet=True)
