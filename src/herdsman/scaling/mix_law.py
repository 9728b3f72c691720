"""What a mix of data gives: held-out loss of each category by the shares of the mix and the compute of a run.

    L_i(r, C) = c_i + exp(sum_j t_ij r_j) * C^(-a_i)

In the shares r it is the law of "Data Mixing Laws" (Ye et al. 2024, section 3): reducible loss falls exponentially with
the share of each part of the mix that helps. In compute it is the usual power law, by which runs of several budgets say
what a larger model would lose (paper, section 3.1.2: small models predict a large one on the same mix). The two are
taken to multiply: what a mix does to the reducible loss, it does at every size.

For a given c_i the rest is linear in the logarithm of the reducible loss, so a fit is least squares over a grid of c_i,
and a thousand bootstrap fits are one matrix product each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from herdsman.errors import InputError

RESAMPLES, SEED = 1_000, 0
FLOORS = np.linspace(0.0, 0.95, 20)  # c_i, as a share of the lowest loss that was seen
LEVEL = 0.95
STEPS, TOLERANCE = 2_000, 1e-7
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MixPoint:
    """One run: the share of each part of its mix (they sum to 1), its training FLOPs, and the held-out loss of each
    category, in bits per byte."""

    shares: Mapping[str, float]
    flops: float
    losses: Mapping[str, float]


@dataclass(frozen=True)
class Prediction:
    """A predicted loss or difference of losses, with its 95% interval."""

    value: float
    low: float
    high: float


class MixLaw:
    """The law fitted to runs. `MixLaw.fit(points)` makes one.

    Attributes:
        parts: of the mix.
        categories: of the held-out documents.
        floors: c, [fits, categories]; the first fit is that of the points, the others are of resampled ones.
        effects: t, [fits, categories, parts].
        exponents: a, [fits, categories].
    """

    def __init__(
        self,
        parts: Sequence[str],
        categories: Sequence[str],
        unit_flops: float,
        floors: Floats,
        effects: Floats,
        exponents: Floats,
    ):
        self.parts, self.categories, self.unit_flops = tuple(parts), tuple(categories), unit_flops
        self.floors, self.effects, self.exponents = floors, effects, exponents

    @classmethod
    def fit(cls, points: Sequence[MixPoint], resamples: int = RESAMPLES, seed: int = SEED) -> MixLaw:
        """
        Raises:
            InputError: fewer runs than the law has constants, and one to tell how far they are off.
        """
        parts, categories = list(points[0].shares), list(points[0].losses)
        shares = np.array([[point.shares[part] for part in parts] for point in points])
        flops = np.array([point.flops for point in points])
        unit = float(np.exp(np.log(flops).mean()))
        several = np.ptp(np.log(flops)) > 1e-9
        design = np.column_stack([shares, *([-np.log(flops / unit)] if several else [])])
        constants = design.shape[1] + 1
        if len(points) <= constants or np.linalg.matrix_rank(design) < design.shape[1]:
            raise InputError(
                f"{len(points)} runs do not tell the {constants} constants of a mix of {len(parts)} parts",
                where="mix",
                do="train more mixes, or more different ones",
            )
        rows = np.random.default_rng(seed).integers(0, len(points), (len(points), resamples))
        fits = []
        for category in categories:
            losses = np.array([point.losses[category] for point in points])
            floor, found, fitted = _fit(design, losses[:, None], losses)
            # Residuals of a fit are smaller than the errors: by the constants it has chosen to suit them.
            errors = (losses - fitted[:, 0]) * np.sqrt(len(points) / (len(points) - constants))
            # Whole runs are drawn, with the same rows for every category: their errors go together.
            drawn = fitted + errors[rows]
            again_floor, again, _ = _fit(design, drawn, losses)
            fits.append((np.append(floor, again_floor), np.concatenate([found, again], 1)))
        floors = np.stack([floor for floor, _ in fits], 1)
        constants_of = np.stack([found.T for _, found in fits], 1)
        exponents = constants_of[..., -1] if several else np.zeros_like(floors)
        return cls(parts, categories, unit, floors, constants_of[..., : len(parts)], exponents)

    def losses(self, shares: Mapping[str, float], flops: float) -> Floats:
        """Predicted loss of each category by each fit: [fits, categories]."""
        mix = np.array([shares[part] for part in self.parts])
        return self.floors + np.exp(self.effects @ mix) * (flops / self.unit_flops) ** -self.exponents

    def predict(self, shares: Mapping[str, float], flops: float) -> dict[str, Prediction]:
        """Loss of each category, with an interval of the law's own uncertainty."""
        found = self.losses(shares, flops)
        return {name: _interval(found[:, number]) for number, name in enumerate(self.categories)}

    def gain(
        self, shares: Mapping[str, float], base: Mapping[str, float], weights: Mapping[str, float], flops: float
    ) -> Prediction:
        """By how much the weighted loss would be lower than with the mix `base`; below 0 if it would be higher."""
        return _interval((self.losses(base, flops) - self.losses(shares, flops)) @ self._weights(weights))

    def best(
        self,
        weights: Mapping[str, float],
        flops: float,
        low: Mapping[str, float],
        high: Mapping[str, float],
    ) -> dict[str, float]:
        """The mix of the lowest weighted loss whose shares lie between `low` and `high`.

        The weighted loss is a sum of exponentials of linear functions, and so convex: Frank-Wolfe steps towards the
        best corner (Frank and Wolfe 1956) come to its minimum. `low` must sum to at most 1, `high` to at least 1.
        """
        weight, scale = self._weights(weights), (flops / self.unit_flops) ** -self.exponents[0]
        least, most = (np.array([of[part] for part in self.parts]) for of in (low, high))

        def corner(cost: Floats) -> Floats:
            mix, left = least.copy(), 1 - least.sum()
            for part in np.argsort(cost, kind="stable"):
                more = min(left, most[part] - least[part])
                mix[part], left = mix[part] + more, left - more
            return mix

        mix = corner(np.zeros(len(self.parts)))
        for _ in range(STEPS):
            terms = weight * np.exp(self.effects[0] @ mix) * scale
            gradient = terms @ self.effects[0]
            towards = corner(gradient) - mix
            if -gradient @ towards < TOLERANCE:
                break
            along = self.effects[0] @ towards
            steps = np.linspace(0, 1, 101)
            mix = mix + steps[(np.exp(steps[:, None] * along) @ terms).argmin()] * towards
        return {part: float(share) for part, share in zip(self.parts, mix, strict=True)}

    def _weights(self, weights: Mapping[str, float]) -> Floats:
        found = np.array([weights.get(name, 0.0) for name in self.categories])
        return found / found.sum()


def _fit(design: Floats, losses: Floats, seen: Floats) -> tuple[Floats, Floats, Floats]:
    """Least squares for many columns of losses at once, each with its best floor.

    Args:
        design: [runs, constants].
        losses: [runs, columns].
        seen: [runs] the measured losses, which set the grid of floors and the weight of each run.

    Returns:
        floors [columns], constants [constants, columns], fitted losses [runs, columns].
    """
    columns = np.arange(losses.shape[1])
    floors, found, fitted, errors = [], [], [], []
    for floor in FLOORS * seen.min():
        reducible = np.maximum(losses - floor, 1e-6)
        weight = (seen - floor)[:, None]  # an error in the logarithm is that share of the reducible loss
        constants = np.linalg.pinv(weight * design) @ (weight * np.log(reducible))
        predicted = floor + np.exp(design @ constants)
        floors.append(floor)
        found.append(constants)
        fitted.append(predicted)
        errors.append(((losses - predicted) ** 2).sum(0))
    best = np.argmin(errors, 0)
    return (
        np.array(floors)[best],
        np.stack(found)[best, :, columns].T,
        np.stack(fitted)[best, :, columns].T,
    )


def _interval(values: Floats) -> Prediction:
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Prediction(float(values[0]), float(low), float(high))
