"""Reading kept documents shard by shard, the unit that the stages of this folder work in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet

from herdsman.errors import InputError

ROWS_AT_ONCE = 256


def kept_shards(folder: Path) -> list[Path]:
    """Shards of kept documents, in stored order.

    Raises:
        InputError: there are none.
    """
    shards = sorted(folder.glob("kept-*.parquet"))
    if not shards:
        raise InputError("no kept documents are here", where=folder, do="run the documents stage first")
    return shards


def read_batches(shard: Path, split: str, columns: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
    """Documents of one split, a few hundred at a time, in stored order, with their text and the columns named."""
    with parquet.ParquetFile(shard) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=[*dict.fromkeys([*columns, "split", "text"])]):
            yield [row for row in batch.to_pylist() if row["split"] == split]


def read_texts(folder: Path, split: str, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Documents of one split of all shards, in stored order.

    Raises:
        InputError: there are no shards.
    """
    for shard in kept_shards(folder):
        for batch in read_batches(shard, split, columns):
            yield from batch
