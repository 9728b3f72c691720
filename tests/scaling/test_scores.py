"""Points of benchmarks: from rows, from tables, and tables that cannot be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.scaling.scores import Score, nats_per_character, read_scores, score_of


def test_scores_of_rows() -> None:
    rows = [
        {"logprobs": [-9.0, -2.0], "choices": ["a" * 10, "bb"], "right": 0, "acc_norm": 1},
        {"logprobs": [-1.0, -3.0, -2.0], "choices": ["x", "yyyy", "z"], "right": 1, "acc_norm": 0},
    ]
    assert nats_per_character(rows[0]) == 0.9
    found = score_of("b", "m", 1e15, rows)
    assert (found.nats_per_character, found.accuracy, found.questions) == (pytest.approx(0.825), 0.5, 2)
    assert found.chance == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_reads_tables(tmp_path: Path) -> None:
    table = tmp_path / "points.csv"
    table.write_text(
        "model,flops,nats_per_character,accuracy,questions,chance,optimal\n"
        "a,1e20,1.4,0.3,1172,0.25,1\nb,1e21,1.36,,,,0\n"
    )
    scores = read_scores(table)
    assert scores[0] == Score("benchmark", "a", 1e20, 1.4, 0.3, 1172, 0.25, True)
    assert scores[1] == Score("benchmark", "b", 1e21, 1.36, None, 0, 0.0, False)
    listed = tmp_path / "points.json"
    listed.write_text(json.dumps([vars(score) for score in scores]))
    assert read_scores(listed) == scores


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flops,nats_per_character\n1e20,\n", "line 2: nats_per_character is '', not a number"),
        ("flops,loss\n1e20,2\n", "nats_per_character is None"),
        ("flops,nats_per_character,accuracy\n1e20,1.4,0.5\n", "questions is None"),
        ("flops,nats_per_character,accuracy,questions,chance\n1e20,1.4,50,10,0.2\n", "numbers that cannot be"),
        ("flops,nats_per_character\n", "no points"),
    ],
)
def test_bad_tables_are_told_of(tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "points.csv"
    table.write_text(text)
    with pytest.raises(InputError, match=said):
        read_scores(table)
