"""The commands forecast, mix and probe: tables, results for programs, and mistakes in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from herdsman.scaling.forecast import forecast
from tests.conftest import Herdsman
from tests.scaling.test_forecast import BUDGETS, LLAMA_2, LLAMA_405B_FLOPS, simulated


def test_forecast_from_a_table(herdsman: Herdsman, tmp_path: Path) -> None:
    scores = simulated(np.random.default_rng(0), BUDGETS, LLAMA_2)
    table = tmp_path / "points.json"
    table.write_text(json.dumps([vars(score) for score in scores]))
    done = herdsman("forecast", "--points", table, "--flops", LLAMA_405B_FLOPS)
    assert done.returncode == 0, done.stderr
    found = forecast(scores, LLAMA_405B_FLOPS)
    assert found.accuracy is not None
    assert f"{found.accuracy.value:.3f} ({found.accuracy.low:.3f} to {found.accuracy.high:.3f})" in done.stdout
    told = json.loads(herdsman("forecast", "--points", table, "--flops", LLAMA_405B_FLOPS, "--json").stdout)
    assert told["forecasts"][0]["slope"] == found.slope


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("forecast",), "there is no recipe and no table"),
        (("forecast", "--points", "nowhere.csv"), "add --flops"),
        (("forecast", "--points", "nowhere.csv", "--flops", "1e20"), "nowhere.csv: cannot be read"),
        (("probe", "recipes/tiny.toml", "nowhere"), "nowhere: there is no such file or folder"),
        (("mix", "recipes/tiny.toml", "--set", "scaling.mix.factor=1"), "scaling.mix.factor: input should be greater"),
        (
            ("mix", "recipes/tiny.toml", "--set", "scaling.mix.weights={sports=1}"),
            "scaling.mix.weights: there is no category sports",
        ),
    ],
)
def test_mistakes_are_one_sentence(herdsman: Herdsman, arguments: tuple[str, ...], said: str) -> None:
    done = herdsman(*arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_forecast_without_a_sweep_says_what_to_do(herdsman: Herdsman, tmp_path: Path) -> None:
    done = herdsman("forecast", "recipes/tiny.toml", "--workspace", tmp_path / "herd")
    assert done.returncode == 1
    assert "run herdsman scale first" in done.stderr
