"""Recipes: all presets validate in their published sizes, and mistakes are told in one sentence with their line."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from herdsman.cluster.plan import Plan
from herdsman.errors import RecipeError
from herdsman.planning import machine_for, plan_recipe
from herdsman.recipe import Recipe, load_recipe
from herdsman.release.journey import STAGES
from herdsman.stages import JOURNEY, STAGE_NAMES, fingerprints

ROOT = Path(__file__).parents[1]
PRESETS = {  # exact parameters and tokens; tokens are whole steps of the published totals
    "1b": (1_235_814_400, 9.0e12),
    "8b": (8_030_261_248, 15.0e12),
    "70b": (70_553_706_496, 15.0e12),
    "405b": (405_853_388_800, 15.6e12),
}


def plan_of(recipe: Recipe) -> Plan:
    return plan_recipe(recipe, *machine_for(recipe, None, None))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_have_the_published_sizes(name: str) -> None:
    recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
    result = plan_of(recipe)
    parameters, tokens = PRESETS[name]
    assert recipe.name == name
    assert result.chapters["model"]["vocabulary"].value == 128_256
    assert result.chapters["model"]["total"].value == parameters
    assert result.chapters["compute"]["tokens"].value == pytest.approx(tokens, rel=1e-4)
    assert result.chapters["compute"]["tokens"].value == sum(phase.tokens.value for phase in result.phases)


@pytest.mark.parametrize("name", ["100m", *PRESETS])
def test_presets_fit_the_machines_they_are_laid_out_for(name: str) -> None:
    assert plan_of(load_recipe(ROOT / "recipes" / f"{name}.toml")).warnings == []


def test_405b_takes_the_published_flops() -> None:
    result = plan_of(load_recipe(ROOT / "recipes" / "405b.toml"))
    compute = result.chapters["compute"]
    assert compute["flops_6nd"].value == pytest.approx(3.8e25, rel=2e-3)
    assert compute["flops_causal"].value > compute["flops_6nd"].value
    assert compute["tokens"].high - compute["tokens"].value == 6 * 66_666_666_666
    assert result.rates.by_size == ()


def test_rates_by_size_are_those_of_the_published_recipes() -> None:
    """What a recipe would be given if it left them out: the numbers that the large presets write down."""
    for name in ("8b", "70b", "405b"):
        recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
        names = ("peak_learning_rate", "final_learning_rate", "warmup_steps")
        silent = recipe.pretrain.model_copy(update=dict.fromkeys(names))
        rates = plan_of(recipe.model_copy(update={"pretrain": silent})).rates
        assert rates.by_size == names
        assert [getattr(rates, key) for key in names] == pytest.approx([getattr(recipe.pretrain, key) for key in names])


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.toml")), ids=lambda path: path.stem)
def test_every_preset_validates(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.name == path.stem
    assert recipe.description
    longest = max(phase.sequence_length for phase in recipe.pretrain.phases)
    assert longest <= recipe.model.context_length
    assert recipe.pretrain.phases[-1].learning_rate == "linear_to_zero"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("layers = 4->layerz = 6", r"line \d+: unknown key model.layerz; did you mean layers\?"),
        ("dim = 128->dim = 130", r"model: dim \(130\) must be a multiple of heads"),
        ("dim = 128->dim = 'wide'", r"line \d+: model.dim: input should be a valid integer.*but is \"wide\""),
        ("layers = 4->", r"model.layers is missing"),
        ("[model]->[model", r"is not valid TOML"),
        ("seed = 1->seed = -1", r"line \d+: seed: input should be greater than or equal to 0, but is -1"),
        (
            "warmup_steps = 20->warmup_step = 20",
            r"line \d+: unknown key pretrain.warmup_step; did you mean warmup_steps",
        ),
        ("batch_tokens = 2048->batch_tokens = 2000", r"must be a multiple of sequence_length"),
    ],
)
def test_mistakes_are_told_in_one_sentence(tmp_path: Path, change: str, sentence: str) -> None:
    before, after = change.split("->")
    text = (ROOT / "recipes" / "tiny.toml").read_text()
    assert before in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(RecipeError, match=sentence) as raised:
        load_recipe(path)
    assert str(raised.value).startswith(str(path))
    assert "\n" not in str(raised.value)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path / "none.toml")
    (tmp_path / "noise.toml").write_bytes(bytes(range(128, 256)))
    with pytest.raises(RecipeError, match="not UTF-8"):
        load_recipe(tmp_path / "noise.toml")


def test_overrides_win_and_are_checked() -> None:
    tiny = ROOT / "recipes" / "tiny.toml"
    recipe = load_recipe(tiny, ["seed=7", "pretrain.peak_learning_rate=1e-3", "name=other"])
    assert (recipe.seed, recipe.pretrain.peak_learning_rate, recipe.name) == (7, 1e-3, "other")
    with pytest.raises(RecipeError, match="key=value"):
        load_recipe(tiny, ["seed"])
    with pytest.raises(RecipeError, match="unknown key seeds"):
        load_recipe(tiny, ["seeds=7"])


def test_fingerprints_follow_the_journey() -> None:
    """A change redoes its own stage and those after it that need it, and no others."""
    tiny = ROOT / "recipes" / "tiny.toml"
    base = fingerprints(load_recipe(tiny))
    assert fingerprints(load_recipe(tiny, ["machine.workers=1"])) == base
    assert fingerprints(load_recipe(tiny, ["pretrain.checkpoints.every_seconds=1"])) == base
    orders = ('pages.sources=["sample", "crawl:http://a/"]', 'pages.sources=["crawl:http://a/", "sample"]')
    one, two = (fingerprints(load_recipe(tiny, [order])) for order in orders)
    assert one["pages"] == two["pages"] != base["pages"]
    changed = fingerprints(load_recipe(tiny, ["pretrain.peak_learning_rate=1e-3"]))
    same = {name for name in STAGE_NAMES if changed[name] == base[name]}
    assert same == {"pages", "documents", "tokenizer", "tokens", "search"}
    assert not {n for n, f in fingerprints(load_recipe(tiny, ["seed=2"])).items() if f == base[n]}


def test_stages_need_only_earlier_stages() -> None:
    for position, stage in enumerate(JOURNEY):
        assert set(stage.needs) <= set(STAGE_NAMES[:position])


def test_the_report_tells_of_every_stage() -> None:
    """The report stands below the journey and cannot ask it for its stages."""
    assert STAGES == STAGE_NAMES


def test_the_reference_page_is_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs" / "make_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "recipe.md").read_text() == module.reference(), "run `make docs`"


def test_importing_and_planning_need_no_torch() -> None:
    code = (
        "import sys, herdsman.cli, herdsman.stages, herdsman.recipe, herdsman.cluster.plan\n"
        "herdsman.recipe.load_recipe('recipes/405b.toml')\n"
        "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules and 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
