"""Learning rate and warmup by the model's size, where a recipe leaves them out: the published numbers, and between them
straight lines in the logarithms of size and rate. Needs no torch.

| parameters | peak | published in "The Llama 3 Herd of Models" |
|---|---|---|
| 40M | 4e-4 | section 3.2.1: 2e-4 to 4e-4 for runs of 40M to 16B; the highest taken to be the smallest's |
| 8B, 70B, 405B | 3e-4, 1.5e-4, 8e-5 | table 3 |

The runs of section 3.2.1 warm up for 2,000 steps and end at a tenth of the peak; 405B warms up for 8,000 and ends at a
hundredth (section 3.4.1), and the 8B and 70B were trained alike.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise

from herdsman.training.options import PretrainOptions

SMALLEST, SMALLEST_HERD = 40_000_000, 8_030_261_248
PEAKS = ((SMALLEST, 4e-4), (SMALLEST_HERD, 3e-4), (70_553_706_496, 1.5e-4), (405_853_388_800, 8e-5))
HERD = {"final_share": 0.01, "warmup_steps": 8000}
SCALING_LAW_RUNS = {"final_share": 0.1, "warmup_steps": 2000}


@dataclass(frozen=True)
class Hyperparameters:
    """What the schedule's curve is made of.

    Attributes:
        warmup_steps: unused where the recipe counts the curve in tokens.
        by_size: names of those that the recipe leaves out.
    """

    peak_learning_rate: float
    final_learning_rate: float
    warmup_steps: int
    by_size: tuple[str, ...]


def hyperparameters(options: PretrainOptions, parameters: int) -> Hyperparameters:
    """The recipe's own values, and for those it leaves out the defaults of a model of so many parameters.

    The final rate that is left out is a share of the recipe's peak, if that is given.
    """
    defaults = HERD if parameters >= SMALLEST_HERD else SCALING_LAW_RUNS
    peak = options.peak_learning_rate
    if peak is None:
        peak = published_peak(parameters)
    final = options.final_learning_rate
    warmup_steps = options.warmup_steps
    names = ["peak_learning_rate", "final_learning_rate"] + ["warmup_steps"] * (options.warmup_tokens is None)
    return Hyperparameters(
        peak,
        peak * defaults["final_share"] if final is None else final,
        int(defaults["warmup_steps"]) if warmup_steps is None else warmup_steps,
        tuple(name for name in names if getattr(options, name) is None),
    )


def published_peak(parameters: int) -> float:
    """Peak learning rate by size; below the smallest published size that one's, above the largest that one's."""
    sizes = [size for size, _ in PEAKS]
    if parameters <= sizes[0] or parameters >= sizes[-1]:
        return PEAKS[0 if parameters <= sizes[0] else -1][1]
    (small, left), (large, right) = list(pairwise(PEAKS))[bisect_left(sizes, parameters) - 1]
    share = math.log(parameters / small) / math.log(large / small)
    return math.exp(math.log(left) + share * math.log(right / left))
