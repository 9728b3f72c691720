"""Forecasts from points alone: constants recovered, intervals that hold what they say, tables that cannot be used."""

from __future__ import annotations

import json

import numpy as np
import pytest

from herdsman.errors import InputError
from herdsman.scaling.forecast import Forecast, backtest, forecast, make_record
from herdsman.scaling.paired import student_quantile
from herdsman.scaling.scores import Score

QUESTIONS, CHANCE = 1172, 0.25  # ARC Challenge
LLAMA_405B_FLOPS = 3.8e25


def sigmoid(nats: float, midpoint: float, width: float, ceiling: float = 1.0) -> float:
    return CHANCE + (ceiling - CHANCE) / (1 + float(np.exp((nats - midpoint) / width)))


def simulated(
    draw: np.random.Generator, flops: list[float], others: list[float], noise: float = 0.004, exact: bool = False
) -> list[Score]:
    """On the axes of the paper's figure 4: 1.40 nats a character at 1e20 FLOPs, falling to 1.20 at 1e25, and accuracies
    from 0.3 up. The last of `others` is one that is to be forecast."""
    found = []
    for number, spent in enumerate([*flops, *others]):
        nats = 1.40 - 0.04 * (np.log10(spent) - 20) + noise * draw.standard_normal()
        share = sigmoid(nats, 1.27, 0.03, 0.97)
        share = share if exact else draw.binomial(QUESTIONS, share) / QUESTIONS
        found.append(Score("arc", f"m{number}", spent, nats, share, QUESTIONS, CHANCE, number < len(flops)))
    return found


BUDGETS = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21, 1e22]  # section 3.2.1
LLAMA_2 = [8.4e22, 1.6e23, 8.4e23]  # 6 N D of 7B, 13B and 70B on 2T tokens


def test_recovers_the_constants_of_exact_points() -> None:
    scores = simulated(np.random.default_rng(0), BUDGETS, LLAMA_2, noise=0, exact=True)
    found = forecast(scores, LLAMA_405B_FLOPS)
    assert found.slope == pytest.approx(-0.04, rel=1e-6)
    assert found.intercept == pytest.approx(1.40 + 0.04 * 20, rel=1e-6)
    assert found.sigmoid is not None
    assert found.accuracy is not None
    assert found.sigmoid.midpoint == pytest.approx(1.27, abs=0.004)
    assert found.sigmoid.width == pytest.approx(0.03, rel=0.1)
    assert found.accuracy.value == pytest.approx(sigmoid(found.nats_per_character.value, 1.27, 0.03, 0.97), abs=0.03)


def test_the_line_has_the_textbook_prediction_interval() -> None:
    scores = simulated(np.random.default_rng(3), BUDGETS, [])
    x, y = np.log10(BUDGETS), np.array([score.nats_per_character for score in scores])
    at = np.log10(LLAMA_405B_FLOPS)
    slope, intercept = np.polyfit(x, y, 1)
    variance = ((y - intercept - slope * x) ** 2).sum() / (len(x) - 2)
    spread = np.sqrt(variance * (1 + 1 / len(x) + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()))
    margin = student_quantile(0.975, len(x) - 2) * spread
    found = forecast(scores, LLAMA_405B_FLOPS).nats_per_character
    assert found.value == pytest.approx(intercept + slope * at)
    assert (found.high - found.low) / 2 == pytest.approx(margin, rel=0.1)  # drawn 4,000 times


def test_intervals_of_95_percent_hold_what_they_forecast() -> None:
    """Four orders of magnitude beyond the scaling-law runs, as published: ARC Challenge of 405B from runs to 1e22."""
    draw = np.random.default_rng(1)
    held, widths = {"nats": 0, "accuracy": 0}, []
    for trial in range(200):
        *known, truth = simulated(draw, BUDGETS, [*LLAMA_2, LLAMA_405B_FLOPS])
        found = forecast(known, LLAMA_405B_FLOPS, seed=trial)
        assert found.accuracy is not None
        assert truth.accuracy is not None
        held["nats"] += found.nats_per_character.low <= truth.nats_per_character <= found.nats_per_character.high
        held["accuracy"] += found.accuracy.low <= truth.accuracy <= found.accuracy.high
        widths.append(found.accuracy.high - found.accuracy.low)
    assert 180 <= held["nats"] <= 196
    assert 180 <= held["accuracy"] <= 200
    assert np.median(widths) < 0.15  # they say something


def test_models_at_chance_leave_the_accuracy_open() -> None:
    draw = np.random.default_rng(0)
    scores = [
        Score("arc", str(n), flops, 2.4 - 0.2 * n, draw.binomial(400, 0.25) / 400, 400, 0.25)
        for n, flops in enumerate((1e13, 3e13, 1e14, 3e14, 1e15))
    ]
    found = forecast(scores, 1e17)
    assert not found.rises
    assert found.accuracy is not None
    assert found.accuracy.low < 0.3
    assert found.accuracy.high > 0.8
    near = forecast(scores, 1.5e15)
    assert near.accuracy is not None
    assert near.accuracy.high < 0.5  # but next to the models it cannot be much


def test_scatter_beyond_the_binomial_widens_the_interval() -> None:
    draw = np.random.default_rng(2)
    clean = simulated(draw, BUDGETS, LLAMA_2, noise=0, exact=True)
    rough = [
        Score(**{**vars(score), "accuracy": min(1.0, (score.accuracy or 0) + 0.06 * (-1) ** n)})
        for n, score in enumerate(clean)
    ]
    one, other = (forecast(scores, 3e23).accuracy for scores in (clean, rough))
    assert one is not None
    assert other is not None
    assert other.high - other.low > 1.5 * (one.high - one.low)


def test_the_largest_model_is_forecast_from_smaller_ones() -> None:
    scores = simulated(np.random.default_rng(0), BUDGETS, LLAMA_2)
    tried = backtest(scores)
    assert tried is not None
    last, found = tried
    assert last is scores[9]  # the largest compute-optimal one
    assert found == forecast(scores[:9], last.flops)
    assert backtest(scores[:4]) is None
    beside = Score(**{**vars(last), "flops": 1.01 * last.flops, "optimal": False})
    assert backtest([*scores, beside]) == tried  # others of its budget are no help


def test_too_few_points_are_refused() -> None:
    scores = simulated(np.random.default_rng(0), BUDGETS[:3], LLAMA_2)
    with pytest.raises(InputError, match="3 compute-optimal models"):
        forecast(scores, 1e25)


def test_without_accuracies_only_the_likelihood_is_forecast() -> None:
    scores = [Score("b", str(n), 10.0**n, 3 - 0.1 * n, None, 0, 0) for n in range(14, 20)]
    found = forecast(scores, 1e22)
    assert found.accuracy is None
    assert found.nats_per_character.value == pytest.approx(0.8)


def test_a_record_says_when_and_on_what() -> None:
    scores = simulated(np.random.default_rng(0), BUDGETS, LLAMA_2)
    record = json.loads(json.dumps(make_record(scores, LLAMA_405B_FLOPS, before_run=True)))
    assert record["before_run"]
    assert record["made_at"].endswith("+00:00")
    assert [Score(**row) for row in record["fitted_on"]] == scores
    assert record["forecasts"][0]["benchmark"] == "arc"
    assert set(record["forecasts"][0]) == {*Forecast.__dataclass_fields__, "backtest"}
