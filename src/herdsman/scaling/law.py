"""Scaling laws: the power law through the minima of IsoFLOP curves, and how sure it is.

Over budgets C the minima follow N*(C) = A C^alpha, N being training TOKENS ("The Llama 3 Herd of Models", section
3.2.1). What the paper does not say is how sure that is: here the residuals of all curves are drawn anew, and everything
is fitted again. Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from herdsman.cluster import laws
from herdsman.errors import InputError
from herdsman.scaling.curve import Curve, Estimate, Point, Values, design, isoflop_curves, parabolas

LEAST_FOR_FLOOR = 4  # budgets without which a floor of the loss cannot be told from its slope
RESAMPLES = 1000
LEVEL = 0.95
LOSS_EXPONENTS = np.geomspace(0.004, 1.0, 240)


@dataclass(frozen=True)
class PowerLaw:
    """coefficient * x ** exponent."""

    coefficient: float
    exponent: float

    def __call__(self, x: float) -> float:
        return float(self.coefficient * x**self.exponent)


LLAMA3 = PowerLaw(laws.LLAMA3.coefficient, laws.LLAMA3.exponent)
"""Optimal training tokens of FLOPs as published: the legend of figure 3. The text's rounded 0.29 and 0.53 give 10.5T
tokens for 3.8e25 FLOPs, the legend's 16.3T; the paper prints 16.55T."""


@dataclass(frozen=True)
class LossLaw:
    """Lowest loss of a budget: floor + scale * (flops / middle) ** -exponent."""

    floor: float
    scale: float
    exponent: float
    middle: float

    def __call__(self, flops: float) -> float:
        return float(self.floor + self.scale * (flops / self.middle) ** -self.exponent)


class Fit:
    """A scaling law with its intervals.

    Attributes:
        curves: of all budgets, also of those that are not used.
        law: optimal training tokens of FLOPs.
        loss_law: held-out loss at the optimum, of FLOPs. Without budgets enough to tell a floor it has none, and
            bends too little when extrapolated far.
        exponent, coefficient: of the law. The coefficient is its value at 1 FLOP, far from all runs, and so unsure.
        noise: of a single run's loss, as a standard deviation, from the parabolas' residuals.
        excess: by how much the minima scatter more around the law than the runs' noise explains; intervals are
            widened by it.
    """

    def __init__(
        self,
        curves: Sequence[Curve],
        flops: Values,
        best: Values,
        lowest: Values,
        noise: float,
        excess: float,
    ):
        # Row 0 of `best` (ln tokens) and `lowest` is the estimate, the others are drawn; [1 + draws, budgets].
        self.curves, self.noise, self.excess = tuple(curves), noise, excess
        self.middle = float(np.exp(np.log(flops).mean()))
        x = np.log(flops / self.middle)
        self._exponents, self._logs = _line(x, best)
        self._losses = _loss_laws(flops / self.middle, lowest)
        exponent = float(self._exponents[0])
        self.law = PowerLaw(float(np.exp(self._logs[0] - exponent * np.log(self.middle))), exponent)
        floor, scale, slope = (float(part[0]) for part in self._losses)
        self.loss_law = LossLaw(floor, scale, slope, self.middle)
        self.exponent = _estimate(self._exponents)
        # Two budgets that lie close say so little of the exponent that the coefficient may leave what numbers can hold.
        self.coefficient = _estimate(np.exp(np.clip(self._logs - self._exponents * np.log(self.middle), -700, 700)))

    def tokens(self, flops: float) -> Estimate:
        """Compute-optimal training tokens."""
        return _estimate(np.exp(self._logs + self._exponents * np.log(flops / self.middle)))

    def parameters(self, flops: float) -> Estimate:
        """Compute-optimal parameters, as flops / (6 tokens): so many where attention and embeddings weigh little."""
        tokens = self.tokens(flops)
        return Estimate(*(flops / (6 * part) for part in (tokens.value, tokens.high, tokens.low)))

    def loss(self, flops: float) -> Estimate:
        """Held-out loss of the compute-optimal model, nats a token."""
        floor, scale, exponent = self._losses
        return _estimate(floor + scale * (flops / self.middle) ** -exponent)

    def as_json(self) -> dict[str, Any]:
        return {
            "tokens": {
                **asdict(self.law),
                "low_exponent": self.exponent.low,
                "high_exponent": self.exponent.high,
                "low_coefficient": self.coefficient.low,
                "high_coefficient": self.coefficient.high,
            },
            "loss": asdict(self.loss_law),
            "noise": self.noise,
            "excess": self.excess,
            "curves": [curve.as_json() for curve in self.curves],
        }


def fit_isoflop(points: Sequence[Point], seed: int = 1, resamples: int = RESAMPLES) -> Fit:
    """Fits parabolas, the power law of their minima and the law of the lowest losses, with 95% intervals.

    Intervals come from a bootstrap of residuals. The runs of a budget are few and at chosen sizes, so runs are not
    drawn; the residuals of all parabolas are, each brought to the noise's size by what the fit has taken of it
    (its leverage), and added to the parabolas. If minima scatter around the law by more than that explains (a learning
    rate that suits some budgets better, data that begins to repeat), all intervals are widened by the ratio.

    Raises:
        InputError: fewer than two budgets have a minimum among their runs.
    """
    budgets = isoflop_curves(points)
    used = [curve for curve in budgets if not curve.problem]
    if len(used) < 2:
        told = "; ".join(f"{curve.flops:.3g} FLOPs: {curve.problem}" for curve in budgets if curve.problem)
        raise InputError(
            f"a law needs two budgets with a minimum among their runs, here {len(used)} of {len(budgets)} have one"
            + (f" ({told})" if told else ""),
            do="run smaller and larger models at these budgets",
        )
    residuals, fitted = [], []
    for curve in used:
        losses = np.array([point.loss for point in curve.points])
        hat = design(curve) @ np.linalg.pinv(design(curve))
        fitted.append(hat @ losses)
        residuals.append((losses - fitted[-1]) / np.sqrt(1 - np.diag(hat)))
    pool = np.concatenate(residuals)
    noise = float(np.sqrt(np.mean(pool**2)))
    generator = np.random.default_rng(seed)
    sizes = _unsure_scale(generator, len(pool) - 3 * len(used), resamples)
    best, lowest = [], []
    for curve, losses in zip(used, fitted, strict=True):
        drawn = losses + sizes[:, None] * generator.choice(pool - pool.mean(), (resamples, len(losses)))
        _, ln_tokens, loss = parabolas(curve, np.vstack([[point.loss for point in curve.points], drawn]))
        best.append(ln_tokens)
        lowest.append(loss)
    flops = np.array([curve.flops for curve in used])
    best_all, lowest_all = np.stack(best, axis=1), np.stack(lowest, axis=1)
    # A draw without a minimum says nothing of where it lies.
    whole = np.isfinite(best_all).all(axis=1)
    best_all, lowest_all = best_all[whole], lowest_all[whole]
    best_all, excess = _widened(flops, best_all, generator)
    sure = {curve.flops: _estimate(np.exp(best_all[:, column])) for column, curve in enumerate(used)}
    told_curves = [replace(curve, tokens=sure.get(curve.flops)) for curve in budgets]
    return Fit(told_curves, flops, best_all, lowest_all, noise, excess)


def _line(x: Values, y: Values) -> tuple[Values, Values]:
    """Slopes and values at x = 0 of least-squares lines through y [draws, budgets]; the mean of x must be 0."""
    return y @ x / (x @ x), y.mean(axis=1)


def _unsure_scale(generator: np.random.Generator, freedom: int, draws: int) -> Values:
    """Factors by which a standard deviation estimated with so many degrees of freedom may be wrong, one a draw: they
    give the draws the tails of Student's distribution."""
    return np.sqrt(freedom / generator.chisquare(freedom, draws))


def _widened(flops: Values, best: Values, generator: np.random.Generator) -> tuple[Values, float]:
    """The draws, and 1; if the minima scatter around the law more than 95% of the draws do, the draws spread so far
    about the estimate that they explain it, and that ratio."""
    freedom = len(flops) - 2
    if freedom < 1:
        return best, 1.0
    x = np.log(flops) - np.log(flops).mean()

    def scatter(y: Values) -> Values:
        slopes, middles = _line(x, y)
        return ((y - middles[:, None] - slopes[:, None] * x) ** 2).sum(axis=1)

    found, drawn = scatter(best[:1])[0], scatter(best[1:] - best[0])
    if found <= np.quantile(drawn, LEVEL):
        return best, 1.0
    excess = float(np.sqrt(found / drawn.mean()))
    factors = excess * _unsure_scale(generator, freedom, len(best) - 1)
    return np.vstack([best[:1], best[0] + factors[:, None] * (best[1:] - best[0])]), excess


def _loss_laws(flops: Values, losses: Values) -> tuple[Values, Values, Values]:
    """floor + scale * flops ** -exponent through losses [draws, budgets] by least squares: floors, scales, exponents.

    For each exponent of a grid the rest is linear. A floor below 0 is taken for 0.
    """
    powers = flops[None] ** -LOSS_EXPONENTS[:, None]
    alone = losses @ (powers / (powers**2).sum(axis=1, keepdims=True)).T
    scales, floors = alone, np.zeros_like(alone)
    if len(flops) >= LEAST_FOR_FLOOR:
        centred = powers - powers.mean(axis=1, keepdims=True)
        slopes = losses @ (centred / (centred**2).sum(axis=1, keepdims=True)).T
        heights = losses.mean(axis=1, keepdims=True) - slopes * powers.mean(axis=1)
        scales, floors = np.where(heights > 0, slopes, alone), np.maximum(heights, 0)
    # |floor + scale * power - loss|^2, multiplied out so that no array of draws by exponents by budgets is made.
    errors = (
        len(flops) * floors**2
        + scales**2 * (powers**2).sum(axis=1)
        + 2 * floors * scales * powers.sum(axis=1)
        - 2 * floors * losses.sum(axis=1, keepdims=True)
        - 2 * scales * (losses @ powers.T)
    )
    chosen = errors.argmin(axis=1)
    rows = np.arange(len(losses))
    return floors[rows, chosen], scales[rows, chosen], LOSS_EXPONENTS[chosen]


def _estimate(draws: Values) -> Estimate:
    """The first value, with the percentiles of the others."""
    low, high = np.quantile(draws[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(draws[0]), float(low), float(high))
