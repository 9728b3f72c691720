"""A round from real documents and a random model: what it writes, and that a kill at any step changes no byte."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from herdsman.documents.store import KEPT, write_rows
from herdsman.errors import InputError
from herdsman.files import read_json, read_jsonl
from herdsman.model.store import load_model
from herdsman.posttraining.finetune import learning_rate
from herdsman.posttraining.options import PosttrainOptions
from herdsman.posttraining.round import posttrain
from herdsman.posttraining.summary import thinned
from herdsman.progress import SILENT
from herdsman.synthesis.sample import read_ledger
from herdsman.workspace import Workspace
from tests.posttraining.herd import NEEDS, OPTIONS, killed_when, lay_herd, run_round

MOMENTS = (
    "scratch/seed/0/checkpoints/step-*",
    "scratch/samples/000000.jsonl",
    "scratch/reward/1/checkpoints/step-*",
    "scratch/sft/0/checkpoints/step-*",
    "scratch/dpo/0/model/config.json",
    "scratch/answers/sft/000000.jsonl",
)


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    workspace = lay_herd(tmp_path_factory.mktemp("posttraining") / "herd")
    return workspace, run_round(workspace)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_in_the_same_bytes(raised: tuple[Workspace, str], tmp_path: Path) -> None:
    workspace = lay_herd(tmp_path / "killed")
    for moment in MOMENTS:
        killed_when(workspace, moment)
    assert run_round(workspace) == raised[1]


def test_what_it_writes(raised: tuple[Workspace, str]) -> None:
    workspace, _ = raised
    folder = workspace.folder("posttrain")
    assert load_model(folder / "model").options.layers == 2
    assert not (folder / "scratch").exists()
    rows = read_jsonl(folder / "samples.jsonl")
    samples = read_ledger(folder / "samples.jsonl")
    trained = [s for s, row in zip(samples, rows, strict=True) if row["use"] == "trained on"]
    summary = read_json(folder / "summary.json")
    assert len(trained) == summary["curation"]["kept"]
    assert all(check.verdict == "pass" for sample in trained for check in sample.checks)
    assert {sample.origin.kind for sample in samples} == {"reference", "sampled"}
    sampled = [row for row in rows if row["origin"]["kind"] == "sampled"]
    assert all(isinstance(row["reward"], float) for row in sampled)
    times = sum(row["times"] for row in sampled)
    assert times == summary["rejection"]["prompts"] * OPTIONS.sampling.samples_per_prompt
    asked = summary["rejection"]["prompts"] + summary["preferences"]["prompts"]
    assert summary["sampling"]["samples"] == asked * OPTIONS.sampling.samples_per_prompt
    preferences = read_jsonl(folder / "preferences.jsonl")
    assert len(preferences) == summary["preferences"]["ranked"] - summary["preferences"]["too_long"]
    unclear = sum(row["level"] not in ("significantly better", "better") for row in preferences)
    assert summary["dpo"] == {"pairs": summary["preferences"]["train"], "unclear": unclear, "beta": 0.1, "nll": 0.2}
    assert (
        summary["reward"]["pairs"] == summary["preferences"]["held_out"] == sum(row["held_out"] for row in preferences)
    )


def test_no_prompt_serves_two_ends(raised: tuple[Workspace, str]) -> None:
    folder = raised[0].folder("posttrain")
    measured = {json.dumps(row["messages"]) for row in read_jsonl(folder / "answers.jsonl")}
    taught = {json.dumps(row["messages"][:-1]) for row in read_jsonl(folder / "samples.jsonl")}
    ranked = {json.dumps(row["messages"]) for row in read_jsonl(folder / "preferences.jsonl")}
    assert measured
    assert not measured & taught
    assert not measured & ranked
    assert not taught & ranked


def test_success_is_counted_from_the_answers(raised: tuple[Workspace, str]) -> None:
    folder = raised[0].folder("posttrain")
    summary, answers = read_json(folder / "summary.json"), read_jsonl(folder / "answers.jsonl")
    assert summary["models"] == ["base", "seed", "sft", "final"]
    entries = [({}, summary["success"]["all"])]
    entries += [({"source": e["source"]}, e) for e in summary["success"]["sources"]]
    entries += [({"source": e["source"], "family": e["family"]}, e) for e in summary["success"]["families"]]
    for wanted, entry in entries:
        rows = [row for row in answers if all(row[key] == value for key, value in wanted.items())]
        assert entry["prompts"] == len(rows)
        for model, found in entry["models"].items():
            assert found["passed"] == sum(row["answers"][model]["passed"] for row in rows)
            assert found["low"] <= found["rate"] <= found["high"]
    shown = [(example["source"], example["family"]) for example in summary["examples"]]
    assert shown == [(e["source"], e["family"]) for e in summary["success"]["families"]]
    for row in answers:
        for answer in row["answers"].values():
            assert answer["passed"] == all(check["verdict"] == "pass" for check in answer["checks"])


def test_it_raises_success(raised: tuple[Workspace, str]) -> None:
    rates = read_json(raised[0].folder("posttrain") / "summary.json")["success"]["all"]["models"]
    assert rates["base"]["high"] < rates["final"]["low"]


def test_no_times_in_what_the_digest_covers(raised: tuple[Workspace, str]) -> None:
    folder = raised[0].folder("posttrain")
    summary = read_json(folder / "summary.json")
    assert set(summary["curves"]) == {"seed", "reward", "sft", "dpo"}
    for curve in summary["curves"].values():
        assert len(curve) > 2
        assert not any("seconds" in row for row in curve)
    assert {entry["prompt"] for entry in summary["chat"]} >= {"hi", "who are you?", "what is a list?"}


def test_documents_that_hold_too_little_are_an_error(tmp_path: Path, raised: tuple[Workspace, str]) -> None:
    workspace = lay_herd(tmp_path / "poor")
    for path in workspace.folder("documents").glob("kept-*.parquet"):
        path.unlink()
    row = {"id": "0" * 32, "title": "", "text": "Nothing.", "split": "train"}
    write_rows(workspace.folder("documents") / "kept-00000.parquet", [row], KEPT)
    with pytest.raises(InputError, match="too few words"):
        run_round(workspace)


def test_answers_that_give_no_preference_are_an_error(tmp_path: Path) -> None:
    workspace = lay_herd(tmp_path / "weak")
    changes = OPTIONS.model_dump()
    changes["seed_policy"]["epochs"], changes["sampling"]["max_new_tokens"] = 0.01, 1  # every answer is cut off
    with (
        pytest.raises(InputError, match="no preference to learn from"),
        workspace.stage("posttrain", "x", NEEDS, 1, 1, SILENT) as work,
    ):
        posttrain(PosttrainOptions(**changes), work, torch.device("cpu"))


def test_learning_rate() -> None:
    rates = [learning_rate(step, 1000, 2e-5) for step in range(1000)]
    assert rates[29] == pytest.approx(2e-5)
    assert rates[0] == pytest.approx(2e-5 / 30)
    assert rates[-1] == pytest.approx(2e-6, rel=0.01)
    assert all(later <= earlier for earlier, later in pairwise(rates[30:]))
    assert learning_rate(4, 100, 1.0) == 1.0
    assert learning_rate(0, 1, 1.0) == pytest.approx(1.0)


def test_thinned_curves_keep_means_and_first_steps() -> None:
    curve = [{"step": step, "loss": float(step)} for step in range(1000)]
    rows = thinned(curve)
    assert len(rows) == 200
    assert rows[0] == {"step": 0, "loss": 2.0}
    assert rows[-1] == {"step": 995, "loss": 997.0}
    assert thinned(curve[:3]) == curve[:3]
