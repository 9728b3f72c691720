"""The files that pages are stored in: Parquet, compressed with zstd, cut by bytes of HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from herdsman.files import atomic_path
from herdsman.pages.page import Page, domain_of

SCHEMA = pa.schema(
    [
        ("url", pa.string()),
        ("domain", pa.string()),
        ("crawled_at", pa.string()),
        ("html", pa.binary()),
        ("content_type", pa.string()),
        ("source", pa.string()),
        ("licence", pa.string()),
    ]
)
REPETITIVE = ["domain", "crawled_at", "content_type", "source", "licence"]


def write_shards(
    pages: Iterable[Page], source: str, licence: str, folder: Path, prefix: str, shard_bytes: int
) -> Iterator[list[Page]]:
    """Writes the pages to `<prefix>-00000.parquet` and so on, and yields the pages of each file once it is written.

    A file is closed by the page with which its HTML reaches `shard_bytes`, so the cuts depend on the pages alone.
    """
    number, held, held_bytes = 0, list[Page](), 0
    for page in pages:
        held.append(page)
        held_bytes += len(page.html)
        if held_bytes >= shard_bytes:
            _write(held, source, licence, folder / f"{prefix}-{number:05d}.parquet")
            yield held
            number, held, held_bytes = number + 1, [], 0
    if held:
        _write(held, source, licence, folder / f"{prefix}-{number:05d}.parquet")
        yield held


def read_pages(folder: Path, columns: list[str] | None = None) -> Iterator[dict[str, Any]]:
    """The stored pages of a finished pages stage as dictionaries, in order, one file in memory at a time."""
    for path in sorted(folder.glob("pages-*.parquet")):
        yield from pq.read_table(path, columns=columns).to_pylist()


def _write(pages: list[Page], source: str, licence: str, path: Path) -> None:
    columns = [
        [page.url for page in pages],
        [domain_of(page.url) for page in pages],
        [page.crawled_at for page in pages],
        [page.html for page in pages],
        [page.content_type for page in pages],
        [source] * len(pages),
        [licence] * len(pages),
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=SCHEMA)
    with atomic_path(path) as beside:
        pq.write_table(
            table, beside, compression="zstd", compression_level=1, use_dictionary=REPETITIVE, write_statistics=["url"]
        )
