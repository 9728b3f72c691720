"""The whole stage on real documents and real questions: what it writes, twice the same, killed and resumed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from herdsman.documents.store import KEPT, write_rows
from herdsman.errors import InputError
from herdsman.evaluation.evaluate import evaluate
from herdsman.evaluation.statistics import bits_per_byte, wilson
from herdsman.files import read_json, read_jsonl
from herdsman.progress import SILENT
from herdsman.workspace import Work, Workspace
from tests.evaluation.herd import EVALUATION, killed_when, lay_herd, real_documents, run_stage

MODELS = ("untrained", "characters", "base", "final")


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = lay_herd(tmp_path_factory.mktemp("evaluate") / "herd")
    run_stage(workspace, "evaluate")
    return workspace


def copy_of(herd: Workspace, root: Path) -> Workspace:
    shutil.copytree(herd.root, root, ignore=shutil.ignore_patterns("evaluate"))
    return Workspace(root)


def test_tables_are_what_the_predictions_say(herd: Workspace) -> None:
    folder = herd.folder("evaluate")
    results = read_json(folder / "results.json")
    for table in results["bits_per_byte"]:
        for model in MODELS:
            rows = read_jsonl(folder / "predictions" / f"{model}.held_out.jsonl")
            rows = [row for row in rows if table["category"] in ("all", row["category"])]
            value = bits_per_byte([row["nats"] for row in rows], [row["bytes"] for row in rows])
            entry = table["models"][model]
            assert entry["value"] == pytest.approx(value)
            assert entry["low"] <= value <= entry["high"]
            assert (len(rows), sum(row["bytes"] for row in rows)) == (table["documents"], table["bytes"])
    assert [table["category"] for table in results["bits_per_byte"]] == ["general", "code", "all"]
    for table in results["benchmarks"]:
        for model in ("base", "final"):
            rows = read_jsonl(folder / "predictions" / f"{model}.{table['benchmark']}.jsonl")
            right = sum(row[table["metric"]] for row in rows)
            entry = table["models"][model]
            assert (entry["right"], entry["score"], table["examples"]) == (right, right / len(rows), len(rows))
            assert (entry["low"], entry["high"]) == pytest.approx(wilson(right, len(rows)))
    names = [(table["benchmark"], table["metric"]) for table in results["benchmarks"]]
    assert names == [
        *((name, metric) for name in ("arc_challenge", "openbookqa") for metric in ("acc", "acc_norm")),
        ("gsm8k", "strict"),
        ("gsm8k", "flexible"),
    ]


def test_random_models_are_worse_than_counting_characters_and_guess_at_questions(herd: Workspace) -> None:
    metrics = herd.manifest("evaluate")["metrics"]
    assert metrics["bits_per_byte"]["characters"] < 3.5 < metrics["bits_per_byte"]["untrained"]
    for table in read_json(herd.folder("evaluate") / "results.json")["benchmarks"]:
        if table["chance"]:
            assert table["chance"] == pytest.approx(0.25, abs=0.01)
            assert all(entry["low"] < table["chance"] < entry["high"] for entry in table["models"].values())


def test_held_out_documents_only(herd: Workspace) -> None:
    held_out = {row["id"] for row in real_documents() if row["split"] == "held_out"}
    for model in MODELS:
        rows = read_jsonl(herd.folder("evaluate") / "predictions" / f"{model}.held_out.jsonl")
        assert {row["id"] for row in rows} <= held_out
        assert sum(row["bytes"] for row in rows) >= EVALUATION.held_out_bytes


def test_the_summary_shows_answers_of_both_models(herd: Workspace) -> None:
    summary = herd.summary("evaluate")
    assert {example["benchmark"] for example in summary["examples"]} == {"arc_challenge", "openbookqa", "gsm8k"}
    assert all(set(example["answers"]) == {"base", "final"} for example in summary["examples"])


def test_twice_gives_the_same_bytes_and_so_does_a_killed_stage(herd: Workspace, tmp_path: Path) -> None:
    digest = herd.manifest("evaluate")["digest"]
    again = copy_of(herd, tmp_path / "again")
    written: dict[Path, int] = {}
    for name in ("untrained.held_out", "base.openbookqa", "final.arc_challenge"):
        killed_when(again, "evaluate", f"predictions/{name}.jsonl")
        kept = sorted((again.folder("evaluate") / "predictions").glob("*.jsonl"))
        times = {path: path.stat().st_mtime_ns for path in kept}
        assert times.items() >= written.items(), "a finished measurement was taken again"
        written = times
    assert run_stage(again, "evaluate") == digest
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_no_held_out_documents_is_one_sentence(herd: Workspace, tmp_path: Path) -> None:
    rows = [row | {"split": "train"} for row in real_documents()]
    write_rows(tmp_path / "documents" / "kept-00000.parquet", rows, KEPT)
    inputs = {need: herd.folder(need) for need in ("tokenizer", "pretrain", "posttrain")}
    work = Work("evaluate", tmp_path / "out", {**inputs, "documents": tmp_path / "documents"}, 1, 1, SILENT)
    with pytest.raises(InputError, match="no held-out documents"):
        evaluate(EVALUATION, work)
