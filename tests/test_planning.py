"""`herdsman plan` as a user meets it, and the hardware that a raise plans for."""

from __future__ import annotations

import io
import json
import stat
from pathlib import Path

import pytest
from rich.console import Console

from herdsman.planning import present_hardware
from herdsman.progress import Progress
from herdsman.recipe import MachineOptions, load_recipe
from herdsman.stages import _write_plan
from herdsman.workspace import PLAN, Workspace
from tests.conftest import ROOT, Herdsman

RECIPES = ROOT / "recipes"


@pytest.fixture(autouse=True)
def without_calibration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))


def test_a_plan_in_words_and_for_programs(herdsman: Herdsman) -> None:
    said = herdsman("plan", RECIPES / "8b.toml", "--gpus", 512).stdout
    assert "8,030,261,248 parameters, on 512 GPUs (h100)" in said
    assert "do not fit" not in said
    assert (
        "do not fit" in herdsman("plan", RECIPES / "8b.toml", "--gpus", 512, "--set", "pretrain.recompute=none").stdout
    )
    read = json.loads(herdsman("plan", RECIPES / "8b.toml", "--gpus", 512, "--json").stdout)
    assert read["chapters"]["model"]["total"]["value"] == 8_030_261_248
    assert {figure["origin"] for chapter in read["chapters"].values() for figure in chapter.values()} <= {
        "paper", "card", "measured", "derived", "assumed"
    }  # fmt: skip
    assert {phase["name"] for phase in read["phases"]} >= {"16M", "anneal"}
    assert {limit["verdict"] for limit in read["limits"]} == {"above", "below"}


def test_a_recipe_for_a_budget_can_be_planned_again(herdsman: Herdsman, tmp_path: Path) -> None:
    made = tmp_path / "made.toml"
    result = herdsman("plan", RECIPES / "100m.toml", "--gpu", "h200", "--gpus", 8, "--days", 2, "--out", made, "--json")
    asked = json.loads(result.stdout)
    again = json.loads(herdsman("plan", made, "--gpu", "h200", "--gpus", 8, "--json").stdout)
    assert again["chapters"]["time"]["days"]["value"] == asked["chapters"]["time"]["days"]["value"]
    assert again["chapters"]["time"]["days"]["value"] == pytest.approx(2, rel=0.02)
    recipe = load_recipe(made)
    assert (recipe.machine.processes, recipe.machine.nodes) == (8, "1")
    assert again["warnings"] == []


@pytest.mark.parametrize("place", [".", "/dev/null", "a file/mine.toml"])
def test_a_result_goes_to_a_file_or_nowhere(place: str, herdsman: Herdsman, tmp_path: Path) -> None:
    (tmp_path / "a file").touch()
    wanted = ("plan", RECIPES / "8b.toml", "--gpus", 8, "--days", 1, "--out", tmp_path / place)
    result = herdsman(*wanted)
    assert result.returncode == 2
    assert "is not a f" in result.stderr
    assert Path("/dev/null").is_char_device()


def test_layouts(herdsman: Herdsman, tmp_path: Path) -> None:
    made = tmp_path / "made.toml"
    said = herdsman("plan", RECIPES / "405b.toml", "--gpus", 8192, "--layouts", "--out", made).stdout
    assert "slower: " in said
    assert "not possible, " in said
    assert load_recipe(made).model == load_recipe(RECIPES / "405b.toml").model
    assert json.loads(herdsman("plan", made, "--gpus", 8192, "--json").stdout)["warnings"] == []


def test_check_holds(herdsman: Herdsman) -> None:
    result = herdsman("plan", "--check")
    assert result.returncode == 0
    assert "holds" in result.stdout
    assert "FAILS" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no recipe is given; name one"),
        (["8b", "--gpu", "h1000"], "h1000: no such hardware; choose"),
        (["8b", "--out", "made.toml"], "ask with --days, --match or --layouts"),
        (["8b", "--match", "llama-9"], "is no published model that is known"),
        (["8b", "--days", "1", "--law", "none.json"], "none.json: is not a scaling law"),
        (["405b", "--gpus", "100"], "is 128 processes, but there are 100"),
    ],
)
def test_mistakes(
    herdsman: Herdsman, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = herdsman("plan", *(RECIPES / f"{part}.toml" if part in ("8b", "405b") else part for part in arguments))
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.glob("*.toml"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA TITAN", "cpu"),
    ],
)
def test_the_gpu_that_the_driver_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(f"#!/bin/sh\necho '{name}'\n")
    driver.chmod(driver.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert present_hardware(MachineOptions()).name == expected
    assert present_hardware(MachineOptions(device="cpu")).name == "cpu"


def test_a_raise_keeps_the_plan_it_began_with(tmp_path: Path) -> None:
    recipe, space, said = load_recipe(RECIPES / "tiny.toml", ["machine.device=cpu"]), Workspace(tmp_path), io.StringIO()
    progress = Progress(Console(file=said))
    _write_plan(recipe, space, "first", progress)
    kept = (tmp_path / PLAN).read_bytes()
    assert json.loads(kept)["fingerprint"] == "first"
    slower = load_recipe(RECIPES / "tiny.toml", ["machine.device=cpu", "pretrain.recompute=full"])
    _write_plan(slower, space, "first", progress)
    assert (tmp_path / PLAN).read_bytes() == kept, "resumed: the plan from before it began stands"
    _write_plan(slower, space, "second", progress)
    assert (tmp_path / PLAN).read_bytes() != kept
    assert said.getvalue() == ""


def test_a_raise_does_not_end_for_want_of_a_plan(tmp_path: Path) -> None:
    recipe, said = (
        load_recipe(RECIPES / "tiny.toml", ["machine.device=cpu", "pretrain.precision=float8"]),
        io.StringIO(),
    )
    _write_plan(recipe, Workspace(tmp_path), "first", Progress(Console(file=said)))
    assert "no plan: hardware cpu: has no peak for float8" in said.getvalue()
    assert not (tmp_path / PLAN).exists()
