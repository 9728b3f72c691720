"""What worker processes do with one file of pages at a time; a step whose files stand is done.

scratch/extracted/<unit>/   candidates.parquet, dropped.parquet, report.json
scratch/cleaned/<unit>/     documents.parquet, dropped.parquet, report.json
scratch/scored/<unit>.npy   quality of the cleaned documents
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents.categories import categorise
from herdsman.documents.filter_options import FilterOptions
from herdsman.documents.lines import Keys, line_keys, remove_lines
from herdsman.documents.near_duplicates import Signer
from herdsman.documents.page_to_document import DROPPED_CHARS, Dropped, documents_of
from herdsman.documents.quality import Classifier, rubric
from herdsman.documents.store import DROPPED, KEPT, ROWS_AT_ONCE, write_rows, write_table
from herdsman.documents.summary import REPEATED_LINES
from herdsman.files import atomic_folder, atomic_open, write_json

CANDIDATES = pa.schema(
    [
        *(
            KEPT.field(name)
            for name in ("id", "url", "domain", "crawled_at", "title", "language", "language_score", "text")
        ),
        *(KEPT.field(name) for name in ("source", "licence")),
        ("normalised_url", pa.string()),
        ("characters", pa.int64()),
        ("kinds", pa.string()),
        ("features", pa.string()),  # JSON
        ("masked", pa.string()),  # JSON
        ("signature", pa.binary()),  # uint32 [HASHES]
        ("line_keys", pa.list_(pa.uint64())),  # of those lines that may be removed
    ]
)
CLEANED = pa.schema([*(field for field in KEPT if field.name not in ("quality", "tier")), ("rubric", pa.float64())])
Fate = tuple[str, str, str]
"""Name of what drops a document, reason, id of the kept twin."""


@dataclass(frozen=True)
class Unit:
    """One file of pages and where its pieces lie."""

    name: str
    pages: Path
    scratch: Path

    @property
    def extracted(self) -> Path:
        return self.scratch / "extracted" / self.name

    @property
    def cleaned(self) -> Path:
        return self.scratch / "cleaned" / self.name

    @property
    def scored(self) -> Path:
        return self.scratch / "scored" / f"{self.name}.npy"


@dataclass(frozen=True)
class Cleaning:
    """What is decided about a unit's candidates once all of them are known.

    Attributes:
        fates: of each candidate; None for those that go on.
        buckets: of each candidate, the bucket in which its lines are counted.
    """

    unit: Unit
    fates: list[Fate | None]
    buckets: list[int]


def extract_unit(options: FilterOptions, unit: Unit) -> None:
    """Pages to candidates, each with its signature and the keys of its lines."""
    if unit.extracted.exists():
        return
    signer = Signer()
    dropped: list[Dropped] = []
    report: Counter[str] = Counter(pages=0, html_characters=0)
    with atomic_folder(unit.extracted) as beside:
        with (
            parquet.ParquetFile(unit.pages) as file,
            parquet.ParquetWriter(beside / "candidates.parquet", CANDIDATES) as out,
        ):
            for batch in file.iter_batches(ROWS_AT_ONCE):
                pages = batch.to_pylist()
                passed, failed, _ = documents_of(pages, options)
                report.update(pages=len(pages), html_characters=sum(len(page["html"]) for page in pages))
                dropped += failed
                rows = []
                for candidate in passed:
                    keys = line_keys(candidate.text, candidate.kinds, candidate.language)
                    row = asdict(candidate)
                    row |= {name: json.dumps(row[name], sort_keys=True) for name in ("features", "masked")}
                    row |= {"signature": signer.sign(candidate.text).tobytes(), "line_keys": keys[keys != 0]}
                    row["characters"] = len(candidate.text)
                    rows.append(row)
                if rows:
                    out.write_table(pa.Table.from_pylist(rows, CANDIDATES))
        write_rows(beside / "dropped.parquet", map(asdict, dropped), DROPPED)
        write_json(beside / "report.json", report)


def clean_unit(options: tuple[float, float], cleaning: Cleaning) -> None:
    """Candidates to cleaned documents: without the duplicates and the repeated lines, with rubric, category and split.

    Args:
        options: `lines_left_share` and `held_out_share`.
    """
    unit, (left_share, held_out_share) = cleaning.unit, options
    if unit.cleaned.exists():
        return
    repeated = {bucket: np.load(repeated_file(unit.scratch, bucket)) for bucket in sorted(set(cleaning.buckets))}
    dropped: list[dict[str, Any]] = []
    removed: Counter[int] = Counter()
    samples: dict[int, str] = {}
    masked: Counter[str] = Counter()
    characters = before_lines = 0
    with atomic_folder(unit.cleaned) as beside, parquet.ParquetWriter(beside / "documents.parquet", CLEANED) as out:
        number = 0
        for rows in _batches(unit.extracted / "candidates.parquet"):
            cleaned = []
            for row in rows:
                fate, bucket = cleaning.fates[number], cleaning.buckets[number]
                number += 1
                characters += len(row["text"])
                if fate is None:
                    before_lines += len(row["text"])
                    fate = _clean(row, repeated[bucket], left_share, removed, samples)
                if fate is not None:
                    dropped.append(_dropped(row, fate))
                    continue
                masked.update(json.loads(row["masked"]))
                cleaned.append(row | {"split": split_of(row["id"], held_out_share)})
            if cleaned:
                out.write_table(pa.Table.from_pylist(cleaned, CLEANED))
        write_rows(beside / "dropped.parquet", dropped, DROPPED)
        write_json(
            beside / "report.json",
            {
                "characters": characters,
                "characters_before_lines": before_lines,
                "lines": [[samples[key], count, key] for key, count in sorted(removed.items())],
                "masked": masked,
            },
        )


def _clean(
    row: dict[str, Any], repeated: Keys, left_share: float, removed: Counter[int], samples: dict[int, str]
) -> Fate | None:
    """Removes repeated lines from a candidate and measures what is left; its fate if that is too little."""
    text, kinds, lost = remove_lines(
        row["text"], row["kinds"], line_keys(row["text"], row["kinds"], row["language"]), repeated
    )
    share = len(text) / max(len(row["text"]), 1)
    if lost and (share < left_share or not text.strip()):
        return REPEATED_LINES, f"without lines that many documents repeat, {share:.0%} of the text is left", ""
    for key, line in lost:
        removed[key] += 1
        samples.setdefault(key, line.strip())
    features = json.loads(row["features"])
    row["text"] = text
    row["rubric"] = rubric(text, kinds, features)
    row["category"] = categorise(row["language"], text, kinds, features)
    return None


def _dropped(row: dict[str, Any], fate: Fate) -> dict[str, Any]:
    dropped_by, reason, twin = fate
    text = row["text"][:DROPPED_CHARS]
    return {"id": row["id"], "url": row["url"], "text": text, "dropped_by": dropped_by, "reason": reason, "twin": twin}


def repeated_file(scratch: Path, bucket: int) -> Path:
    """Where the sorted keys of the lines lie that are repeated in a bucket of documents."""
    return scratch / f"repeated-{bucket:05d}.npy"


def split_of(id: str, held_out_share: float) -> str:
    """The split of a document: a hash of its id decides, so it stays where it is in whatever corpus it stands."""
    drawn = int.from_bytes(blake2b(id.encode(), digest_size=8, person=b"held out").digest(), "big") / 2**64
    return "held_out" if drawn < held_out_share else "train"


def score_unit(classifier: Path | None, unit: Unit) -> None:
    """Quality of each cleaned document, float32; the rubric's own if there is no classifier."""
    if unit.scored.exists():
        return
    if classifier is None:
        scores = parquet.read_table(unit.cleaned / "documents.parquet", columns=["rubric"])["rubric"].to_numpy()
    else:
        student = Classifier(classifier)
        texts = (row["text"] for rows in _batches(unit.cleaned / "documents.parquet", ["text"]) for row in rows)
        scores = np.array([student.score(text) for text in texts])
    with atomic_open(unit.scored) as file:
        np.save(file, scores.astype(np.float32))


def publish_unit(out: Path, threshold: float, unit: Unit) -> None:
    """Writes the final files of a unit: its kept documents with quality and tier, and all that were dropped."""
    quality: NDArray[np.float32] = np.load(unit.scored)
    table = parquet.read_table(unit.cleaned / "documents.parquet")
    tiers = pa.array(np.where(quality >= np.float32(threshold), "best", "rest").tolist(), pa.string())
    table = table.append_column("quality", pa.array(quality)).append_column("tier", tiers)
    write_table(out / f"kept-{unit.name}.parquet", table.select(KEPT.names).cast(KEPT))
    pieces = [parquet.read_table(folder / "dropped.parquet") for folder in (unit.extracted, unit.cleaned)]
    write_table(out / f"dropped-{unit.name}.parquet", pa.concat_tables(pieces))


def _batches(path: Path, columns: list[str] | None = None) -> Iterator[list[dict[str, Any]]]:
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=columns):
            yield batch.to_pylist()
