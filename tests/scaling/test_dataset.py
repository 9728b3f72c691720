"""A new data set beside a herd's streams: its forms, its split, and both read as one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from herdsman.documents.store import KEPT, read_documents, write_rows
from herdsman.errors import InputError
from herdsman.files import read_json
from herdsman.progress import SILENT
from herdsman.scaling.dataset import STREAM, fingerprint_of, identity, lay_beside, read_texts, with_mix
from herdsman.scaling.sweep import INPUTS
from herdsman.tokens.loader import TokenOrder
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.turns import Segment

TEXTS = [f"Note {number}: wool costs {number * 7} crowns a bale this week, milk half as much." for number in range(60)]


def write_lines(path: Path, texts: list[str]) -> Path:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def test_reads_every_form(tmp_path: Path) -> None:
    lines = write_lines(tmp_path / "lines.jsonl", TEXTS)
    files = tmp_path / "files"
    (files / "deep").mkdir(parents=True)
    for number, text in enumerate(TEXTS):
        (files / ("deep" if number % 2 else ".") / f"{number:02d}.txt").write_text(text)
    ours = tmp_path / "ours"
    ours.mkdir()
    write_rows(
        ours / "kept-00000.parquet",
        [{"id": f"{n:032x}", "text": t, "split": "train"} for n, t in enumerate(TEXTS)],
        KEPT,
    )
    for data in (lines, files, ours):
        assert sorted(row["text"] for row in read_texts(data)) == sorted(TEXTS)


def test_streams_of_both_are_read_as_one(herd: Path, tmp_path: Path) -> None:
    inputs = {name: herd / name for name in INPUTS}
    leaked = next(read_documents(herd / "documents", split="held_out", columns=["text"]))["text"]
    data = write_lines(tmp_path / "new.jsonl", [*TEXTS, TEXTS[0], leaked, "  "])
    lay_beside(data, tmp_path / "out", inputs, 0.2, 1, 1, SILENT)
    rows = list(read_documents(tmp_path / "out" / "documents"))
    assert sorted(row["text"] for row in rows) == sorted(TEXTS)  # once each, and nothing that the herd holds out
    held_out = [row for row in rows if row["split"] == "held_out"]
    assert 3 <= len(held_out) <= 24
    streams, before = TokenStreams.open(tmp_path / "out" / "tokens"), TokenStreams.open(herd / "tokens")
    assert streams.sizes() == {**before.sizes(), STREAM: streams.sizes()[STREAM]}
    assert streams.sizes()[STREAM]["documents"] == len(TEXTS) - len(held_out)
    order = TokenOrder(streams, 1, [Segment({STREAM: 0.5, "code.rest": 0.5}, 2048, 64)])
    text = Tokenizer.load(herd / "tokenizer").decode(order.read(0, 32, 64).tokens[:, :-1].ravel().tolist())
    assert "crowns a bale" in text
    assert "def " in text
    assert order.ledger()[STREAM].sources == {"new.jsonl": order.ledger()[STREAM].tokens}
    assert order.ledger()["code.rest"].sources == {"python": order.ledger()["code.rest"].tokens}


def test_another_mix_of_the_same_documents(herd: Path, tmp_path: Path) -> None:
    folder = with_mix(herd / "documents", tmp_path / "mixed", "anneal", {"code.rest": 1.0})
    assert list(read_documents(folder)) == list(read_documents(herd / "documents"))
    mixes = read_json(folder / "mix.json")
    assert mixes["anneal"] == {"code.rest": 1.0}
    assert mixes["pretrain"] == read_json(herd / "documents" / "mix.json")["pretrain"]
    assert with_mix(herd / "documents", tmp_path / "mixed", "anneal", {"code.rest": 1.0}) == folder
    other = with_mix(herd / "documents", tmp_path / "mixed", "anneal", {"general.rest": 1.0})
    assert fingerprint_of(other) != fingerprint_of(folder)


def test_identity_follows_the_files(tmp_path: Path) -> None:
    data = write_lines(tmp_path / "new.jsonl", TEXTS)
    before = identity(data)
    assert identity(data) == before
    os.utime(data, (1, 1))
    assert identity(data) != before
    with pytest.raises(InputError, match="no such file or folder"):
        identity(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n{"body": "x"}\n', "line 2: is not a JSON object with a field text"),
        ("a.jsonl", "text\n", "line 1: is not a JSON object"),
        ("a.csv", "text\nx\n", "no data set is here"),
    ],
)
def test_what_cannot_be_read_is_told_of(tmp_path: Path, name: str, text: str, said: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        list(read_texts(tmp_path))


def test_a_set_of_held_out_text_alone_is_refused(herd: Path, tmp_path: Path) -> None:
    texts = [row["text"] for row in read_documents(herd / "documents", split="held_out", columns=["text"])]
    data = write_lines(tmp_path / "new.jsonl", texts)
    with pytest.raises(InputError, match="holds no text to train on"):
        lay_beside(data, tmp_path / "out", {name: herd / name for name in INPUTS}, 0.1, 1, 1, SILENT)
    assert not (tmp_path / "out" / "documents").exists()
