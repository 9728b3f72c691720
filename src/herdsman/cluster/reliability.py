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
from collections.abc import Sequence
from dataclasses import dataclass

from herdsman.cluster.figure import Figure
from herdsman.training.checkpoints.options import CheckpointOptions

DAY_SECONDS = 86_400.0
SIMULATED_INTERRUPTIONS = 100_000  # about a tenth of a second of drawing
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
CLUSTER_BLOCKED_SECONDS = Figure(
    5.0, "s", "assumed", 1.0, 15.0, "saves beside training: the copy out of the GPUs, and all ranks agreeing"
)
CLUSTER_RESTART_SECONDS = Figure(
    600.0,
    "s",
    "assumed",
    60.0,
    740.0,
    "from the failure to the first new step; Llama 3's more than 90% effective time allows 740 s at most",
)
SERVER_COPY_BYTES_PER_SECOND = Figure(2.4e9, "B/s", "measured", 1e9, 10e9, "a copy in memory, on two CPU cores")
SERVER_RESTART_SECONDS = Figure(
    15.0, "s", "measured", 10.0, 60.0, "from the failure to the first new step, on two cores"
)


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
        left = seconds - time
        # Negative where the next interruption comes before the restart is over.
        saves, rest = divmod(max(0.0, min(lasts, left) - down), interval + blocked)
        effective += saves * interval
        if lasts >= left:
            return Trial((effective + min(rest, interval)) / seconds, interruptions)
        time += lasts
        interruptions += 1


def reliability_figures(
    options: CheckpointOptions, gpus: int, servers: int, bytes_per_gpu: float, training: Figure
) -> dict[str, Figure]:
    """What interruptions cost a run that trains for so many seconds and saves as its options say.

    Values are expectations; ranges hold 95 of 100 simulated runs, from the mildest to the worst of what is assumed.

    Args:
        bytes_per_gpu: of a checkpoint.
    """
    interval = options.local_every_seconds if options.local_folder else options.every_seconds
    rate, blocked, restart = INTERRUPTIONS_PER_GPU_DAY, CLUSTER_BLOCKED_SECONDS, CLUSTER_RESTART_SECONDS
    if servers == 1:
        restart = SERVER_RESTART_SECONDS
        blocked = Figure.exact(bytes_per_gpu, "B").over(SERVER_COPY_BYTES_PER_SECOND, "s", "a copy in memory")
    between = Figure.exact(DAY_SECONDS, "s").over(rate.times(gpus, "per day"), "s", rate.source)
    expected = effective_share(interval, blocked.value, restart.value, between.value)
    seconds = training.value / expected
    mild = _simulated(interval, blocked.low, restart.low, between.high, seconds)
    bad = _simulated(interval, blocked.high, restart.high, between.low, seconds)
    best = best_interval(blocked.value, between.value)
    low, high = best_interval(blocked.low, between.low), best_interval(blocked.high, between.high)
    return {
        "effective_share": Figure(
            expected, "share", "derived",
            min(expected, _quantile([trial.effective for trial in bad], 0.025)),
            max(expected, _quantile([trial.effective for trial in mild], 0.975)),
            f"of the time, saving every {interval:g} s",
        ),
        "interruptions": Figure(
            seconds / between.value, "interruptions", "derived",
            min(seconds / between.value, _quantile([trial.interruptions for trial in mild], 0.025)),
            max(seconds / between.value, _quantile([trial.interruptions for trial in bad], 0.975)),
            rate.source,
        ),
        "between_interruptions": between,
        "save_interval": Figure.exact(interval, "s", source="the recipe"),
        "best_save_interval": Figure(best, "s", "derived", min(low, best), max(high, best), "Daly 2006"),
        "best_effective_share": Figure.exact(
            effective_share(best, blocked.value, restart.value, between.value), "share", source="at that interval"
        ),
        "blocked_by_a_save": blocked,
        "restart": restart,
    }  # fmt: skip


def _simulated(interval: float, blocked: float, restart: float, between: float, seconds: float) -> list[Trial]:
    """Some hundred runs, or fewer where each has many interruptions, and so strays little."""
    runs = min(200, max(10, int(SIMULATED_INTERRUPTIONS * between / seconds)))
    if seconds / between > SIMULATED_INTERRUPTIONS:
        return [Trial(effective_share(interval, blocked, restart, between), int(seconds / between))]
    return simulate(interval, blocked, restart, between, seconds, runs)


def _quantile(values: Sequence[float], share: float) -> float:
    return sorted(values)[round(share * (len(values) - 1))]
