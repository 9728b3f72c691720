"""The files that documents are stored in: kept ones, every dropped one with the reason, and the facts about each page.

Parquet, compressed with zstd; one file of each sort for each file of pages, in its order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from herdsman.documents.filtering.filters import FEATURES
from herdsman.errors import InputError
from herdsman.files import atomic_path

KEPT = pa.schema(
    [
        ("id", pa.string()),  # 32 hex digits, from address and content
        ("url", pa.string()),
        ("domain", pa.string()),
        ("crawled_at", pa.string()),
        ("title", pa.string()),
        ("language", pa.string()),
        ("language_score", pa.float32()),
        ("text", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
        ("category", pa.string()),  # see `categories`
        ("topic", pa.string()),  # "" if there is no model of topics
        ("quality", pa.float32()),  # 0 to 1, see `quality`
        ("reference", pa.float32()),  # would an encyclopedia cite it, 0 to 1; null if there is no model of it
        ("tier", pa.string()),  # "best" or "rest"
        ("split", pa.string()),  # "train" or "held_out"
    ]
)
DROPPED = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("text", pa.string()),  # the beginning
        ("dropped_by", pa.string()),
        ("reason", pa.string()),
        ("twin", pa.string()),  # id of the kept document that it duplicates, else ""
    ]
)
# What the rules look at is stored in full precision, so that a threshold asked for later meets the very same numbers.
FACTS = pa.schema(
    [
        ("id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("crawled_at", pa.string()),
        ("bytes", pa.int64()),  # of HTML
        ("characters", pa.int64()),  # of the text as extracted; null if there is none
        ("characters_left", pa.int64()),  # without repeated lines, also of what was dropped for them; null before
        ("lines_removed", pa.int32()),  # repeated lines; null where none were looked for
        ("language", pa.string()),  # "" if there is no text
        ("language_score", pa.float64()),  # null if there is no text
        ("masked_kinds", pa.string()),  # JSON, pieces of private data by kind
        ("dropped_by", pa.string()),  # "" if kept
        ("twin", pa.string()),  # id of the kept document that it duplicates, else ""
        ("similarity", pa.float32()),  # to the twin, of near and semantic duplicates; null for all others
        ("divergence", pa.float64()),  # of its tokens from those of its language, see `outliers`; null if not measured
        *((name, pa.float64()) for name in FEATURES),  # null where not measured
    ]
)
ROWS_AT_ONCE = 256
# Columns of few different values; shares are rounded, so features are such too.
_REPETITIVE = frozenset(
    ("domain", "language", "source", "licence", "category", "topic", "tier", "split", "dropped_by", "twin", *FEATURES)
)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> None:
    """Writes rows to a Parquet file that appears whole or not at all."""
    write_table(path, pa.Table.from_pylist(list(rows), schema))


def write_table(path: Path, table: pa.Table) -> None:
    """Writes a table to a Parquet file that appears whole or not at all."""
    dictionary = [name for name in table.column_names if name in _REPETITIVE]
    with atomic_path(path) as beside:
        parquet.write_table(
            table,
            beside,
            row_group_size=4 * ROWS_AT_ONCE,
            compression="zstd",
            compression_level=3,
            use_dictionary=dictionary,
            write_statistics=[name for name in ("id", "url") if name in table.column_names],
        )


def read_documents(
    folder: Path, split: str | None = None, columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The kept documents of a documents stage as dictionaries, in stored order, a few hundred in memory at a time.

    Args:
        split: "train" or "held_out"; both if left out.
        columns: names from `KEPT`; all if left out.

    Raises:
        InputError: there are no kept documents.
    """
    for row in _read(folder, "kept", None if columns is None else [*dict.fromkeys([*columns, "split"])]):
        if split is None or row["split"] == split:
            yield row if columns is None else {name: row[name] for name in columns}


def read_dropped(folder: Path, facts: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """The dropped documents of a documents stage as dictionaries with the columns of `DROPPED`, in stored order.

    Args:
        facts: names from `FACTS` of further columns to add; those of one file of pages are in memory at a time.

    Raises:
        InputError: the stage has not been run here, or by a version that wrote no facts.
    """
    if not facts:
        yield from _read(folder, "dropped", None)
        return
    for path, beside in zip(_paths(folder, "dropped"), _paths(folder, "facts"), strict=True):
        known = {(row["id"], row["dropped_by"]): row for row in _rows(beside, ["id", "dropped_by", *facts])}
        for row in _rows(path, None):
            yield row | known[row["id"], row["dropped_by"]]


def read_facts(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The facts about every page of a documents stage, kept or dropped, in stored order, piece by piece.

    Args:
        columns: names from `FACTS`; all if left out.

    Raises:
        InputError: the stage has not been run here, or by a version that wrote no facts.
    """
    yield from read_batches(folder, "facts", columns)


def read_batches(folder: Path, prefix: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of all files of one sort ("kept", "dropped", "facts"), at most a row group in memory at a time."""
    for path in _paths(folder, prefix):
        with parquet.ParquetFile(path) as file:
            yield from file.iter_batches(4 * ROWS_AT_ONCE, columns=None if columns is None else list(columns))


def find_rows(folder: Path, prefix: str, ids: Collection[str], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """The rows with these ids, by id; other columns are read only where one is. Of several rows with an id the last."""
    found: dict[str, dict[str, Any]] = {}
    wanted = pa.array(sorted(ids), pa.string())
    for path in _paths(folder, prefix):
        with parquet.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                hits = pc.is_in(file.read_row_group(group, ["id"])["id"], wanted)
                if pc.any(hits).as_py():
                    rows = file.read_row_group(group, [*dict.fromkeys(["id", *columns])]).filter(hits)
                    found |= {row["id"]: row for row in rows.to_pylist()}
    return found


def _paths(folder: Path, prefix: str) -> list[Path]:
    paths = sorted(folder.glob(f"{prefix}-*.parquet"))
    if not paths:
        what = "facts about documents" if prefix == "facts" else f"{prefix} documents"
        raise InputError(f"no {what} are here", where=folder, do="run the documents stage first")
    return paths


def _read(folder: Path, prefix: str, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    for path in _paths(folder, prefix):
        yield from _rows(path, columns)


def _rows(path: Path, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            yield from batch.to_pylist()
