"""The search for a mix: what it varies, and a whole search whose proposal is better and was predicted to be."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from herdsman.documents.mix_options import MixOptions
from herdsman.errors import InputError
from herdsman.files import read_json
from herdsman.progress import SILENT
from herdsman.release.report import write_report
from herdsman.scaling.mix import Dials, recipe_keys, search_mix
from herdsman.scaling.mix_law import MixLaw, MixPoint
from tests.scaling.herd import recipe, sweep, trainer

STREAMS = {
    "general.best": {"documents": 10, "bytes": 40_000},
    "general.rest": {"documents": 90, "bytes": 360_000},
    "general.sport.rest": {"documents": 100, "bytes": 400_000},
    "reasoning.rest": {"documents": 20, "bytes": 80_000},
    "code.rest": {"documents": 50, "bytes": 200_000},
}
MIX = MixOptions(topic_weights={"sport": 1.0}, max_epochs=100)


def test_parts_are_categories_and_weighted_topics() -> None:
    base = Dials(MIX, None, STREAMS).base
    assert base.parts == pytest.approx(
        {"general": 0.5435, "reasoning": 0.2717, "code": 0.1848, "sport": 0.2717}, abs=1e-3
    )


def test_dials_are_turned_one_at_a_time() -> None:
    dials = Dials(MIX, None, STREAMS)
    design = {candidate.name: candidate.parts for candidate in dials.design(2.0)}
    assert len(design) == 9
    base, more = design["base"], design["more code"]
    assert more["code"] / more["general"] == pytest.approx(2 * base["code"] / base["general"], rel=1e-3)
    assert more["reasoning"] / more["general"] == pytest.approx(base["reasoning"] / base["general"], rel=1e-3)
    less = design["less sport"]
    assert less["general"] == pytest.approx(base["general"], abs=1e-5)
    assert less["sport"] / less["general"] == pytest.approx(1 / 3, rel=1e-3)  # half as many of half the tokens


def test_no_mix_needs_more_than_there_is() -> None:
    short = MixOptions(max_epochs=1.0, tokens=200_000)
    design = Dials(short, None, STREAMS).design(4.0)
    limit = 80_000 / 4 / 200_000  # bytes a token, as the documents stage reckons
    assert max(candidate.parts["reasoning"] for candidate in design) == pytest.approx(limit, rel=1e-3)


def test_the_best_mix_of_a_known_law_is_found() -> None:
    dials = Dials(MixOptions(max_epochs=100), None, STREAMS)
    names = ("general", "reasoning", "code")
    effects = np.array([[-0.6, -0.3, -0.1], [-0.3, -1.2, -0.4], [-0.1, -0.3, -1.5]])

    def loss(parts: dict[str, float]) -> np.ndarray:
        return 0.5 + np.exp(effects @ np.array([parts[name] for name in names]))

    tried = dials.design(2.0)
    points = [MixPoint(one.parts, 1e12, dict(zip(names, loss(one.parts), strict=True))) for one in tried]
    law = MixLaw.fit(points, resamples=10)
    weights = dict.fromkeys(names, 1.0)
    found = dials.best("proposal", law, tried, weights, 1e12, 0)
    shares = np.array([[one.parts[name] for name in names] for one in tried])
    grid = np.random.default_rng(0).dirichlet([2] * 3, 50_000)
    grid = grid[((grid >= shares.min(0)) & (grid <= shares.max(0))).all(1)]
    best = min(loss(dict(zip(names, row, strict=True))).sum() for row in grid)
    assert loss(found.parts).sum() == pytest.approx(best, rel=2e-3)
    for name, low, high in zip(names, shares.min(0), shares.max(0), strict=True):
        assert low - 1e-5 <= found.parts[name] <= high + 1e-5  # nothing beyond what was tried


def test_topics_that_are_left_out_or_absent_are_no_part() -> None:
    dials = Dials(MixOptions(topic_weights={"sport": 0.0, "health": 2.0}), None, STREAMS)
    assert dials.names == ["general", "reasoning", "code"]
    assert "general.sport.rest" not in dials.base.streams


def test_one_category_alone_cannot_be_mixed() -> None:
    with pytest.raises(InputError, match="all there is to mix is general"):
        Dials(MixOptions(), None, {"general.rest": STREAMS["general.rest"]})


def test_a_proposal_is_a_piece_of_a_recipe() -> None:
    candidate = Dials(MIX, None, STREAMS).turned("x", {"code": 1.37, "sport": 0.3})
    keys = tomllib.loads(recipe_keys(candidate))["documents"]["mix"]
    options = MixOptions.model_validate(keys)
    assert options.shares == pytest.approx(candidate.shares, abs=2e-3)
    assert options.topic_weights == {"sport": 0.3}


def test_a_search_predicts_and_finds_a_better_mix(herd: Path) -> None:
    """Code is a quarter of the recipe's mix and, by the weights, all that counts."""
    small: dict[str, Any] = {"weights": {"code": 1.0, "general": 0.1}, "flops": [3e9, 6e9], "check_flops": 6e9}
    asked = recipe(scaling={"batch_tokens": 512, "mix": {**small, "rounds": 2, "check_seeds": 3}})
    found = search_mix(sweep(herd, asked), asked.documents.mix, asked.evaluate, trainer(asked), "cpu", 1, SILENT)
    assert found["proposal"]["parts"]["code"] > 1.3 * found["base"]["parts"]["code"]
    predicted, measured = found["predicted_change"], found["measured_change"]
    assert found["better"]
    assert measured["high"] < 0
    assert measured["low"] <= predicted["value"] <= measured["high"]
    folder = herd / "scaling" / "mixes"
    assert read_json(folder / "result.json") == found
    keys = tomllib.loads((folder / "mix.toml").read_text())
    assert keys["documents"]["mix"]["shares"]["code"] == pytest.approx(found["proposal"]["shares"]["code"], abs=1e-3)
    done = {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/pretrain/manifest.json")}
    write_report(herd, herd / "report.html")
    page = (herd / "report.html").read_text()
    assert "propose another mix, which is better by measurement" in page
    again = search_mix(sweep(herd, asked), asked.documents.mix, asked.evaluate, trainer(asked), "cpu", 1, SILENT)
    assert again == found
    assert {path: path.stat().st_mtime_ns for path in done} == done
