"""How far a measured number can be trusted: confidence intervals for scores and for bits per byte."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95
RESAMPLES = 2_000


class Interval(NamedTuple):
    """The ends of a two-sided confidence interval."""

    low: float
    high: float


def normal_margin(score: float, examples: int) -> float:
    """The paper's half-width of a 95% interval, 1.96 * sqrt(S * (1 - S) / N) (section 5.1.1).

    It is what published tables print after the "±". It claims certainty at scores of 0 and 1, however few the
    examples, and does not stop at 0 or 1; `wilson` has neither fault.

    Args:
        score: share of right answers S, from 0 to 1.
        examples: number of answers N.

    Raises:
        ValueError: no examples, or a score outside 0 to 1.
    """
    if examples < 1 or not 0 <= score <= 1:
        raise ValueError(f"a share of {examples} examples cannot be {score}")
    return 1.96 * math.sqrt(score * (1 - score) / examples)


def wilson(right: int, examples: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share (Wilson 1927), inside 0 to 1 and honest for few examples.

    Args:
        right: number of right answers.
        examples: number of answers.

    Raises:
        ValueError: no examples, or more right answers than examples.
    """
    if not 0 <= right <= examples or examples < 1:
        raise ValueError(f"{right} of {examples} is not a share")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = right / examples
    centre = share + z * z / (2 * examples)
    spread = z * math.sqrt(share * (1 - share) / examples + (z / (2 * examples)) ** 2)
    scale = 1 + z * z / examples
    low = 0.0 if right == 0 else (centre - spread) / scale
    high = 1.0 if right == examples else (centre + spread) / scale
    return Interval(low, high)


def bits_per_byte(nats: ArrayLike, sizes: ArrayLike) -> float:
    """Bits per byte of some documents taken together: all their surprise over all their bytes.

    Args:
        nats: [documents] summed negative log-likelihood of each document, natural logarithm.
        sizes: [documents] its length in bytes of UTF-8.
    """
    return float(np.sum(nats) / np.sum(sizes) / math.log(2))


def bits_per_byte_interval(
    nats: ArrayLike, sizes: ArrayLike, seed: int, level: float = LEVEL, resamples: int = RESAMPLES
) -> Interval:
    """Percentile bootstrap of `bits_per_byte`, by document: bytes of one document are not independent of each other.

    Args:
        nats, sizes: as for `bits_per_byte`.
        seed: of the resampling; the same seed gives the same interval.

    Raises:
        ValueError: no documents.
    """
    values, weights = np.asarray(nats, np.float64), np.asarray(sizes, np.float64)
    if len(values) == 0:
        raise ValueError("no documents to take an interval of")
    generator = np.random.default_rng(seed)
    ratios = np.empty(resamples)
    for start in range(0, resamples, 100):  # 100 at a time: memory stays small for any number of documents
        picks = generator.integers(0, len(values), (min(100, resamples - start), len(values)))
        ratios[start : start + len(picks)] = values[picks].sum(1) / weights[picks].sum(1)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2]) / math.log(2)
    return Interval(float(low), float(high))
