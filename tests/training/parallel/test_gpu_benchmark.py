"""The benchmark for GPUs, run where there is none: what it measures must be there when somebody has one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "benchmarks/training/gpu.py"


@pytest.mark.slow
def test_the_benchmark_checks_and_then_times_every_setting(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--small", "--out", out], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(out.read_text())
    assert [(row["precision"], row["attention"], row["right"]) for row in results["correctness"]] == [
        ("float32", "dense", True),
        ("bfloat16", "dense", True),
        ("bfloat16", "tiled", True),
    ]
    assert 0 < results["correctness"][1]["norm_off"] < 0.04
    rows = {row["setting"].partition(" ")[0]: row for row in results["speed"]}
    assert {"plain:", "attention", "recompute", "micro-batches", "transformers"} <= set(rows)
    for row in results["speed"]:
        assert row["tokens_per_second_per_device"] == pytest.approx(4 * 64 / row["seconds"])
        assert row["mfu_whole"] > row["mfu_causal"] > row.get("mfu_visible", 0.0)
        assert f"| {row['setting']} |" in done.stdout


def test_without_a_gpu_it_says_so() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (1, "there is no GPU here; --small runs the script on a CPU\n")
