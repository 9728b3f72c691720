"""Forecast of benchmarks before a run, in Llama 3's two steps (paper, section 3.2.1), from a table of points alone.

1. Of compute-optimal scaling-law models: the negative log-likelihood per character of the right answers is a straight
   line in the logarithm of the training FLOPs.
2. Of these and any other models at hand: accuracy is a sigmoid of that likelihood, from about chance up to about 1.

There are few points, and the forecast lies orders of magnitude beyond them, so the intervals are those of few points.
Step 1 draws lines from the t distribution of its least squares and adds the scatter of a further model. Step 2 draws
sigmoids by their likelihood over a grid, the counts of right answers taken as binomial with the scatter that is found
around the sigmoid on top. Resampling five to ten points would claim to know more than they tell. Where accuracy does
not rise yet, it cannot be told where it will, and the interval is wide.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdsman.errors import InputError
from herdsman.scaling.curve import SAME_BUDGET, Estimate
from herdsman.scaling.scores import Score

FORECAST = "forecast.json"
LEVEL, DRAWS, SEED = 0.95, 4_000, 0
GRID = 40  # midpoints and widths
CEILINGS = (0.9, 0.95, 1.0)  # a perfect model meets questions that are labelled wrongly
FLOORS = (-2, -1, 0, 1, 2)  # standard errors of guessing, with a normal distribution's weights
RISES = 3.0  # by how much a sigmoid's log-likelihood must be above a constant's: 95% of chi-squared, 2 degrees, halved
EXCLUDED = 15.0  # this far below the highest log-likelihood
LEAST_POINTS = 4  # of each step: two make a line, and the scatter around it needs some more
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sigmoid:
    """Accuracy by likelihood: `floor + (ceiling - floor) / (1 + exp((nats - midpoint) / width))`.

    Attributes:
        midpoint, width: in nats per character.
        ceiling: accuracy of a perfect model.
        floor: of one that guesses; all models meet the same questions, so luck with them is common to all.
    """

    midpoint: float
    width: float
    ceiling: float
    floor: float

    def __call__(self, nats: Floats) -> Floats:
        """Accuracy at these nats per character."""
        found: Floats = _accuracy(nats, self.midpoint, self.width, self.ceiling, self.floor)
        return found


@dataclass(frozen=True)
class Forecast:
    """What a model of so many FLOPs is expected to make of a benchmark.

    Attributes:
        intercept, slope: nats per character are `intercept + slope * log10(flops)`.
        sigmoid, accuracy: None where fewer than `LEAST_POINTS` models have an accuracy.
        rises: whether the models' accuracies clearly rise with their likelihood; if not, where they will is open.
    """

    benchmark: str
    flops: float
    intercept: float
    slope: float
    nats_per_character: Estimate
    chance: float
    sigmoid: Sigmoid | None
    accuracy: Estimate | None
    rises: bool


def forecast(scores: Sequence[Score], flops: float, seed: int = SEED) -> Forecast:
    """Forecasts one benchmark for a model of so many training FLOPs, with intervals of 95%.

    Args:
        scores: of one benchmark.

    Raises:
        InputError: fewer than four compute-optimal models, or all of the same compute.
    """
    name = scores[0].benchmark if scores else "a benchmark"
    optimal = [score for score in scores if score.optimal]
    x, y = (np.array([getattr(score, key) for score in optimal], float) for key in ("flops", "nats_per_character"))
    if len(optimal) < LEAST_POINTS or np.ptp(np.log(x)) == 0:
        raise InputError(
            f"{len(optimal)} compute-optimal models of {len(set(x))} budgets; a line with an interval takes at least "
            f"{LEAST_POINTS}",
            where=name,
            do="measure more models, or mark those that are compute-optimal",
        )
    draw = np.random.default_rng(seed)
    (intercept, slope), drawn = _line(np.log10(x), y, np.log10(flops), draw)
    likelihood = _estimate(float(intercept + slope * np.log10(flops)), drawn)
    known = [score for score in scores if score.accuracy is not None]
    chance = fmean(score.chance for score in known) if known else 0.0
    sigmoid, accuracy, rises = None, None, False
    if len(known) >= LEAST_POINTS:
        sigmoid, accuracy, rises = _sigmoid(known, chance, likelihood.value, drawn, draw)
    return Forecast(name, flops, float(intercept), float(slope), likelihood, chance, sigmoid, accuracy, rises)


def backtest(scores: Sequence[Score], seed: int = SEED) -> tuple[Score, Forecast] | None:
    """The forecast of the compute-optimal model with the most compute from all models of less; None if these are too
    few."""
    last = max((score for score in scores if score.optimal), key=lambda score: score.flops)
    before = [score for score in scores if score.flops * SAME_BUDGET < last.flops]
    optimal = [score.flops for score in before if score.optimal]
    return (last, forecast(before, last.flops, seed)) if len(set(optimal)) >= LEAST_POINTS else None


def make_record(scores: Sequence[Score], flops: float, before_run: bool, now: datetime | None = None) -> dict[str, Any]:
    """All forecasts of a table of points with what they were fitted on and when: what forecast.json holds.

    Raises:
        InputError: a benchmark has too few points.
    """
    names = list(dict.fromkeys(score.benchmark for score in scores))
    found = []
    for name in names:
        mine = [score for score in scores if score.benchmark == name]
        tried = backtest(mine)
        entry = asdict(forecast(mine, flops))
        found.append(
            entry | {"backtest": {"measured": asdict(tried[0]), "forecast": asdict(tried[1])} if tried else None}
        )
    return {
        "made_at": (now or datetime.now(UTC)).isoformat(timespec="seconds"),
        "before_run": before_run,
        "flops": flops,
        "fitted_on": [asdict(score) for score in scores],
        "forecasts": found,
    }


def _line(x: Floats, y: Floats, at: float, draw: np.random.Generator) -> tuple[Floats, Floats]:
    """Least squares y = a + b x: its (a, b), and draws of a further measurement at `at`."""
    design = np.stack([np.ones_like(x), x], 1)
    inverse = np.linalg.inv(design.T @ design)
    best = inverse @ design.T @ y
    freedom = len(x) - 2
    variance = float(((y - design @ best) ** 2).sum()) / freedom
    there = np.array([1.0, at])
    spread = np.sqrt(variance * (1 + there @ inverse @ there))
    return best, there @ best + spread * draw.standard_t(freedom, DRAWS)


def _accuracy(nats: Any, midpoint: Any, width: Any, ceiling: Any, floor: Any) -> Any:
    return floor + (ceiling - floor) / (1 + np.exp(np.clip((nats - midpoint) / width, -60, 60)))


def _sigmoid(
    scores: Sequence[Score], chance: float, at: float, drawn: Floats, draw: np.random.Generator
) -> tuple[Sigmoid, Estimate, bool]:
    """The likeliest sigmoid, the forecast of a further measurement of accuracy, and whether accuracy rises.

    What is thought possible beforehand: midpoints from 0, where every answer is certain, to the worst model's
    likelihood; widths from a hundredth of the distance that points and forecast cover to ten times as much, each factor
    alike; `CEILINGS`; and floors about chance, see `FLOORS`.

    Args:
        at: forecast nats per character.
        drawn: draws of them.
    """
    nats = np.array([score.nats_per_character for score in scores])
    asked = np.array([score.questions for score in scores], float)
    right = np.array([score.accuracy for score in scores], float) * asked
    distance = max(float(max(nats.max(), at) - min(nats.min(), at)), 1e-6)
    error = (chance * (1 - chance) / asked.mean()) ** 0.5
    axes = [
        np.linspace(0, nats.max() + distance / 10, GRID),
        np.geomspace(distance / 100, 10 * distance, GRID),
        np.array(CEILINGS),
        chance + error * np.array(FLOORS),
    ]
    beforehand = -np.square(FLOORS) / 2
    freedom = max(len(scores) - 2, 1)
    for _ in range(3):  # each time only over the part that is not all but excluded
        grid = np.meshgrid(*axes, indexing="ij", sparse=True)
        expected = _accuracy(nats, *(axis[..., None] for axis in grid)).clip(1e-9, 1 - 1e-9)
        likelihood = _likelihood(right, asked, expected) + beforehand
        top = np.unravel_index(likelihood.argmax(), likelihood.shape)
        best = expected[top]
        scatter = max(1.0, float(((right - asked * best) ** 2 / (asked * best * (1 - best))).sum()) / freedom)
        below = (likelihood.max() - likelihood) / scatter
        tried = axes
        ends = []
        for number in range(2):
            inside = np.flatnonzero((below < EXCLUDED).any(tuple({0, 1, 2, 3} - {number})))
            ends.append((axes[number][max(0, inside[0] - 1)], axes[number][min(GRID - 1, inside[-1] + 1)]))
        axes = [np.linspace(*ends[0], GRID), np.geomspace(*ends[1], GRID), *axes[2:]]
    likeliest = Sigmoid(*(float(axis[place]) for axis, place in zip(tried, top, strict=True)))
    # A scatter that had to be estimated makes the tails those of a t distribution.
    weights = np.exp(-below) if scatter == 1 else (1 + 2 * below / freedom) ** (-(freedom + 2) / 2)
    chosen = np.unravel_index(draw.choice(weights.size, DRAWS, p=weights.ravel() / weights.sum()), weights.shape)
    truth = _accuracy(drawn, *(axis[place] for axis, place in zip(tried, chosen, strict=True)))
    noise = np.sqrt(scatter * truth * (1 - truth) / asked.mean()) * draw.standard_normal(DRAWS)
    constant = np.full(len(nats), (right.sum() / asked.sum()).clip(1e-9, 1 - 1e-9))
    rises = _likelihood(right, asked, best) - _likelihood(right, asked, constant) > RISES * scatter
    return likeliest, _estimate(float(likeliest(np.array(at))), (truth + noise).clip(0, 1)), bool(rises)


def _likelihood(right: Floats, asked: Floats, expected: Floats) -> Floats:
    """Log-likelihood of the counts of right answers, [..., models] -> [...]."""
    found: Floats = (right * np.log(expected) + (asked - right) * np.log(1 - expected)).sum(-1)
    return found


def _estimate(value: float, drawn: Floats) -> Estimate:
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))
