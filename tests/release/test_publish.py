"""The release stage: a folder others can load, the same bytes every time, and a card that says what is so."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from herdsman.documents.store import KEPT, write_rows
from herdsman.files import read_json, write_json
from herdsman.model.count import count_parameters, training_flops
from herdsman.progress import SILENT
from herdsman.release.card import model_card
from herdsman.release.cost import Cost, costs, stage_cost, total
from herdsman.release.journey import Journey
from herdsman.release.markdown import as_markdown
from herdsman.release.options import ReleaseOptions
from herdsman.release.publish import publish
from herdsman.workspace import Workspace
from tests.release.conftest import TEXTS, make_model
from tests.release.example import HOSTILE, MODEL, RECIPE, STEPS, VOCAB_SIZE, write_workspace

NEEDS = ("pages", "documents", "tokenizer", "tokens", "pretrain", "posttrain", "evaluate", "safety")


def make_release(root: Path, tokenizer_folder: Path) -> Workspace:
    write_workspace(root, until="safety")
    shutil.copytree(tokenizer_folder, root / "tokenizer", dirs_exist_ok=True)
    make_model(tokenizer_folder, root / "posttrain" / "model", tied_embeddings=True)
    scores = ("language_score", "quality", "reference")
    empty: dict[str, Any] = {field.name: 0.5 if field.name in scores else "" for field in KEPT}
    rows = [{**empty, "id": f"{i:032x}", "text": text, "split": "held_out"} for i, text in enumerate(TEXTS)]
    write_rows(root / "documents" / "kept-00000.parquet", rows, KEPT)
    workspace = Workspace(root)
    with workspace.stage("release", "f" * 64, NEEDS, 1, 1, SILENT) as work:
        publish(ReleaseOptions.model_validate(RECIPE["release"]), work, RECIPE)
    return workspace


def test_two_runs_give_the_same_bytes_whatever_they_took(tokenizer_folder: Path, tmp_path: Path) -> None:
    first = make_release(tmp_path / "a", tokenizer_folder)
    second = tmp_path / "b"
    write_workspace(second, until="safety")
    for stage in NEEDS:  # an earlier run on a slower machine
        manifest = read_json(tmp_path / "a" / stage / "manifest.json")
        write_json(second / stage / "manifest.json", manifest | {"wall_seconds": 1e5, "cpu_seconds": 3e5})
    manifests = [first.manifest("release"), make_release(second, tokenizer_folder).manifest("release")]
    assert manifests[0] is not None
    assert manifests[1] is not None
    assert manifests[0]["digest"] == manifests[1]["digest"]
    names = {name.removeprefix("huggingface/") for name in manifests[0]["outputs"]}
    assert {"README.md", "config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"} <= names


def test_measured_card_lies_in_the_logs(tokenizer_folder: Path, tmp_path: Path) -> None:
    make_release(tmp_path / "a", tokenizer_folder)
    released = (tmp_path / "a/release/huggingface/README.md").read_text(encoding="utf-8")
    measured = (tmp_path / "a/release/logs/README.md").read_text(encoding="utf-8")
    assert "CPU-hours" in measured
    assert "CPU-hours" not in released
    assert released.split("## Computing")[0] == measured.split("## Computing")[0]


def test_card_says_parameters_licences_flops_and_intervals(tmp_path: Path) -> None:
    journey = Journey.read(write_workspace(tmp_path))
    card = as_markdown(model_card(journey, measured=True), journey)
    parameters = count_parameters(MODEL, VOCAB_SIZE).total
    assert card.startswith("---\nlicense: apache-2.0\n")
    assert f"{parameters:,}" in card
    assert training_flops(MODEL, VOCAB_SIZE, STEPS * 4096) == 6.0 * parameters * STEPS * 4096
    assert "1.68 × 10¹³" in card  # 6 * 1,402,496 * 1,998,848
    assert "| python-doc 2020.10.1 | 2,014 | 61.3 MB | PSF-2.0 |" in card
    assert "36.0% (31.0 to 41.0)" in card  # ARC-Easy with its interval
    for section in ("Intended use", "Limits", "Data", "Evaluation", "Safety", "Computing and energy"):
        assert f"\n## {section}\n" in card


def test_card_holds_text_as_text(tmp_path: Path) -> None:
    journey = Journey.read(write_workspace(tmp_path))
    summary = read_json(tmp_path / "pages" / "summary.json")
    summary["sources"][0]["source"] = HOSTILE + " | *x*"
    write_json(tmp_path / "pages" / "summary.json", summary)
    journey = Journey.read(tmp_path)
    card = as_markdown(model_card(journey), journey)
    assert "<script>" not in card.replace("\\<", "")
    assert "\\| \\*x\\*" in card


@pytest.mark.parametrize("until", ["", *NEEDS])
def test_card_of_every_prefix(tmp_path: Path, until: str) -> None:
    journey = Journey.read(write_workspace(tmp_path, until))
    assert as_markdown(model_card(journey, measured=True), journey).count("\n## ") >= 3


def test_cost_is_time_by_power(tmp_path: Path) -> None:
    journey = Journey.read(write_workspace(tmp_path))
    options = ReleaseOptions(cpu_watts_per_core=12.0, gpus=0, carbon_grams_per_kwh=500.0)
    cost = stage_cost(journey["pretrain"], options)
    assert cost.cpu_seconds == pytest.approx(1.9 * 284)
    assert cost.energy_watt_hours == pytest.approx(1.9 * 284 / 3600 * 12)
    assert cost.carbon_grams == pytest.approx(1.9 * 284 / 3600 * 12 / 1000 * 500)
    whole = total(costs(journey))
    assert whole.wall_seconds == pytest.approx(sum(cost.wall_seconds for cost in costs(journey)))
    assert whole.peak_memory_bytes == max(cost.peak_memory_bytes for cost in costs(journey))


def test_cost_of_the_paper(tmp_path: Path) -> None:
    """Llama 3.1's card: 30.84 million hours of 700 W GPUs for the 405B, 8,930 tonnes of CO2 equivalent."""
    journey = Journey.read(write_workspace(tmp_path))
    options = ReleaseOptions(gpus=16_384, cpu_watts_per_core=1e-9)
    record = journey["pretrain"]
    manifest = {**record.manifest, "wall_seconds": 30.84e6 / 16_384 * 3600}
    cost: Cost = stage_cost(type(record)("pretrain", record.folder, manifest, {}), options)
    assert cost.gpu_seconds / 3600 == pytest.approx(30.84e6)
    assert cost.carbon_grams / 1e6 == pytest.approx(8930, rel=0.002)
    tokens = type(record)("tokens", record.folder, manifest, {})
    assert stage_cost(tokens, options).gpu_seconds == 0
