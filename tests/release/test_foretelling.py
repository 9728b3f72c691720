"""The chapters of forecasts: before there is one, before the outcome is known, and beside the outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdsman.files import write_json, write_jsonl
from herdsman.release.blocks import Table
from herdsman.release.chapters.foretelling import chapters
from herdsman.release.report import write_report
from herdsman.scaling.forecast import FORECAST, make_record
from tests.scaling.test_forecast import BUDGETS, LLAMA_2, simulated


@pytest.fixture
def root(tmp_path: Path) -> Path:
    scores = [
        type(score)(**{**vars(score), "benchmark": "arc_challenge"})
        for score in simulated(np.random.default_rng(0), BUDGETS, LLAMA_2)
    ]
    write_json(tmp_path / FORECAST, make_record(scores, 3.8e25, before_run=True))
    return tmp_path


def rows(root: Path) -> list[tuple]:
    (chapter,) = chapters(root)
    assert chapter.blocks is not None
    table = chapter.blocks[0]
    assert isinstance(table, Table)
    return list(table.rows)


def test_without_a_forecast_there_is_no_chapter(tmp_path: Path) -> None:
    assert chapters(tmp_path) == []


def test_before_the_outcome_is_known(root: Path) -> None:
    assert [row[-1] for row in rows(root)] == ["not yet", "not yet"]
    write_report(root, root / "report.html")
    page = (root / "report.html").read_text()
    assert "before the herd was trained, from 13 small models" in page
    assert page.index("What was forecast") < page.index("Pretraining</h2>")


def test_beside_the_outcome(root: Path) -> None:
    """A model whose right answers cost 1.18 nats a character, as forecast, but of which only every third is chosen."""
    answers = [
        {"logprobs": [-11.8, -30.0], "choices": ["a" * 10, "b" * 10], "right": 0, "acc_norm": int(n % 3 == 0)}
        for n in range(300)
    ]
    write_jsonl(root / "evaluate" / "predictions" / "base.arc_challenge.jsonl", answers)
    likelihood, accuracy = rows(root)
    assert likelihood[-2:] == ("1.180", "inside")
    assert accuracy[-2:] == ("0.333", "outside")
