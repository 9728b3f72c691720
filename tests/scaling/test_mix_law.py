"""The law of a mix: predictions at scale, the better mix found, intervals that hold what they say."""

from __future__ import annotations

import numpy as np
import pytest

from herdsman.errors import InputError
from herdsman.scaling.mix_law import MixLaw, MixPoint

PARTS = ("general", "reasoning", "code", "multilingual")
BASE = np.array([0.50, 0.25, 0.17, 0.08])
EFFECTS = np.array([[-0.6, -0.3, -0.1, -0.1], [-0.3, -1.2, -0.4, 0], [-0.1, -0.3, -1.5, 0], [-0.2, 0, 0, -2.5]])
FLOORS, SCALES = np.array([0.8, 0.6, 0.4, 0.7]), np.array([0.9, 0.8, 0.7, 1.2])
EXPONENTS = np.array([0.12, 0.10, 0.15, 0.10])
BUDGETS, LARGE = (1e15, 4e15), 3.2e16
EVENLY = dict.fromkeys(PARTS, 1.0)


def truth(mix: np.ndarray, flops: float) -> np.ndarray:
    return FLOORS + SCALES * np.exp(EFFECTS @ mix) * (flops / 1e15) ** -EXPONENTS


def named(values: np.ndarray) -> dict[str, float]:
    return dict(zip(PARTS, values.tolist(), strict=True))


def design() -> list[np.ndarray]:
    """The base, and each part doubled and halved."""
    turned = [BASE * np.where(np.arange(4) == part, factor, 1) for part in range(4) for factor in (2, 0.5)]
    return [BASE, *(mix / mix.sum() for mix in turned)]


def runs(draw: np.random.Generator, noise: float) -> list[MixPoint]:
    return [
        MixPoint(named(mix), flops, named(truth(mix, flops) + noise * draw.standard_normal(4)))
        for mix in design()
        for flops in BUDGETS
    ]


def test_predicts_a_larger_model_on_a_new_mix() -> None:
    law = MixLaw.fit(runs(np.random.default_rng(0), 0.0), resamples=10)
    mix = np.array([0.35, 0.33, 0.2, 0.12])
    found = law.predict(named(mix), LARGE)
    assert [found[part].value for part in PARTS] == pytest.approx(truth(mix, LARGE).tolist(), rel=0.01)


def test_intervals_hold_the_truth_and_the_better_mix_is_found() -> None:
    draw = np.random.default_rng(1)
    mixes = draw.dirichlet([3] * 4, 20_000)
    mixes = mixes[((mixes >= BASE / 2) & (mixes <= BASE * 2)).all(1)]
    weighted = np.array([truth(mix, LARGE).mean() for mix in mixes])
    most = truth(BASE, LARGE).mean() - weighted.min()
    losses_held, changes_held, share_of_gain = 0, 0, []
    for trial in range(100):
        law = MixLaw.fit(runs(draw, 0.004), resamples=300, seed=trial)
        found = law.predict(named(BASE), LARGE)
        losses_held += sum(
            found[part].low <= value <= found[part].high for part, value in named(truth(BASE, LARGE)).items()
        )
        best = mixes[law.weighted(mixes, EVENLY, LARGE).argmin()]
        change = law.change(named(BASE), named(best), EVENLY, LARGE)
        real = truth(best, LARGE).mean() - truth(BASE, LARGE).mean()
        changes_held += change.low <= real <= change.high
        share_of_gain.append(-real / most)
    assert 0.88 <= losses_held / 400 <= 0.98
    assert 86 <= changes_held <= 99
    assert min(share_of_gain) > 0.8


def test_shares_that_overlap_with_the_categories_are_allowed() -> None:
    """A topic's share of all tokens is one more number of the mix."""
    draw = np.random.default_rng(0)
    points = []
    for topic in (0.05, 0.1, 0.2):
        for mix in design():
            losses = truth(mix, 1e15) * np.exp(np.array([0.5, 0, 0, 0]) * topic) + 1e-4 * draw.standard_normal(4)
            points.append(MixPoint({**named(mix), "sport": topic}, 1e15, named(losses)))
    law = MixLaw.fit(points, resamples=100)
    base = {**named(BASE), "sport": 0.2}
    change = law.change(base, {**base, "sport": 0.05}, {"general": 1.0}, 1e15)
    assert change.value == pytest.approx(truth(BASE, 1e15)[0] * (np.exp(0.025) - np.exp(0.1)), rel=0.05)
    assert change.high < 0


def test_too_few_or_too_similar_runs_are_refused() -> None:
    points = runs(np.random.default_rng(0), 0.0)
    with pytest.raises(InputError, match="do not tell the 6 constants"):
        MixLaw.fit(points[:6])
    with pytest.raises(InputError, match="18 runs"):
        MixLaw.fit([points[0], points[1]] * 9)
