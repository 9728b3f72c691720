"""IsoFLOP curves: the runs of one budget, and the parabola through their losses.

Among runs of one compute budget, held-out loss over the logarithm of training tokens is a parabola; its minimum is the
compute-optimal number of tokens ("The Llama 3 Herd of Models", section 3.2.1). Needs numpy alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

SAME_BUDGET = 1.1  # runs whose FLOPs differ by less than this factor are of one budget: runs end with a whole step
LEAST_SIZES = 4  # three for a parabola, and one more that says how well it fits


@dataclass(frozen=True)
class Point:
    """One training run.

    Attributes:
        flops: spent on training.
        parameters: of the model; those that the run's FLOPs are reckoned by.
        tokens: trained on.
        loss: on held-out text, nats a token.
    """

    flops: float
    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Estimate:
    """A value with the ends of its 95% interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Curve:
    """The runs of one budget, and the parabola curvature * (ln tokens - ln best)^2 + lowest through them.

    Attributes:
        flops: geometric mean of the runs'.
        points: by tokens.
        best_tokens, best_parameters, lowest_loss: at the minimum; its parameters lie between those of the runs.
        tokens: the same minimum with its interval; None where the curve is not used.
        problem: why the curve is not used for the law; empty if it is.
    """

    flops: float
    points: tuple[Point, ...]
    curvature: float
    best_tokens: float
    best_parameters: float
    lowest_loss: float
    tokens: Estimate | None
    problem: str

    @property
    def side(self) -> int:
        """Where the runs must be extended to have the minimum among them: 1 to more tokens, -1 to fewer, 0 nowhere."""
        losses, tokens = [point.loss for point in self.points], [point.tokens for point in self.points]
        if not self.curvature > 0:
            return 1 if losses[-1] < losses[0] else -1
        return int(self.best_tokens > tokens[-1]) - int(self.best_tokens < tokens[0])

    def as_json(self) -> dict[str, Any]:
        """Without what could not be fitted, as null: JSON has no NaN."""
        return {name: None if value != value else value for name, value in asdict(self).items()}

    def __call__(self, tokens: float) -> float:
        return float(self.curvature * np.log(tokens / self.best_tokens) ** 2 + self.lowest_loss)


def isoflop_curves(points: Sequence[Point]) -> list[Curve]:
    """The curves of all budgets, from the smallest, without intervals."""
    groups: list[list[Point]] = []
    for point in sorted(points, key=lambda point: point.flops):
        if not groups or point.flops > SAME_BUDGET * groups[-1][0].flops:
            groups.append([])
        groups[-1].append(point)
    return [isoflop_curve(group) for group in groups]


def isoflop_curve(points: Sequence[Point]) -> Curve:
    """The parabola through runs of one budget, without an interval."""
    points = sorted(points, key=lambda point: point.tokens)
    flops = float(np.exp(np.mean([np.log(point.flops) for point in points])))
    tokens = [point.tokens for point in points]
    curve = Curve(flops, tuple(points), np.nan, np.nan, np.nan, np.nan, None, "")
    if len(set(tokens)) < LEAST_SIZES:
        return replace(curve, problem=f"it has {len(set(tokens))} sizes, a parabola needs {LEAST_SIZES}")
    curvatures, ln_best, lowest = parabolas(curve, np.array([[point.loss for point in points]]))
    curvature, best = float(curvatures[0]), float(np.exp(ln_best[0]))
    problem = ""
    if not curvature > 0:
        problem = "the losses have no minimum"
    elif best < tokens[0]:
        problem = f"the minimum lies below {tokens[0]:.3g} tokens: larger models are missing"
    elif best > tokens[-1]:
        problem = f"the minimum lies above {tokens[-1]:.3g} tokens: smaller models are missing"
    parameters = float(np.exp(np.interp(np.log(best), np.log(tokens), [np.log(p.parameters) for p in points])))
    return Curve(flops, tuple(points), curvature, best, parameters, float(lowest[0]), None, problem)


def design(curve: Curve) -> Values:
    """Squares, values and ones of the runs' centred ln tokens, [runs, 3]."""
    x = np.log([point.tokens for point in curve.points])
    x = x - x.mean()
    return np.stack([x**2, x, np.ones_like(x)], axis=1)


def parabolas(curve: Curve, losses: Values) -> tuple[Values, Values, Values]:
    """Curvature, ln tokens at the minimum (NaN where there is none) and loss there, of losses [draws, runs]."""
    a, b, c = np.linalg.pinv(design(curve)) @ losses.T
    middle = np.mean(np.log([point.tokens for point in curve.points]))
    with np.errstate(divide="ignore", invalid="ignore"):
        lowest = np.where(a > 0, -b / (2 * a), np.nan)
    return a, lowest + middle, c + b * lowest / 2
