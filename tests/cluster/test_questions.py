"""Plans asked the other way round: budgets are spent, published models are matched, everything fits."""

from __future__ import annotations

import pytest

from herdsman.cluster.hardware import load_hardware
from herdsman.cluster.laws import LLAMA3
from herdsman.cluster.layouts import FULLEST
from herdsman.cluster.phase_layouts import lay_out_phases
from herdsman.cluster.questions import load_published
from herdsman.errors import InputError, RecipeError
from herdsman.model.count import count_parameters
from herdsman.planning import ask
from herdsman.recipe import Recipe, load_recipe
from tests.conftest import ROOT

H100, CPU = load_hardware("h100"), load_hardware("cpu")


def recipe_of(name: str) -> Recipe:
    return load_recipe(ROOT / "recipes" / f"{name}.toml")


@pytest.mark.parametrize(
    ("name", "gpus", "days"), [("8b", 8, 10.0), ("8b", 64, 30.0), ("70b", 256, 20.0), ("100m", 1, 3.0)]
)
def test_a_budget_is_spent_on_the_best_size(name: str, gpus: int, days: float) -> None:
    answer, _ = ask(recipe_of(name), H100, gpus, days, None, None)
    chapters = answer.plan.chapters
    assert chapters["time"]["days"].value == pytest.approx(days, rel=0.02)
    best = LLAMA3.tokens(chapters["compute"]["flops_6nd"].value)
    assert chapters["compute"]["tokens"].value == pytest.approx(best.value, rel=0.1), "losses are flat there"
    assert answer.optimum.value == pytest.approx(best.value, rel=0.01)
    assert answer.plan.gpus == gpus
    assert all(phase.memory.value <= FULLEST * H100.memory_bytes.value for phase in answer.plan.phases)


def test_a_larger_budget_buys_a_larger_model() -> None:
    sizes = [
        ask(recipe_of("tiny"), CPU, 1, days, None, None)[0].plan.chapters["model"]["total"].value
        for days in (0.01, 0.03, 0.1, 0.3)
    ]
    assert sizes == sorted(set(sizes))


def test_matching_llama_3_1_8b() -> None:
    answer, text = ask(recipe_of("405b"), H100, None, 60, "llama-3.1-8b", None)
    assert answer.plan.chapters["model"]["total"].value == 8_030_261_248
    assert answer.plan.chapters["compute"]["tokens"].value == pytest.approx(15e12, rel=1e-4)
    assert answer.plan.chapters["time"]["days"].value <= 60
    assert answer.matched is not None
    assert answer.matched.benchmarks["MMLU (5)"] == 66.7
    assert answer.same_loss_flops is not None
    assert answer.same_loss_flops.value < answer.matched.flops, "it was trained on far more than the best tokens"
    assert 'name = "405b-8.03b"' in text
    half = ask(recipe_of("405b"), H100, answer.plan.gpus // 2, None, "llama-3.1-8b", None)[0]
    assert half.plan.chapters["time"]["days"].value > 60, "half of the GPUs would not be done by then"


def test_phases_share_what_they_must() -> None:
    recipe = recipe_of("8b")
    pretrain = lay_out_phases(recipe.pretrain, recipe.model, 128_256, H100, 64)
    lengths = {phase.sequence_length: phase.layout or pretrain.layout for phase in pretrain.phases}
    assert lengths[131_072].context > 1 == lengths[8192].context
    assert all(layout.data is None for layout in lengths.values())


def test_what_cannot_be() -> None:
    with pytest.raises(RecipeError, match=r"too few for a vocabulary of 128,256"):
        ask(recipe_of("8b"), H100, 1, 0.0001, None, None)
    with pytest.raises(RecipeError, match="no layout on 1 h100 is possible"):
        ask(recipe_of("8b"), H100, 1, None, "llama-3.1-405b", None)
    with pytest.raises(InputError, match=r"did you mean llama-3\.1-8b\?"):
        load_published("llama-3-8b")


def test_published_models_are_as_they_say() -> None:
    for name in ("llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "llama-3.2-1b", "llama-3.2-3b"):
        published = load_published(name)
        assert published.shape is not None
        assert count_parameters(published.shape, 128_256).total == published.parameters
