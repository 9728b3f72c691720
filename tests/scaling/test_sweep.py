"""A real sweep: killed and shared between processes it comes to the same as undisturbed, bit for bit."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from herdsman.files import read_json
from herdsman.recipe import load_recipe
from herdsman.release.figures import power_of_ten
from herdsman.scaling.curve import Point, isoflop_curve
from herdsman.scaling.sweep import Sweep, check
from tests.conftest import Herdsman
from tests.scaling.test_law import LLAMA3, fit_isoflop, valley

RECIPE = """
name = "swept"
[machine]
threads = 1
[pages]
sources = [{folder!r}]
[documents]
held_out_share = 0.1
[tokenizer]
vocab_size = 300
[model]
layers = 2
dim = 32
heads = 4
kv_heads = 2
ffn_multiple_of = 16
tied_embeddings = true
context_length = 128
initial_std = 0.15
[scaling]
budgets = [3e9, 4.5e9]
check_budget = 6e9
sizes = 4
most_sizes = 5
spread = 3.0
expected_tokens = 0.7
batch_tokens = 512
[pretrain]
peak_learning_rate = 1e-2
precision = "float32"
warmup_steps = 5
validation_tokens = 4096
[pretrain.checkpoints]
every_tokens = 8192
[[pretrain.phases]]
name = "main"
tokens = 50_000
batch_tokens = 512
sequence_length = 128
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory, html_folder: Path) -> Path:
    path = tmp_path_factory.mktemp("sweep") / "swept.toml"
    path.write_text(RECIPE.format(folder=str(html_folder)))
    return path


@pytest.fixture(scope="module")
def undisturbed(recipe: Path) -> tuple[Path, dict[str, Any]]:
    """A workspace, and what the command said of it."""
    root = recipe.parent / "undisturbed"
    command = [sys.executable, "-m", "herdsman", "scale", str(recipe), "--workspace", str(root), "--json"]
    result = subprocess.run([*command, "--processes", "1", "--budget", "1e12"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "12 runs at 3 budgets: " in result.stderr
    return root, json.loads(result.stdout)


def results(root: Path) -> list[tuple[str, bytes]]:
    folders = sorted((root / "scaling" / "runs").iterdir())
    return [(folder.name, (folder / "pretrain" / "model" / "model.safetensors").read_bytes()) for folder in folders]


def test_what_a_sweep_leaves(undisturbed: tuple[Path, dict[str, Any]]) -> None:
    root, said = undisturbed
    rows = read_json(root / "scaling" / "runs.json")
    bytes_a_token = read_json(root / "tokenizer" / "manifest.json")["metrics"]["held_out"]["bytes_per_token"]
    assert [row["budget"] for row in rows] == [3e9] * 4 + [4.5e9] * 4 + [6e9] * 4
    for row in rows:
        manifest = read_json(root / "scaling" / "runs" / row["name"] / "pretrain" / "manifest.json")
        assert manifest["metrics"]["validation_loss"]["average"] == row["loss"]
        assert (manifest["counts"]["tokens"], manifest["counts"]["parameters"]) == (row["tokens"], row["parameters"])
        assert row["flops"] == pytest.approx(row["budget"], rel=0.05)
        assert row["bits_per_byte"] == pytest.approx(row["loss"] / math.log(2) / bytes_a_token)
    law = read_json(root / "scaling" / "law.json")
    assert {key: said[key] for key in law} == law
    assert law["check"]["flops"] == pytest.approx(6e9, rel=0.05)
    flagship = load_recipe(Path(said["flagship"]["recipe"]))
    assert sum(phase.tokens for phase in flagship.pretrain.phases) == pytest.approx(said["flagship"]["tokens"], rel=0.1)
    page = (root / "report.html").read_text()
    curve = f"{power_of_ten(law['curves'][1]['flops'])} FLOPs"
    for shown in ("How large, for how much compute", curve, "What the law foretold"):
        assert shown in page


def test_killed_and_shared_it_comes_to_the_same(
    recipe: Path, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    root = tmp_path / "disturbed"
    root.mkdir()
    for stage in ("pages", "documents", "tokenizer", "tokens"):
        (root / stage).symlink_to(undisturbed[0] / stage)
    for run in (undisturbed[0] / "scaling" / "runs").iterdir():
        if not run.name.startswith("3e09"):
            shutil.copytree(run, root / "scaling" / "runs" / run.name, symlinks=True)
    command = [sys.executable, "-m", "herdsman", "scale", str(recipe), "--workspace", str(root), "--processes"]
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen([*command, "2"], **quiet, start_new_session=True)
    runs = root / "scaling" / "runs"
    while sum(path.read_bytes().count(b"\n") for path in runs.glob("3e09-*/pretrain/logs/curve.jsonl")) < 40:
        assert first.poll() is None
        time.sleep(0.01)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert any(not (run / "pretrain" / "manifest.json").exists() for run in runs.iterdir())
    both = [subprocess.Popen([*command, "1"], **quiet) for _ in range(2)]  # as on two machines
    assert [process.wait() for process in both] == [0, 0]
    assert results(root) == results(undisturbed[0])
    assert read_json(root / "scaling" / "law.json") == read_json(undisturbed[0] / "scaling" / "law.json")


def test_done_already_it_runs_nothing(
    herdsman: Herdsman, recipe: Path, undisturbed: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    before = {path: path.stat().st_mtime_ns for path in (undisturbed[0] / "scaling" / "runs").rglob("manifest.json")}
    again = herdsman("scale", recipe, "--workspace", undisturbed[0])
    assert again.returncode == 0
    assert "FLOPs, not fitted: foretold " in again.stdout
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_minimum_outside_brings_further_runs(
    recipe: Path, undisturbed: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses that fall towards more tokens make the sweep want smaller models, one at a time, as many as it may."""
    loaded = load_recipe(recipe)
    options = loaded.scaling.model_copy(update={"most_sizes": 6, "expected_tokens": 0.3})
    sweep = Sweep(undisturbed[0], options, loaded.model, loaded.pretrain, loaded.seed)
    losses: dict[int, float] = {}
    monkeypatch.setattr(
        Sweep,
        "point",
        lambda self, trial: (
            Point(trial.flops, trial.parameters, trial.tokens, losses[trial.tokens]) if trial.tokens in losses else None
        ),
    )
    first = sweep.trials(8e9)
    assert len(first) == 4
    losses |= {trial.tokens: valley(8e9, trial.tokens, 2 * first[-1].tokens) for trial in first}
    second = sweep.trials(8e9)
    assert second[:-1] == first
    assert second[-1].tokens > first[-1].tokens
    assert sweep.trials(8e9) == second  # as long as that is not done
    losses[second[-1].tokens] = valley(8e9, second[-1].tokens, 2 * first[-1].tokens)
    third = sweep.trials(8e9)
    assert len(third) == 6
    losses[third[-1].tokens] = valley(8e9, third[-1].tokens, 2 * third[-1].tokens)
    assert sweep.trials(8e9) == third


def test_a_check_compares_what_was_foretold() -> None:
    points = [
        Point(flops, flops / 6 / tokens, tokens, valley(flops, tokens, LLAMA3(flops)))
        for flops in (1e12, 2e12, 4e12, 8e12, 3.2e13)
        for tokens in (LLAMA3(flops) * factor for factor in (0.3, 0.5, 1.0, 2.0, 3.0))
    ]
    fit = fit_isoflop([point for point in points if point.flops < 1e13])
    found = check(fit, isoflop_curve([point for point in points if point.flops > 1e13]))
    assert found["foretold_tokens"]["value"] == pytest.approx(LLAMA3(3.2e13), rel=1e-3)
    assert found["loss_error"] == pytest.approx(0, abs=1e-3)
    assert found["loss_at_foretold_tokens"] == pytest.approx(valley(3.2e13, 1, 1), rel=1e-3)
    off = check(fit, replace(isoflop_curve(points[-5:]), lowest_loss=2 * found["curve"]["lowest_loss"]))
    assert off["loss_error"] == pytest.approx(-0.5, abs=1e-2)
