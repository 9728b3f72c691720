"""Where the time of a training stage went, read from its event log: how much of it was effective (paper, 3.3.4).

The buckets add up to the time from the first start to the last event:

    productive   steps whose result is part of the model (or of the run's present state)
    data         of steps, waiting for batches
    recomputed   steps that were skipped, rolled back, or lost because the run went on from an earlier checkpoint
    checkpoint   training stood still for a checkpoint
    start        loading the checkpoint
    wait         from the last sign of one attempt to the start of the next: detection, scheduling, imports, groups
    other        the rest within an attempt: evaluation, logging
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Written by the raise, the launcher or the watchdog, on their own clock, and not by the loop.
OUTSIDE = {"started", "finished", "stopped", "interruption", "restart", "detect"}


@dataclass
class Goodput:
    """Seconds by bucket; see the file's head."""

    productive: float = 0.0
    data: float = 0.0
    recomputed: float = 0.0
    checkpoint: float = 0.0
    start: float = 0.0
    wait: float = 0.0
    other: float = 0.0
    attempts: int = 0

    @property
    def wall(self) -> float:
        return self.productive + self.data + self.recomputed + self.checkpoint + self.start + self.wait + self.other

    @property
    def effective(self) -> float:
        """Share of the time that was productive."""
        return self.productive / self.wall if self.wall else 0.0

    def describe(self) -> str:
        """One line: how much of the time was effective, and where the rest went."""
        rest = {
            "waiting for data": self.data,
            "recomputed steps": self.recomputed,
            "checkpoints": self.checkpoint,
            "starting again": self.start + self.wait,
            "validation and other work": self.other,
        }
        told = (f"{name} {seconds / self.wall:.1%}" for name, seconds in rest.items() if seconds >= 0.0005 * self.wall)
        starts = f"{self.attempts} start{'s' * (self.attempts != 1)}"
        return f"{self.effective:.1%} of {_duration(self.wall)} with {starts} was effective; " + ", ".join(told)


@dataclass
class _Piece:
    """Steps after `first` up to `last` that one `step` event told of."""

    first: int
    last: int
    productive: float
    data: float


def _duration(seconds: float) -> str:
    """In the unit that people would say it in."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} s"


def goodput_of_stage(events: Sequence[Mapping[str, Any]], stage: str) -> Goodput | None:
    """The account of a stage from a workspace's events, since it began under its present fingerprint; None if it has
    not trained."""
    begun = [n for n, event in enumerate(events) if event["event"] == "started" and event.get("stage") == stage]
    first = len(events)
    for number in reversed(begun):
        if events[number]["fingerprint"] != events[begun[-1]]["fingerprint"]:
            break
        first = number
    account = goodput(event for event in events[first:] if event.get("stage") == stage)
    return account if account.attempts else None


def goodput(events: Iterable[Mapping[str, Any]]) -> Goodput:
    """Sums up the events of one training stage, in the order they were written.

    Time within an attempt is measured on its monotonic clock, time between attempts on the wall clock.
    """
    total, pieces = Goodput(), list[_Piece]()
    begun: Mapping[str, Any] | None = None
    last: Mapping[str, Any] = {}
    ready, step = False, 0
    spent = 0.0  # of the attempt, in buckets by now
    for event in events:
        kind = event["event"]
        if kind == "start":
            if begun is not None:
                seconds = _between(begun, last)
                total.wait += event["unix_seconds"] - begun["unix_seconds"] - seconds
                _close(total, seconds, spent, ready)
            total.attempts += 1
            begun, ready, spent, step = event, False, 0.0, event["step"]
            _lose(total, pieces, step)
        elif begun is None or kind in OUTSIDE:
            continue
        elif kind == "ready":
            ready = True
            total.start += _between(begun, event)
            spent += _between(begun, event)
        elif kind == "step":
            spent += event["seconds"]
            total.recomputed += event["lost_seconds"]
            productive = event["seconds"] - event["lost_seconds"] - event["data_seconds"]
            pieces.append(_Piece(step, event["step"], productive, event["data_seconds"]))
            step = event["step"]
        elif kind == "checkpoint":
            spent += event["blocked_seconds"]
            total.checkpoint += event["blocked_seconds"]
        elif kind == "roll_back":
            step = event["step"]
            _lose(total, pieces, step)
        last = event
    if begun is not None:
        _close(total, _between(begun, last), spent, ready)
    total.productive = sum(piece.productive for piece in pieces)
    total.data = sum(piece.data for piece in pieces)
    return total


def _between(first: Mapping[str, Any], second: Mapping[str, Any]) -> float:
    return float(second["monotonic_seconds"] - first["monotonic_seconds"])


def _close(total: Goodput, seconds: float, spent: float, ready: bool) -> None:
    """Puts the rest of an attempt where it belongs: one that never came to its first step was all start."""
    if ready:
        total.other += seconds - spent
    else:
        total.start += seconds - spent


def _lose(total: Goodput, pieces: list[_Piece], step: int) -> None:
    """Training goes on after `step`: what came later is lost, and of a piece across it, its share."""
    while pieces and pieces[-1].last > step:
        piece = pieces.pop()
        kept = max(0, step - piece.first) / max(1, piece.last - piece.first)
        total.recomputed += (piece.productive + piece.data) * (1 - kept)
        if kept:
            pieces.append(_Piece(piece.first, step, piece.productive * kept, piece.data * kept))
