"""Two ways of training compared on the same documents or questions, over several seeds.

A difference has two sources of error: other seeds would give another one, and so would other documents. With x_sd the
difference that seed s makes on item d, of size b_d, the mean difference m is sum_sd x_sd / (S sum_d b_d), and

    variance(m) = variance of the seeds' m_s / S  +  variance of the items' sum of (mean_s x_sd - m b_d) / (sum_d b_d)^2

counts what seeds and items do together twice, so the interval is rather too wide than too narrow. Few seeds tell
little of their variance: the interval is Student's, with degrees of freedom after Satterthwaite (1946).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95


@dataclass(frozen=True)
class Change:
    """A mean difference with the ends of its 95% interval; `clear` if the interval does not hold 0."""

    value: float
    low: float
    high: float

    @property
    def clear(self) -> bool:
        return self.low > 0 or self.high < 0


def paired_change(before: ArrayLike, after: ArrayLike, sizes: ArrayLike | None = None) -> Change:
    """How much more `after` has than `before`, per unit of size.

    Args:
        before, after: [seeds, items], of the same items; at least 2 seeds and 2 items.
        sizes: [items] what the values are divided by; 1 each if left out.
    """
    differences = np.asarray(after, np.float64) - np.asarray(before, np.float64)
    seeds, items = differences.shape
    weights = np.ones(items) if sizes is None else np.asarray(sizes, np.float64)
    by_seed = differences.sum(1) / weights.sum()
    value = float(by_seed.mean())
    rest = (differences.mean(0) - value * weights) / weights.sum()
    parts = np.array([by_seed.var(ddof=1) / seeds, items / (items - 1) * float((rest**2).sum())])
    variance = parts.sum()
    if variance == 0:
        return Change(value, value, value)
    freedom = variance**2 / (parts**2 / np.array([seeds - 1, items - 1])).sum()
    margin = student_quantile((1 + LEVEL) / 2, float(freedom)) * float(np.sqrt(variance))
    return Change(value, value - margin, value + margin)


def student_quantile(share: float, freedom: float) -> float:
    """The quantile, above the median, of Student's t with any degrees of freedom from 1 on.

    With t = sqrt(freedom) tan(angle), the density of the angle is cos(angle)^(freedom - 1), summed here.
    """
    angles = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    below = 0.5 + 0.5 * np.concatenate([[0], np.cumsum((density[1:] + density[:-1]) / 2)]) / (
        (density[1:] + density[:-1]).sum() / 2
    )
    return float(np.sqrt(freedom) * np.tan(np.interp(share, below, angles)))
