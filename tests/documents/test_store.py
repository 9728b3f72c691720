"""Stored documents come back as they were, in order, by split and by column."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.documents.store import DROPPED, KEPT, read_documents, read_dropped, write_rows
from herdsman.errors import InputError


def row(number: int) -> dict[str, object]:
    texts = dict.fromkeys((field.name for field in KEPT), "ä\n")
    return texts | {
        "id": f"{number:032x}", "split": "held_out" if number % 3 == 0 else "train", "quality": 0.5,
        "language_score": 0.25, "reference": None,
    }  # fmt: skip


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    rows = [row(number) for number in range(700)]
    write_rows(tmp_path / "kept-00001.parquet", rows[300:], KEPT)
    write_rows(tmp_path / "kept-00000.parquet", rows[:300], KEPT)
    assert list(read_documents(tmp_path)) == rows
    train = list(read_documents(tmp_path, "train", ["text", "id"]))
    assert train == [{"text": "ä\n", "id": r["id"]} for r in rows if r["split"] == "train"]
    assert list(train[0]) == ["text", "id"]
    assert len(list(read_documents(tmp_path, "held_out", ["split"]))) == 234


def test_files_without_rows_are_read_too(tmp_path: Path) -> None:
    write_rows(tmp_path / "dropped-00000.parquet", [], DROPPED)
    assert list(read_dropped(tmp_path)) == []


def test_nothing_here_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no kept documents are here; run the documents stage first"):
        list(read_documents(tmp_path))
    with pytest.raises(InputError, match="no dropped documents"):
        list(read_dropped(tmp_path))
