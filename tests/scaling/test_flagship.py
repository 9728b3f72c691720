"""The flagship: the published law and budget give a model like the published one, and a recipe that can be raised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdsman.model.count import SPECIAL_TOKENS
from herdsman.recipe import load_recipe
from herdsman.scaling.flagship import flagship, flagship_recipe
from herdsman.scaling.isoflop import Family
from herdsman.scaling.law import Fit, fit_isoflop
from herdsman.scaling.options import PUBLISHED_BUDGETS
from tests.scaling.test_law import sweep

RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.fixture(scope="module")
def fit() -> Fit:
    return fit_isoflop(sweep(np.random.default_rng(1), PUBLISHED_BUDGETS, 8, noise=1e-4))


@pytest.mark.parametrize(("name", "budget"), [("405b", 3.8e25), ("8b", 3.8e25), ("tiny", 1e14)])
def test_a_recipe_that_spends_the_budget(tmp_path: Path, fit: Fit, name: str, budget: float) -> None:
    recipe = load_recipe(RECIPES / f"{name}.toml")
    rows = recipe.tokenizer.vocab_size + SPECIAL_TOKENS
    family = Family(recipe.model, rows, recipe.pretrain.phases[0].sequence_length)
    found = flagship(fit, budget, family)
    (tmp_path / "flagship.toml").write_text(flagship_recipe(found, recipe, recipe.name, recipe.pretrain, family))
    written = load_recipe(tmp_path / "flagship.toml")
    tokens = sum(phase.steps * phase.batch_tokens for phase in written.pretrain.phases)
    assert written.model == found.model
    assert tokens * family.flops_a_token(written.model) == pytest.approx(budget, rel=0.01)
    assert tokens == pytest.approx(found.optimum.value, rel=0.1)
    assert len(written.pretrain.phases) == len(recipe.pretrain.phases)
    assert written.documents.model_copy(update={"mix": recipe.documents.mix}) == recipe.documents
    if budget == 3.8e25:
        assert found.parameters == pytest.approx(389e9, rel=0.1)
    own = recipe.pretrain.peak_learning_rate
    peak = written.pretrain.peak_learning_rate
    assert (own is None) == (peak is None)
    if name == "8b":
        assert peak == pytest.approx(8e-5, rel=0.03)
    if name == "tiny":
        assert peak == own
