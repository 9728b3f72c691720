"""Recipes of another size: everything that is not size stays, and what is written is read again as it was."""

from __future__ import annotations

import tomllib

import pytest

from herdsman.cluster.recipe_file import batch_tokens_for, recipe_text, resized, scaled_schedule, table_of
from herdsman.model.count import count_parameters
from herdsman.model.shape import llama_shape
from herdsman.recipe import Recipe, load_recipe
from herdsman.training.hyperparameters import hyperparameters
from herdsman.training.schedule import Schedule
from tests.conftest import ROOT

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))


def read(name: str) -> tuple[Recipe, int]:
    recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
    return recipe, count_parameters(recipe.model, recipe.tokenizer.vocab_size + 256).total


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_written_is_read_again(name: str) -> None:
    recipe, _ = read(name)
    text = recipe_text(table_of(recipe), "made by a test")
    assert text.startswith("# made by a test\n")
    assert Recipe(**tomllib.loads(text)) == recipe


@pytest.mark.parametrize("name", RECIPES)
def test_another_size_keeps_the_rest(name: str) -> None:
    recipe, parameters = read(name)
    vocab_size = recipe.tokenizer.vocab_size + 256
    model = llama_shape(3 * parameters, vocab_size, recipe.model.context_length)
    before = sum(phase.tokens for phase in recipe.pretrain.phases)
    pretrain = scaled_schedule(recipe.pretrain, parameters, 3 * parameters, before // 7, 1 << 20)
    made = Recipe(**tomllib.loads(recipe_text(resized(recipe, "other", "another", model, pretrain))))
    assert made.model == model
    assert made.pretrain == pretrain
    same = {"model", "pretrain", "name", "description", "documents"}
    assert made.model_dump(exclude=same) == recipe.model_dump(exclude=same)
    if recipe.documents.mix.tokens:
        assert made.documents.mix.tokens == sum(phase.tokens for phase in pretrain.phases)
    for old, new in zip(recipe.pretrain.phases, made.pretrain.phases, strict=True):
        assert new.tokens * 7 == pytest.approx(old.tokens, rel=1e-3)
        assert (new.sequence_length, new.mix) == (old.sequence_length, old.mix)
    assert max(phase.batch_tokens for phase in pretrain.phases) == pytest.approx(1 << 20, rel=0.13)
    Schedule(made.pretrain, 3 * parameters)  # its warmup ends before its cosine


def test_phases_named_for_their_batch_are_named_for_the_new_one() -> None:
    recipe, parameters = read("8b")
    half = scaled_schedule(recipe.pretrain, parameters, parameters, 10**12, 1 << 23)
    assert [phase.name for phase in half.phases[:4]] == ["2M", "4M", "8M", recipe.pretrain.phases[3].name]
    tiny = scaled_schedule(recipe.pretrain, parameters, parameters, 10**12, 1 << 13)
    assert [phase.name for phase in tiny.phases] == [phase.name for phase in recipe.pretrain.phases]


def test_rates_follow_the_published_ones() -> None:
    recipe, parameters = read("8b")
    big = scaled_schedule(recipe.pretrain, parameters, 405_853_388_800, 15 * 10**12, 1 << 24)
    assert hyperparameters(big, 405_853_388_800).peak_learning_rate == pytest.approx(8e-5, rel=1e-3)
    assert big.final_learning_rate == pytest.approx(8e-7, rel=1e-2)


def test_batches_of_the_paper() -> None:
    assert batch_tokens_for(3.8e25) == 1 << 24
    assert batch_tokens_for(1e22) == 1 << 22
    assert batch_tokens_for(6e18) == 1 << 18
    sizes = [batch_tokens_for(10.0**exponent) for exponent in range(13, 27)]
    assert sizes == sorted(sizes)
