"""The grid: budgets are kept, families keep their shape, schedules are the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.errors import RecipeError
from herdsman.model.count import SPECIAL_TOKENS, model_flops
from herdsman.recipe import Recipe, load_recipe
from herdsman.scaling.isoflop import Family, batch_of, grid, next_trial, schedule_of
from herdsman.scaling.law import LLAMA3
from herdsman.scaling.options import PUBLISHED_BUDGETS, ScalingOptions
from herdsman.training.hyperparameters import published_peak
from herdsman.training.schedule import Schedule

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))
OPTIONS = ScalingOptions()


def family_of(recipe: Recipe) -> Family:
    return Family(recipe.model, recipe.tokenizer.vocab_size + SPECIAL_TOKENS, recipe.pretrain.phases[0].sequence_length)


@pytest.fixture(scope="module")
def family() -> Family:
    return family_of(load_recipe(RECIPES[0].with_name("8b.toml")))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_family_holds_its_base(path: Path) -> None:
    recipe = load_recipe(path)
    family = family_of(recipe)
    assert family.nearest(family.flops_a_token(recipe.model)) == recipe.model


def test_published_budgets_are_kept_to_a_step(family: Family) -> None:
    """Sizes cover the published 40M to 16B, and every run takes its budget but for part of a step."""
    sizes = []
    for budget in PUBLISHED_BUDGETS:
        trials = grid(budget, family, OPTIONS)
        assert len({trial.model for trial in trials}) == len(trials) == OPTIONS.sizes
        assert trials[0].tokens < LLAMA3(budget) < trials[-1].tokens
        for trial in trials:
            step = trial.batch_tokens * family.flops_a_token(trial.model)
            assert abs(trial.flops - budget) <= 0.5 * step * 1.000001
            assert trial.tokens % trial.batch_tokens == 0
            assert trial.flops == pytest.approx(
                trial.tokens * model_flops(trial.model, family.vocab_size, family.sequence_length / 2)
            )
        sizes += [trial.parameters for trial in trials]
    assert min(sizes) < 200e6
    assert max(sizes) > 16e9


def test_batches_are_the_published_ones(family: Family) -> None:
    """250K tokens at 6e18 FLOPs to 4M at 1e22, rounded to a power of two, and never less than a sequence."""
    batches = [grid(budget, family, OPTIONS)[0].batch_tokens for budget in PUBLISHED_BUDGETS]
    assert (batches[0], batches[-1]) == (2**18, 2**22)
    assert batches == sorted(batches)
    assert batch_of(1e9, family.sequence_length, OPTIONS) == family.sequence_length
    fixed = ScalingOptions(batch_tokens=20_000)
    assert grid(1e20, family, fixed)[0].batch_tokens == 5 * family.sequence_length


@pytest.mark.parametrize("name", ["8b", "tiny"])
def test_shape_goes_with_size(name: str) -> None:
    """Depth and width grow together; groups of heads stay, and the width of heads wherever there are several groups."""
    family = family_of(load_recipe(RECIPES[0].with_name(f"{name}.toml")))
    base, before = family.base, None
    for factor in (0.1, 0.3, 1, 3, 10, 30) if name == "tiny" else (0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30):
        model = family.nearest(factor * family.flops_a_token(base))
        assert family.flops_a_token(model) == pytest.approx(factor * family.flops_a_token(base), rel=0.2)
        assert model.heads / model.kv_heads == base.heads / base.kv_heads
        assert model.head_width == base.head_width or (model.kv_heads == 2 and model.head_width < base.head_width)
        assert model.dim == model.heads * model.head_width
        assert model.layers == 2 or 0.5 <= model.dim / model.layers / (base.dim / base.layers) <= 2
        assert model.ffn_dim / model.dim == pytest.approx(base.ffn_dim / base.dim, rel=0.25)
        if before:
            assert model.layers >= before.layers
            assert model.dim > before.dim
        before = model


def test_a_curve_is_extended_on_the_side_that_is_asked_for(family: Family) -> None:
    trials = grid(1e20, family, OPTIONS)
    more, less = next_trial(trials, 1, family, OPTIONS), next_trial(trials, -1, family, OPTIONS)
    assert more
    assert less
    assert more.tokens > trials[-1].tokens
    assert less.tokens < trials[0].tokens
    assert more.parameters < trials[-1].parameters < trials[0].parameters < less.parameters
    smallest = family.trial(1e9, 1e9, family.sequence_length)
    assert next_trial([smallest], 1, family, OPTIONS) is None
    with pytest.raises(RecipeError, match="there are 1 models small enough, a curve needs 4"):
        grid(1e9, family, OPTIONS)


def test_schedules_are_the_published_ones(family: Family) -> None:
    """Warmup over 2,000 steps, cosine to a tenth of the peak of 2e-4 to 4e-4; shorter runs warm up for a tenth."""
    pretrain = load_recipe(RECIPES[0].with_name("8b.toml")).pretrain
    peaks = []
    for budget in (6e18, 1e22):
        for trial in grid(budget, family, OPTIONS):
            schedule = Schedule(schedule_of(trial, pretrain, family.base_parameters), trial.parameters)
            assert schedule.tokens == trial.tokens
            assert schedule.warmup == min(2000, schedule.steps // 10)
            peaks.append(schedule.learning_rate(schedule.warmup - 1))
            assert schedule.learning_rate(schedule.steps - 1) == pytest.approx(0.1 * peaks[-1])
            assert 2e-4 <= peaks[-1] <= 4e-4 or trial.parameters > 16e9
    assert min(peaks) < 2.5e-4 < 3.5e-4 < max(peaks)


def test_a_recipes_own_rate_is_that_of_its_size(family: Family) -> None:
    """A recipe that learns twice as fast as published does so at all sizes, whatever else its curve is."""
    own = {"peak_learning_rate": 6e-4, "final_learning_rate": 1e-3, "warmup_steps": 5, "cosine_steps": 7}
    pretrain = load_recipe(RECIPES[0].with_name("8b.toml")).pretrain.model_copy(update=own)
    trial = grid(1e20, family, OPTIONS)[-1]
    rates = schedule_of(trial, pretrain, family.base_parameters)
    assert rates.peak_learning_rate == pytest.approx(2 * published_peak(trial.parameters))
    assert rates.final_learning_rate == pytest.approx(0.2 * published_peak(trial.parameters))
