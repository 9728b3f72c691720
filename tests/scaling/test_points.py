"""Tables of runs: what is read, what is reckoned, and what is said where it cannot be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdsman.errors import InputError
from herdsman.scaling.curve import Point
from herdsman.scaling.points import read_points

WHOLE = Point(6e18, 5e8, 2e9, 2.9)


@pytest.mark.parametrize(
    "text",
    [
        "flops,parameters,tokens,loss\n6e18,5e8,2e9,2.9\n",
        "\ufeffname, loss, tokens, flops\nfirst, 2.9, 2e9, 6e18\n",
        "parameters,tokens,loss,flops\n500000000,2000000000,2.9,\n",
        "flops,parameters,loss\n6e18,5e8,2.9",
        json.dumps([{"flops": 6e18, "tokens": 2e9, "loss": 2.9, "seed": 1}]),
        json.dumps({"points": [{"parameters": "5e8", "tokens": 2e9, "loss": 2.9}]}),
    ],
)
def test_whatever_is_left_out_is_reckoned(tmp_path: Path, text: str) -> None:
    (tmp_path / "runs").write_text(text, encoding="utf-8")
    assert read_points(tmp_path / "runs") == [WHOLE]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no runs; give flops, loss"),
        ("a,b\n1,2\n", "its columns are a, b; give flops, loss"),
        ("flops,tokens,loss\n", "holds no runs"),
        ("flops,tokens,loss\n6e18,2e9,2.9\n6e18,many,2.9\n", "line 3: tokens is 'many', not a number"),
        ("flops,tokens,loss\n6e18,-1,2.9\n", "line 2: tokens is -1; give a number above 0"),
        ("flops,tokens,loss\n6e18,2e9,nan\n", "line 2: loss is nan"),
        ("flops,tokens,loss\n6e18,2e9\n", "line 2: lacks parameters and loss"),
        ("[{]", "is not valid JSON"),
        ('{"runs": []}', "is not a list of runs"),
        ('[{"flops": 1}]', "its columns are flops; give"),
        ('[{"flops": [1], "tokens": 1, "loss": 1}]', "run 1: flops is [1], not a number"),
    ],
)
def test_bad_tables_are_refused_in_a_sentence(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "runs.csv").write_text(text)
    with pytest.raises(InputError) as error:
        read_points(tmp_path / "runs.csv")
    assert said in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not UTF-8"):
        read_points(tmp_path / "bytes.csv")
