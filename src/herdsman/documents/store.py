"""The files that documents are stored in: kept ones and, beside them, every dropped one with the reason.

Parquet, compressed with zstd; a file of kept and a file of dropped documents for each file of pages, in its order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

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
        ("quality", pa.float32()),  # 0 to 1, see `quality`
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
ROWS_AT_ONCE = 256
_REPETITIVE = ("domain", "language", "source", "licence", "category", "tier", "split", "dropped_by", "twin")


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


def read_dropped(folder: Path) -> Iterator[dict[str, Any]]:
    """The dropped documents of a documents stage as dictionaries with the columns of `DROPPED`, in stored order.

    Raises:
        InputError: the stage has not been run here.
    """
    yield from _read(folder, "dropped", None)


def _read(folder: Path, prefix: str, columns: list[str] | None) -> Iterator[dict[str, Any]]:
    paths = sorted(folder.glob(f"{prefix}-*.parquet"))
    if not paths:
        raise InputError(f"no {prefix} documents are here", where=folder, do="run the documents stage first")
    for path in paths:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
                yield from batch.to_pylist()
