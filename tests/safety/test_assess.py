"""The whole stage on real prompts: what it writes, twice the same, killed and resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from herdsman.documents.store import KEPT, write_rows
from herdsman.errors import InputError
from herdsman.evaluation.statistics import wilson
from herdsman.files import read_json, read_jsonl
from herdsman.progress import SILENT
from herdsman.safety.assess import assess
from herdsman.safety.guard import Guard
from herdsman.safety.tables import rate, system_results
from herdsman.workspace import Work, Workspace
from tests.evaluation.herd import SAFETY, killed_when, lay_herd, real_documents, run_stage


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = lay_herd(tmp_path_factory.mktemp("safety") / "herd")
    run_stage(workspace, "safety")
    return workspace


def test_each_prompt_has_its_reply_and_verdicts(herd: Workspace) -> None:
    rows = read_jsonl(herd.folder("safety") / "replies.jsonl")
    assert len({row["id"] for row in rows}) == len(rows) == SAFETY.prompts
    guard = Guard.load(herd.folder("safety") / "guard")
    for row in rows:
        assert row["input"]["blocked"] == (not guard.check_input(row["prompt"]).safe)
        assert row["output"]["blocked"] == (not guard.check_output(row["prompt"], row["reply"]).safe)
    assert any(row["reply"] for row in rows)
    assert {row["unsafe"] for row in rows} == {True, False}


def test_the_report_has_what_it_reads(herd: Workspace) -> None:
    summary = herd.summary("safety")
    results = read_json(herd.folder("safety") / "results.json")
    assert {name: summary[name] for name in results} == results
    xstest = summary["guard"]["xstest"]
    assert (xstest["harmful_blocked"]["examples"], xstest["harmless_blocked"]["examples"]) == (200, 250)
    assert summary["examples"]


def row(unsafe: bool, refusal: str = "", at_input: bool = False, at_output: bool = False, reply: str = "Yes.") -> dict:
    return {
        "unsafe": unsafe,
        "refusal": refusal,
        "reply": reply,
        "input": {"blocked": at_input},
        "output": {"blocked": at_output},
    }


def test_rates_of_model_and_system() -> None:
    """Four harmful and three harmless prompts, counted by hand."""
    harmful = [row(True, "declines"), row(True, at_input=True), row(True, at_output=True), row(True)]
    harmless = [row(False), row(False, "declines", at_input=True), row(False, at_input=True, at_output=True)]
    result = system_results([*harmful, *harmless])
    hits = {name: (entry["hits"], entry["examples"]) for name, entry in result["rates"].items()}
    assert hits == {
        "model.refusal": (1, 4),
        "model.violation": (3, 4),
        "model.false_refusal": (1, 3),
        "model_with_guard.refusal": (3, 4),
        "model_with_guard.violation": (1, 4),
        "model_with_guard.false_refusal": (2, 3),
    }
    assert result["change_percent"] == pytest.approx({"violation": -200 / 3, "false_refusal": 100})
    assert (result["blocked_at_input"]["hits"], result["blocked_at_output"]["hits"]) == (3, 1)


def test_a_reply_without_a_word_is_no_violation() -> None:
    rates = system_results([row(True, reply=""), row(True)])["rates"]
    assert rates["model.violation"]["hits"] == rates["model_with_guard.violation"]["hits"] == 1
    assert system_results([row(False)])["rates"]["model.violation"]["rate"] is None


def test_a_rate_has_wilsons_interval() -> None:
    entry = rate([True, False, False, True, True])
    assert (entry["low"], entry["high"]) == wilson(3, 5)


def test_twice_gives_the_same_bytes_and_so_does_a_killed_stage(herd: Workspace, tmp_path: Path) -> None:
    shutil.copytree(herd.root, tmp_path / "again", ignore=shutil.ignore_patterns("safety"))
    again = Workspace(tmp_path / "again")
    guard, replies = again.folder("safety") / "guard" / "guard.bin", again.folder("safety") / "replies.jsonl"
    killed_when(again, "safety", "scratch/guard_training.txt")
    assert not guard.exists()
    killed_when(again, "safety", "guard/guard.bin")
    trained = guard.stat().st_mtime_ns
    killed_when(again, "safety", "replies.jsonl")
    answered = replies.stat().st_mtime_ns
    assert run_stage(again, "safety") == herd.manifest("safety")["digest"]
    assert (guard.stat().st_mtime_ns, replies.stat().st_mtime_ns) == (trained, answered)


def test_too_few_documents_is_one_sentence(herd: Workspace, tmp_path: Path) -> None:
    rows = [row | {"split": "train"} for row in real_documents()]
    write_rows(tmp_path / "documents" / "kept-00000.parquet", rows, KEPT)
    inputs = {need: herd.folder(need) for need in ("tokenizer", "posttrain")} | {"documents": tmp_path / "documents"}
    with pytest.raises(InputError, match="no harmless texts to set the guard's threshold on"):
        assess(SAFETY, Work("safety", tmp_path / "out", inputs, 1, 1, SILENT))
