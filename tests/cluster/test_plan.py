"""Plans: the paper's and the cards' figures, sums that add up, ranges that hold, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest

from herdsman.cluster.figure import Figure
from herdsman.cluster.hardware import list_hardware, load_hardware
from herdsman.cluster.plan import Plan, default_gpus, default_hardware
from herdsman.errors import RecipeError
from herdsman.planning import machine_for, plan_recipe
from herdsman.recipe import load_recipe
from tests.conftest import ROOT

RECIPES = sorted(path.stem for path in (ROOT / "recipes").glob("*.toml"))


def plan_of(name: str, hardware: str, gpus: int, *settings: str) -> Plan:
    return plan_recipe(load_recipe(ROOT / "recipes" / f"{name}.toml", list(settings)), load_hardware(hardware), gpus)


@pytest.fixture(scope="module")
def of_405b() -> Plan:
    """As Meta trained it: without computing activations again."""
    return plan_of("405b", "h100", 16_384, "pretrain.recompute=none")


@pytest.mark.parametrize(
    ("name", "gpus", "parameters", "chinchilla"),
    [("8b", 256, 8_030_261_248, 93.4), ("70b", 4096, 70_553_706_496, 10.6), ("405b", 16_384, 405_853_388_800, 1.92)],
)
def test_the_herd_in_figures(name: str, gpus: int, parameters: int, chinchilla: float) -> None:
    plan = plan_of(name, "h100", gpus)
    assert plan.chapters["model"]["total"].value == parameters
    assert plan.chapters["compute"]["chinchilla_multiple"].value == pytest.approx(chinchilla, rel=0.005)
    assert plan.gpus == gpus


def test_405b_takes_what_was_published(of_405b: Plan) -> None:
    compute, energy = of_405b.chapters["compute"], of_405b.chapters["energy"]
    assert compute["tokens"].value == pytest.approx(15.6e12, rel=1e-4)
    assert compute["flops_6nd"].value == pytest.approx(3.8e25, rel=0.002)
    assert compute["flops_6nd"].value < compute["flops_causal"].value < compute["flops_whole"].value
    assert energy["power_watts"].value == 16_384 * 700
    hours = of_405b.chapters["time"]["gpu_hours"]
    assert energy["carbon_kg"].value == pytest.approx(hours.value * 0.7 * 0.414)
    assert hours.holds(30.84e6), "the card's hours lie in the range"
    assert of_405b.chapters["reliability"]["effective_share"].value > 0.9
    verdicts = {standing.limit.name: standing.verdict for standing in of_405b.limits}
    assert verdicts["EU: systemic risk presumed"] == "above"
    assert verdicts["California: frontier model"] == "below"


def test_parts_add_up(of_405b: Plan) -> None:
    chapters = of_405b.chapters
    parts = [figure.value for name, figure in chapters["model"].items() if name not in ("total", "vocabulary")]
    assert sum(parts) == chapters["model"]["total"].value
    for phase in of_405b.phases:
        assert sum(part.value for part in phase.step_parts.values()) == pytest.approx(phase.step_seconds.value)
        assert sum(part.value for part in phase.memory_parts.values()) == pytest.approx(phase.memory.value)
        assert phase.steps * phase.step_seconds.value == pytest.approx(phase.seconds.value)
        assert phase.layout.processes == 16_384
    trained = sum(phase.seconds.value for phase in of_405b.phases)
    assert trained == pytest.approx(chapters["time"]["training_seconds"].value)
    elapsed = 86_400 * chapters["time"]["days"].value
    assert trained / elapsed == pytest.approx(chapters["reliability"]["effective_share"].value)
    assert chapters["time"]["gpu_hours"].value == pytest.approx(elapsed * 16_384 / 3600)


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("hardware", [name for name in list_hardware() if name != "this"])
def test_every_recipe_on_every_machine(name: str, hardware: str) -> None:
    recipe = load_recipe(ROOT / "recipes" / f"{name}.toml")
    plan = plan_recipe(recipe, *machine_for(recipe, hardware, None))
    figures = [figure for chapter in plan.chapters.values() for figure in chapter.values()]
    figures += [figure for phase in plan.phases for figure in (*phase.step_parts.values(), phase.mfu, phase.memory)]
    assert all(figure.low <= figure.value <= figure.high for figure in figures)
    assert all(figure.unit for figure in figures)
    assert plan.chapters["time"]["mfu"].value < 1
    read = json.loads(json.dumps(plan.as_json()))
    assert Figure(**read["chapters"]["time"]["days"]) == plan.chapters["time"]["days"]


def test_what_does_not_fit_is_said(of_405b: Plan) -> None:
    assert "do not fit" in of_405b.warnings[0]
    roomy = plan_of("405b", "h100", 16_384)
    assert not any("do not fit" in warning for warning in roomy.warnings)
    with pytest.raises(RecipeError, match="is 128 processes, but there are 100"):
        plan_of("405b", "h100", 100)


def test_gates_widen_the_range() -> None:
    with_gates = plan_of("8b", "h100", 256).chapters["compute"]["tokens"]
    assert with_gates.high - with_gates.value == pytest.approx(6 * 66_666_666_666)
    without = plan_of("100m", "h100", 1).chapters["compute"]["tokens"]
    assert without.high == without.value


def test_saving_seldom_costs_time() -> None:
    often, seldom = (
        plan_of("405b", "h100", 16_384, f"pretrain.checkpoints.every_seconds={seconds}") for seconds in (300, 3600)
    )
    assert seldom.chapters["time"]["days"].value > 1.1 * often.chapters["time"]["days"].value
    assert seldom.chapters["storage"]["written_bytes"].value < often.chapters["storage"]["written_bytes"].value


def test_defaults() -> None:
    tiny, large = (load_recipe(ROOT / "recipes" / f"{name}.toml") for name in ("tiny", "405b"))
    assert default_hardware(1.9e13, tiny.machine.device).device == "cpu"
    assert default_hardware(3.8e25, large.machine.device).name == "h100"
    assert default_gpus(3.8e25, large.pretrain, load_hardware("h100")) == 16_384
    assert machine_for(tiny, "cpu", None)[1] == 1
    processes = tiny.model_copy(update={"machine": tiny.machine.model_copy(update={"processes": 4})})
    assert machine_for(processes, None, None)[1] == 4
    assert machine_for(processes, None, 2)[1] == 2


def test_twice_the_gpus_need_no_less_gpu_hours() -> None:
    hours = [plan_of("8b", "h100", gpus).chapters["time"]["gpu_hours"].value for gpus in (64, 128, 256, 512)]
    assert hours == sorted(hours)


def test_planning_needs_no_torch() -> None:
    code = "import sys; from herdsman.cli import main; main(['plan', sys.argv[1]])"
    check = f"import atexit; atexit.register(lambda: print('torch' in sys.modules)); {code}"
    command = [sys.executable, "-c", "import sys; " + check, str(ROOT / "recipes" / "405b.toml")]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1] == "False", result.stderr


def test_an_unknown_precision_of_a_machine_is_a_sentence() -> None:
    hardware = load_hardware("a100-80gb")
    recipe = load_recipe(ROOT / "recipes" / "100m.toml", ["pretrain.precision=float8"])
    with pytest.raises(Exception, match="float8"):
        plan_recipe(recipe, hardware, 1)


def test_longest_takes_most_time(of_405b: Plan) -> None:
    assert of_405b.longest.name == "16M"
    assert replace(of_405b, phases=of_405b.phases[:1]).longest.name == "4M"
