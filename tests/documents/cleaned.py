"""Cleaned documents of real pages, as the classifiers are taught on them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet

from herdsman.artifacts import fetch_all, iter_members
from herdsman.documents.extraction.extract import extract
from herdsman.documents.extraction.hostile import HostileMarkup
from herdsman.documents.quality.rubric import rubric

PACKAGES = {"sqlalchemy": 1, "lxml": 1, "alembic": 1, "mako": 1, "docutils": 1, "python-doc": 3}  # and every n-th page
MOST_BYTES, FEWEST_CHARS = 120_000, 300


def cleaned_rows() -> Iterator[dict[str, Any]]:
    """Some hundred documents of the sample's packages, one in twenty held out."""
    for name, path in fetch_all(tuple(PACKAGES)).items():
        pages = (member for member in iter_members(path) if member.name.endswith(".html"))
        for number, member in enumerate(pages):
            with member.open() as file:
                html = file.read(MOST_BYTES + 1)
            if number % PACKAGES[name] or len(html) > MOST_BYTES:
                continue
            try:
                found = extract(html)
            except HostileMarkup:
                continue
            if len(found.text) >= FEWEST_CHARS:
                id = md5(f"{name} {member.name}".encode()).hexdigest()
                yield {
                    "id": id,
                    "url": f"https://{name}.example/{member.name}",
                    "language": "en",
                    "text": found.text,
                    "kinds": found.kinds,
                    "features": json.dumps(found.features),
                    "rubric": rubric(found.text, found.kinds, found.features),
                    "split": "held_out" if int(id[:2], 16) < 13 else "train",
                }


def write_cleaned(folder: Path, rows: list[dict[str, Any]], files: int = 3) -> list[Path]:
    """Lays documents into files as the documents stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    size = -(-len(rows) // files)
    for number in range(files):
        part = pa.Table.from_pylist(rows[number * size : (number + 1) * size])
        parquet.write_table(part, folder / f"{number}.parquet", row_group_size=100)
    return sorted(folder.iterdir())
