"""The report's chapter of the plan: planned beside actual, from what a raise leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.cluster.hardware import load_hardware
from herdsman.events import EVENTS, EventLog
from herdsman.files import read_json, write_json
from herdsman.planning import plan_recipe
from herdsman.recipe import load_recipe
from herdsman.release.blocks import Table
from herdsman.release.chapters import planning
from herdsman.release.journey import Journey
from herdsman.release.plan_text import read_plan
from herdsman.release.report import render_report
from herdsman.workspace import PLAN
from tests.conftest import ROOT
from tests.release.example import write_workspace


@pytest.fixture
def planned(tmp_path: Path) -> Path:
    """The example's workspace, with a plan and the events of a pretraining with one interruption."""
    recipe = load_recipe(ROOT / "recipes" / "tiny.toml")
    write_workspace(tmp_path)
    write_json(tmp_path / PLAN, plan_recipe(recipe, load_hardware("cpu"), 1).as_json())
    manifest = read_json(tmp_path / "pretrain" / "manifest.json")
    phase = {"phase": "main", "seconds": 0.1, "mfu_causal": 0.9, "memory_resident_bytes": 7e8}
    manifest["metrics"] = {"speed": {"devices": 1, "phases": [phase]}}
    write_json(tmp_path / "pretrain" / "manifest.json", manifest)
    log = EventLog(tmp_path / EVENTS, stage="pretrain")
    log.write("started", fingerprint="f")
    for step in (0, 100):
        log.write("start", step=step)
        log.write("ready")
        log.write("step", step=step + 100, seconds=0.0, lost_seconds=0.0, data_seconds=0.0)
    return tmp_path


def rows_of(root: Path) -> dict[str, tuple[object, ...]]:
    journey = Journey.read(root)
    plan = read_plan(journey.root)
    assert plan
    table = planning.blocks(journey, plan)[0]
    assert isinstance(table, Table)
    return {str(row[0]): tuple(row[1:]) for row in table.rows}


def test_planned_beside_actual(planned: Path) -> None:
    rows = rows_of(planned)
    assert rows["a step of main"][2:] == ("100 ms", "in range")
    assert "MFU of main" not in rows, "a CPU's peak is only assumed"
    assert "memory of main" not in rows, "a CPU's is of the whole process"
    assert rows["interruptions"][2] == "1"
    assert str(rows["all of pretraining"][2]) == "4 min 44 s"
    page = render_report(Journey.read(planned))
    assert "Planned and actual" in page
    assert "it took 4 min 44 s" in page
    assert "systemic risk presumed" in page


def test_on_gpus_utilisation_is_compared_too(planned: Path) -> None:
    recipe = load_recipe(ROOT / "recipes" / "tiny.toml")
    write_json(planned / PLAN, plan_recipe(recipe, load_hardware("h100"), 1).as_json())
    assert str(rows_of(planned)["MFU of main"][3]).endswith("% off"), "90% is above any range"


def test_before_pretraining_there_is_only_the_plan(planned: Path) -> None:
    for stage in ("pretrain", "posttrain", "evaluate", "safety", "release"):
        (planned / stage / "manifest.json").unlink()
    journey = Journey.read(planned)
    plan = read_plan(journey.root)
    assert plan
    assert planning.lead(journey).endswith(").")
    assert "Planned and actual" in render_report(journey)


@pytest.mark.parametrize("text", ["", "{}", '{"chapters": {"time": {"days": 3}}}', "[1]"])
def test_a_plan_that_cannot_be_read_is_left_out(planned: Path, text: str) -> None:
    (planned / PLAN).write_text(text)
    assert "Planned and actual" not in render_report(Journey.read(planned))
