"""The chapter of pretraining shows what the metrics measured, and goes without what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from herdsman.files import read_json, write_json
from herdsman.release.chapters import learning
from herdsman.release.journey import Record
from herdsman.release.report import write_report
from tests.release.example import write_workspace

SPEED = {
    "devices": 8,
    "peak": {"flops_per_second": 989e12, "source": "NVIDIA H100 SXM data sheet, dense bfloat16"},
    "phases": [
        {
            "phase": "main",
            "steps": 3,
            "seconds": 51.6,
            "tokens_per_second": 81_224.0,
            "mfu_whole": 0.595,
            "mfu_causal": 0.528,
            "hfu_whole": 0.646,
            "data_share": 0.013,
            "memory_allocated_bytes": 71_200_000_000,
        }
    ],
}


def page(root: Path, shares: dict[str, float], speed: dict[str, Any]) -> str:
    write_workspace(root)
    summary, manifest = (read_json(root / "pretrain" / name) for name in ("summary.json", "manifest.json"))
    for row in summary["curve"]:
        row |= {f"share.{stream}": share for stream, share in shares.items()}
        row |= {f"loss.{stream}": row["loss"] + share for stream, share in shares.items()}
    manifest["metrics"] = {"speed": speed}
    write_json(root / "pretrain" / "summary.json", summary)
    write_json(root / "pretrain" / "manifest.json", manifest)
    write_report(root, root / "report.html")
    return (root / "report.html").read_text(encoding="utf-8")


def test_losses_of_streams_and_speed_are_shown(tmp_path: Path) -> None:
    shares = {f"stream{number}": (number + 1) / 28 for number in range(7)}
    html = page(tmp_path, shares, SPEED)
    assert "Training loss by stream" in html
    legends = [f"stream{number}</span>" in html for number in range(7)]
    assert legends == [False, False, True, True, True, True, True]
    assert "The 5 streams of which most was read; 2 more are not shown." in html
    for shown in ("81,224", "59.5%", "52.8%", "64.6%", "1.3%", "71.2 GB", "9.89 × 10¹⁴", "NVIDIA H100 SXM data sheet"):
        assert shown in html, shown


def test_an_older_workspace_has_neither(tmp_path: Path) -> None:
    html = page(tmp_path, {}, {})
    assert "Training loss by stream" not in html
    assert "What a step reached" not in html
    assert "Gradient norm, before clipping" in html


def test_gates_averages_and_ledger_are_shown() -> None:
    measured = {"step": 9, "tokens": 9000, "short_context_loss": 2.0, "needle": 0.5}
    passed = measured | {"needle": 1.0, "tokens": 12000}
    summary = {
        "phases": [{"name": "main"}, {"name": "long context 16K"}],
        "gates": {"1": {"short_context_before": 1.99, "measurements": [measured, passed], "passed": True}},
        "averaged_steps": [1, 2],
        "validation_loss": {"last_checkpoint": 2.5, "uniform_average": 2.25, "exponential_average": 2.3},
        "taken": {"general.best": {"tokens": 1234, "epochs": 0.5, "padding": 0, "sources": {"a": 1000, "b": 234}}},
    }
    record = Record("pretrain", Path(), {"metrics": {}}, summary)
    text = str([*learning._averages(record), *learning._gates(record), *learning._taken(record)])
    for shown in ("2.2500", "uniform average", "long context 16K", "50", "not yet", "passed", "1,234", "general.best"):
        assert shown in text
