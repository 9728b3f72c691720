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
from herdsman.scaling.curve import Estimate

RESAMPLES, SEED = 1_000, 0
FLOORS = np.linspace(0.0, 0.95, 20)  # c_i, as a share of the lowest loss that was seen
LEVEL = 0.95
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MixPoint:
    """One run.

    Attributes:
        shares: of the parts of its mix: parts that sum to 1, and any others that overlap with them (topics).
        flops: of its training.
        losses: held-out loss of each category, in bits per byte.
    """

    shares: Mapping[str, float]
    flops: float
    losses: Mapping[str, float]


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

    def predict(self, shares: Mapping[str, float], flops: float) -> dict[str, Estimate]:
        """Loss of each category, with an interval of the law's own uncertainty."""
        found = self.losses(shares, flops)
        return {name: _interval(found[:, number]) for number, name in enumerate(self.categories)}

    def change(
        self, base: Mapping[str, float], shares: Mapping[str, float], weights: Mapping[str, float], flops: float
    ) -> Estimate:
        """By how much the weighted loss would be higher with another mix than with `base`."""
        return _interval((self.losses(shares, flops) - self.losses(base, flops)) @ self._weights(weights))

    def weighted(self, shares: Floats, weights: Mapping[str, float], flops: float) -> Floats:
        """Predicted weighted loss of many mixes, given by the shares of their parts [mixes, parts]: [mixes]."""
        reducible = np.exp(shares @ self.effects[0].T) * (flops / self.unit_flops) ** -self.exponents[0]
        found: Floats = (self.floors[0] + reducible) @ self._weights(weights)
        return found

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


def _interval(values: Floats) -> Estimate:
    low, high = np.quantile(values[1:], [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(values[0]), float(low), float(high))
