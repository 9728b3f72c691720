"""Loss spikes and numbers that are not finite: which steps to skip, and when to go back to a checkpoint.

The detector sees a step's loss and gradient norm, already reduced over all ranks, before the optimizer's step. It
depends on nothing else, so that all ranks decide alike without asking one another.

A step is a spike if its loss, or the logarithm of its gradient norm, lies above the median of the accepted steps of the
window by more than each of these:

- `sigmas` robust deviations (1.4826 times the median absolute deviation) of the distances that the accepted steps of
  the window had to the level valid for each, so that a falling curve does not count as noise;
- `tail_factor` times the largest such distance among the last 2,048 accepted steps: noise with heavy tails has many
  steps beyond 6 sigma, and they are not spikes;
- a smallest rise that is worth a step at all.

Until the window is full, only numbers that are not finite are skipped.

Skipping at 6 sigma over 128 steps is what OLMo-core and levanter do, with mean and deviation; PaLM (Chowdhery et al.
2022, section 5.1) went back to a checkpoint and past the data of the spike, which `rollback.py` does.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from enum import StrEnum
from statistics import median
from typing import Any

from herdsman.training.health.options import SpikeOptions

TAIL_STEPS = 2048
PLATEAUS = 8  # medians of half a window each, among which the lowest is looked for
MAD_TO_SIGMA = 1.4826  # of a normal distribution


class Verdict(StrEnum):
    KEEP = "keep"
    SKIP = "skip"
    ROLL_BACK = "roll_back"


class SpikeDetector:
    """Judges each step; see the file's head.

    Attributes:
        reason: why the last verdict was not KEEP, for the event log.
    """

    def __init__(self, options: SpikeOptions):
        self.options = options
        self.reason = ""
        self.skips_in_a_row = 0
        self.forget()

    def forget(self) -> None:
        """Starts anew. To be called where the curve may jump by right: new data mix, batch or sequence length."""
        self.loss = _Curve(self.options)
        self.norm = _Curve(self.options)
        self.half: list[float] = []
        self.plateaus: deque[float] = deque(maxlen=PLATEAUS)

    def judge(self, loss: float, gradient_norm: float) -> Verdict:
        """The verdict on a step whose update has not been made.

        Args:
            loss: of the whole step, equal on all ranks.
            gradient_norm: global, before clipping, equal on all ranks.

        Returns:
            SKIP: do not update. ROLL_BACK: do not update; load the last checkpoint and skip the data since then.
        """
        self.reason = self._trouble(loss, gradient_norm)
        if self.reason:
            self.skips_in_a_row += 1
            return Verdict.ROLL_BACK if self.skips_in_a_row >= self.options.skips_before_rollback else Verdict.SKIP
        self.skips_in_a_row = 0
        self.loss.accept(loss)
        self.norm.accept(_log(gradient_norm))
        self.reason = self._sustained_rise(loss)
        return Verdict.ROLL_BACK if self.reason else Verdict.KEEP

    def _trouble(self, loss: float, gradient_norm: float) -> str:
        for name, value in (("loss", loss), ("gradient norm", gradient_norm)):
            if not math.isfinite(value):
                return f"the {name} is {value}"
        if self.loss.is_spike(loss, self.options.loss_rise * abs(self.loss.level)):
            return f"the loss is {loss:.4g} after {self.loss.level:.4g}"
        if self.norm.is_spike(_log(gradient_norm), math.log(self.options.norm_factor)):
            return f"the gradient norm is {gradient_norm:.4g} after {math.exp(self.norm.level):.4g}"
        return ""

    def _sustained_rise(self, loss: float) -> str:
        """Looks, once every half window, whether the last three medians are well above the lowest one of late."""
        self.half.append(loss)
        if len(self.half) < self.options.window_steps // 2:
            return ""
        self.plateaus.append(median(self.half))
        self.half = []
        now, lowest = min(list(self.plateaus)[-3:]), min(self.plateaus)
        if now - lowest > max(self.options.sustained_rise * abs(lowest), 4 * self.loss.sigma()):
            return f"the loss stays at {now:.4g} after {lowest:.4g}"
        return ""

    def state(self) -> dict[str, Any]:
        """All that later verdicts depend on, for the checkpoint; JSON-able."""
        return {
            "loss": self.loss.state(),
            "norm": self.norm.state(),
            "half": self.half,
            "plateaus": list(self.plateaus),
            "skips_in_a_row": self.skips_in_a_row,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.forget()
        self.loss.load(state["loss"])
        self.norm.load(state["norm"])
        self.half = list(state["half"])
        self.plateaus.extend(state["plateaus"])
        self.skips_in_a_row = state["skips_in_a_row"]


class _Curve:
    """The accepted values of one quantity: their level, and how far each lay from the level valid for it."""

    def __init__(self, options: SpikeOptions):
        self.options = options
        self.values: deque[float] = deque(maxlen=options.window_steps)
        self.distances: deque[float] = deque(maxlen=TAIL_STEPS)
        self.level = 0.0

    def is_spike(self, value: float, least: float) -> bool:
        """True if the value lies more than `least` above the level and noise does not explain it."""
        distance = value - self.level
        if distance <= least or len(self.values) < self.options.window_steps:
            return False
        return distance > max(self.options.sigmas * self.sigma(), self.options.tail_factor * max(self.distances))

    def accept(self, value: float) -> None:
        if len(self.values) >= self.options.window_steps // 4:
            self.distances.append(value - self.level)
        self.values.append(value)
        self.level = median(self.values)

    def sigma(self) -> float:
        recent = list(self.distances)[-self.options.window_steps :]
        if not recent:
            return 0.0
        centre = median(recent)
        return MAD_TO_SIGMA * median(abs(distance - centre) for distance in recent)

    def state(self) -> dict[str, list[float]]:
        return {"values": list(self.values), "distances": list(self.distances)}

    def load(self, state: dict[str, Iterable[float]]) -> None:
        self.values.extend(state["values"])
        self.distances.extend(state["distances"])
        self.level = median(self.values) if self.values else 0.0


def _log(gradient_norm: float) -> float:
    """Of a norm that may be 0. Norms vary by factors, so that their logarithm is what noise is added to."""
    return math.log(max(gradient_norm, 1e-12))
