"""Scaling laws: the published constants, laws found again in synthetic runs, and intervals that hold what they say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from herdsman.errors import InputError
from herdsman.scaling.curve import Point, isoflop_curve
from herdsman.scaling.law import LLAMA3, Fit, PowerLaw, fit_isoflop
from herdsman.scaling.options import PUBLISHED_BUDGETS

SMALL_BUDGETS = [1e12, 2e12, 4e12, 8e12, 16e12]
NOISE = 0.002  # nats between seeds of one run, as runs of 40M parameters and more show, or more


@dataclass(frozen=True)
class Surface:
    """loss = 1.7 + P / N^p + Q / D^q (Hoffmann et al. 2022), whose optimum is the published law exactly."""

    p: float = 0.34
    scale: float = 410.0

    def loss(self, flops: float, tokens: float) -> float:
        alpha, a = LLAMA3.exponent, LLAMA3.coefficient
        q = self.p * (1 - alpha) / alpha
        data = a ** (self.p + q) * self.scale * self.p * 6**self.p / q
        return 1.7 + self.scale / (flops / 6 / tokens) ** self.p + data / tokens**q


def valley(flops: float, tokens: float, optimum: float) -> float:
    """Exact parabolas whose lowest losses follow a power law with a floor."""
    return 1.8 + 0.9 * (flops / 1e19) ** -0.08 + 0.05 * float(np.log(tokens / optimum)) ** 2


def sweep(
    generator: np.random.Generator, budgets: list[float], sizes: int, noise: float = NOISE, scatter: float = 0.0
) -> list[Point]:
    """A sweep over valleys, with a grid that is a little off the optimum, as real ones are."""
    points = []
    for flops in budgets:
        optimum = LLAMA3(flops) * float(np.exp(generator.normal(0, scatter)))
        middle = LLAMA3(flops) * float(np.exp(generator.normal(0, 0.2)))
        for tokens in middle * 4 ** np.linspace(-1, 1, sizes):
            loss = valley(flops, tokens, optimum) + generator.normal(0, noise)
            points.append(Point(flops, flops / 6 / tokens, float(tokens), loss))
    return points


def test_published_constants() -> None:
    """Figure 3's legend gives the 16.55T tokens that the paper prints for 3.8e25 FLOPs, to 2%; the text's rounded pair
    gives 10.5T, and the paper's 402B parameters are not what 6 N D leaves."""
    assert LLAMA3(3.8e25) == pytest.approx(16.3e12, rel=0.02)
    assert LLAMA3(3.8e25) == pytest.approx(16.55e12, rel=0.02)
    assert PowerLaw(0.29, 0.53)(3.8e25) == pytest.approx(10.46e12, rel=0.01)
    assert 3.8e25 / (6 * LLAMA3(3.8e25)) == pytest.approx(389e9, rel=0.01)


def test_without_noise_everything_is_found_exactly() -> None:
    fit = fit_isoflop(sweep(np.random.default_rng(0), PUBLISHED_BUDGETS, 6, noise=0.0))
    assert fit.law.exponent == pytest.approx(LLAMA3.exponent, rel=1e-9)
    assert fit.law.coefficient == pytest.approx(LLAMA3.coefficient, rel=1e-6)
    assert fit.tokens(3.8e25).value == pytest.approx(LLAMA3(3.8e25), rel=1e-6)
    assert fit.loss(3.8e25).value == pytest.approx(valley(3.8e25, 1, 1), rel=2e-3)
    assert fit.loss_law.floor == pytest.approx(1.8, rel=2e-2)
    assert [curve.lowest_loss for curve in fit.curves] == pytest.approx([valley(b, 1, 1) for b in PUBLISHED_BUDGETS])
    assert [curve.best_parameters for curve in fit.curves] == pytest.approx(
        [flops / 6 / LLAMA3(flops) for flops in PUBLISHED_BUDGETS]
    )


def test_constants_are_recovered_from_a_realistic_surface() -> None:
    """Within 3% of the published: the exponent and the optima of every budget in single sweeps of the published size.

    The coefficient, the value at 1 FLOP, is 18 powers of ten below all runs: an exponent that is off by 0.3% moves it
    by 7%. It is right in the middle of many sweeps.
    """
    surface, generator, coefficients = Surface(), np.random.default_rng(5), []
    for number in range(40):
        points = [
            Point(flops, flops / 6 / tokens, tokens, surface.loss(flops, tokens) + generator.normal(0, 0.001))
            for flops in PUBLISHED_BUDGETS
            for tokens in map(float, LLAMA3(flops) * 4 ** np.linspace(-1, 1, 8))
        ]
        fit = fit_isoflop(points, resamples=200 if number == 0 else 2)
        assert fit.law.exponent == pytest.approx(LLAMA3.exponent, rel=0.03)
        assert all(fit.law(flops) == pytest.approx(LLAMA3(flops), rel=0.03) for flops in PUBLISHED_BUDGETS)
        assert fit.loss(1e23).value == pytest.approx(surface.loss(1e23, LLAMA3(1e23)), rel=0.003)
        coefficients.append(fit.law.coefficient)
    assert np.median(coefficients) == pytest.approx(LLAMA3.coefficient, rel=0.03)


def held(fit: Fit, flops: float) -> list[bool]:
    """Whether each interval holds the truth: exponent, coefficient, tokens and loss far beyond the runs."""
    found = (fit.exponent, fit.coefficient, fit.tokens(flops), fit.loss(flops))
    truths = (LLAMA3.exponent, LLAMA3.coefficient, LLAMA3(flops), valley(flops, 1, 1))
    return [one.low <= truth <= one.high for one, truth in zip(found, truths, strict=True)]


@pytest.mark.parametrize(
    ("budgets", "sizes", "scatter"),
    [
        pytest.param(PUBLISHED_BUDGETS, 7, 0.0, id="published"),
        pytest.param(SMALL_BUDGETS, 5, 0.0, id="small"),
        pytest.param(SMALL_BUDGETS, 5, 0.1, id="minima-scatter"),
    ],
)
def test_intervals_hold_the_truth_as_often_as_they_say(budgets: list[float], sizes: int, scatter: float) -> None:
    """95% of 200 simulated sweeps, give or take: between 90 and 98%. Also where minima scatter more than runs' noise
    explains, as when a learning rate suits some budgets better than others."""
    generator = np.random.default_rng(11)
    fits = [
        fit_isoflop(sweep(generator, budgets, sizes, scatter=scatter), seed=number, resamples=400)
        for number in range(200)
    ]
    exponent, coefficient, tokens, loss = np.mean([held(fit, 10 * budgets[-1]) for fit in fits], axis=0)
    for share in (exponent, coefficient, tokens):
        assert 0.90 <= share <= 0.98
    assert loss >= 0.90 or scatter  # the loss's law does not know of minima that scatter


def test_the_noise_of_runs_is_told() -> None:
    fit = fit_isoflop(sweep(np.random.default_rng(3), PUBLISHED_BUDGETS, 9))
    assert fit.noise == pytest.approx(NOISE, rel=0.2)
    assert fit.excess == 1
    assert fit_isoflop(sweep(np.random.default_rng(3), PUBLISHED_BUDGETS, 9, scatter=0.2)).excess > 3


def test_the_same_points_give_the_same_intervals_in_any_order() -> None:
    points = sweep(np.random.default_rng(4), SMALL_BUDGETS, 5)
    assert fit_isoflop(points).as_json() == fit_isoflop(points[::-1]).as_json()


def test_a_minimum_outside_is_not_used_and_told() -> None:
    points = sweep(np.random.default_rng(6), SMALL_BUDGETS, 6)
    first = [point for point in points if point.flops != SMALL_BUDGETS[0]]
    beyond = [
        Point(1e12, 1e12 / 6 / tokens, tokens, valley(1e12, tokens, LLAMA3(1e12)))
        for tokens in map(float, LLAMA3(1e12) * np.geomspace(2, 8, 5))
    ]
    fit, without = fit_isoflop([*first, *beyond]), fit_isoflop(first)
    assert fit.curves[0].problem == f"the minimum lies below {beyond[0].tokens:.3g} tokens: larger models are missing"
    assert fit.curves[0].tokens is None
    assert fit.law == without.law
    assert isoflop_curve(beyond).side == -1
    assert isoflop_curve([Point(p.flops, p.parameters, 1e11 / p.tokens, p.loss) for p in beyond]).side == 1


def test_losses_without_a_minimum_show_the_side_to_extend() -> None:
    falling = [
        Point(1e12, 1e12 / 6 / tokens, tokens, 9 - 0.1 * float(np.log(tokens)) ** 2) for tokens in (1e5, 2e5, 4e5, 8e5)
    ]
    curve = isoflop_curve(falling)
    assert curve.problem == "the losses have no minimum"
    assert curve.side == 1


def test_too_few_budgets_and_sizes_are_refused() -> None:
    points = sweep(np.random.default_rng(7), SMALL_BUDGETS[:2], 4)
    assert fit_isoflop(points).excess == 1
    with pytest.raises(InputError, match=r"1 of 2 have one \(1e\+12 FLOPs: it has 3 sizes, a parabola needs 4\)"):
        fit_isoflop(points[1:])
    with pytest.raises(InputError, match="needs two budgets"):
        fit_isoflop(points[:4])
