"""How often a run is interrupted, how often it should save, and how much of its time is effective.

Interruptions are taken to come at random at a rate that grows with the number of GPUs. A run saves after every
`interval` of work, which blocks it for `blocked`; an interruption loses the work since the last save and costs
`restart` (detection, scheduling, loading); another one may come in the middle of that.

The closed form is that of J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps"
(2006); `simulate` draws the same run at random, and shows how far single runs stray from it.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from herdsman.cluster.figure import Figure

DAY_SECONDS = 86_400.0
LLAMA3_GPUS, LLAMA3_DAYS, LLAMA3_PLANNED, LLAMA3_UNEXPECTED = 16_384, 54, 47, 419
RSC1_FAILURES_PER_SERVER_DAY = 6.50e-3
_GPU_DAYS = LLAMA3_GPUS * LLAMA3_DAYS

INTERRUPTIONS_PER_GPU_DAY = Figure(
    (LLAMA3_PLANNED + LLAMA3_UNEXPECTED) / _GPU_DAYS,
    "per GPU-day",
    "paper",
    (LLAMA3_UNEXPECTED - 2 * math.sqrt(LLAMA3_UNEXPECTED)) / _GPU_DAYS,
    RSC1_FAILURES_PER_SERVER_DAY / 8,
    "Llama 3, section 3.3.4: 466 in 54 days on 16,384 GPUs; range from its unexpected ones alone, less two deviations, "
    "to Meta's RSC-1 (arXiv 2410.21680: 6.50 a thousand days of a server)",
)
BLOCKED_SECONDS = Figure(5.0, "s", "assumed", 1.0, 15.0, "asynchronous saves: only the copy out of the GPUs blocks")
RESTART_SECONDS = Figure(
    600.0, "s", "assumed", 60.0, 740.0,
    "from the failure to the first new step; Llama 3's more than 90% effective time allows 740 s at most",
)  # fmt: skip


@dataclass(frozen=True)
class Trial:
    """One simulated run: share of the time that was effective, and interruptions."""

    effective: float
    interruptions: int


def seconds_between_interruptions(gpus: int, per_gpu_day: float) -> float:
    return DAY_SECONDS / (gpus * per_gpu_day)


def young_interval(blocked: float, between: float) -> float:
    """Best seconds of work between two saves, to first order (J. W. Young, 1974)."""
    return math.sqrt(2 * blocked * between)


def best_interval(blocked: float, between: float) -> float:
    """Best seconds of work between two saves (Daly 2006, equation 37).

    Args:
        blocked: seconds that a save blocks training.
        between: mean seconds between interruptions.
    """
    if blocked >= 2 * between:
        return between
    share = math.sqrt(blocked / (2 * between))
    return young_interval(blocked, between) * (1 + share / 3 + share**2 / 9) - blocked


def effective_share(interval: float, blocked: float, restart: float, between: float) -> float:
    """Expected share of the time that ends up in the model (Daly 2006, equation 20, turned round).

    Args:
        interval: seconds of work between two saves.
        blocked, restart: seconds that a save and an interruption cost.
        between: mean seconds between interruptions.
    """
    return interval / (between * math.exp(restart / between) * math.expm1((interval + blocked) / between))


def simulate(
    interval: float, blocked: float, restart: float, between: float, seconds: float, runs: int, seed: int = 0
) -> list[Trial]:
    """Runs of `seconds` each, with interruptions drawn at random; arguments as in `effective_share`."""
    random_state = random.Random(seed)
    return [_trial(random_state, interval, blocked, restart, between, seconds) for _ in range(runs)]


def _trial(
    random_state: random.Random, interval: float, blocked: float, restart: float, between: float, seconds: float
) -> Trial:
    time = effective = 0.0
    interruptions = 0
    while True:
        lasts = random_state.expovariate(1 / between)
        down = restart if interruptions else 0.0
        work = (
            min(lasts, seconds - time) - down
        )  # negative where the next interruption comes before the restart is over
        effective += max(0.0, work) // (interval + blocked) * interval
        time += lasts
        if time >= seconds:
            return Trial(effective / seconds, interruptions)
        interruptions += 1
