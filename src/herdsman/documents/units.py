"""What worker processes do with one file of pages at a time; a step whose files stand is done.

scratch/extracted/<unit>/   candidates.parquet, dropped.parquet, facts.parquet (of the dropped), report.json,
                            numbers.npy, signatures.npy, lines.npy (see `NUMBERS`)
scratch/<step>/<unit>.npy   what the steps that see all documents need of each unit (see `corpus`)
scratch/cleaned/<unit>/     documents.parquet, dropped.parquet, facts.parquet (of the candidates), report.json
scratch/scored/<unit>.parquet   what the classifiers say of the cleaned documents
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents import steps
from herdsman.documents.duplicates.lines import Repeated, line_keys, remove_lines
from herdsman.documents.duplicates.near_duplicates import Signer
from herdsman.documents.duplicates.shuffle import Spread, save
from herdsman.documents.duplicates.word_hashes import hash_of
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.page_to_document import DROPPED_CHARS, Candidate, Dropped, document_of
from herdsman.documents.quality.rubric import rubric
from herdsman.documents.quality.teach import Scorer
from herdsman.documents.store import DROPPED, FACTS, FEATURES, KEPT, ROWS_AT_ONCE, write_rows, write_table
from herdsman.files import atomic_folder, write_json

NUMBERS = np.dtype(
    [
        ("id", "V16"),
        ("domain", "<u8"),  # hash
        ("address", "<u8"),  # hash of the normalised address
        ("seconds", "<i8"),  # when it was crawled, since 1970; 0 if unknown
        ("characters", "<i8"),
        ("language", "<u8"),  # hash
        ("words", "<i8"),
        ("masked", "<i8"),  # pieces of private data
        ("lines", "<i8"),  # how many of its lines may be removed: their keys follow one another in lines.npy
        ("grade", "<f4"),  # by the rubric, if duplicates are chosen by it
    ]
)
_MEASURED = ("id", "url", "source", "crawled_at", "bytes", "characters", "language", "language_score", "masked_kinds")
_WRITTEN = ("id", "url", "domain", "crawled_at", "title", "language", "language_score", "source", "licence")
CANDIDATES = pa.schema(
    [
        *(FACTS.field(name) for name in (*_MEASURED, *FEATURES)),
        *(KEPT.field(name) for name in _WRITTEN if name not in _MEASURED),
        ("text", pa.string()),
        ("kinds", pa.string()),
    ]
)
CLEANED = pa.schema(
    [
        *(KEPT.field(name) for name in (*_WRITTEN, "text", "split")),
        ("kinds", pa.string()),
        ("features", pa.struct([(name, pa.float64()) for name in FEATURES])),
        ("rubric", pa.float64()),
    ]
)
SCORED = pa.schema([KEPT.field(name) for name in ("quality", "reference", "category", "topic")])


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
        return self.scratch / "scored" / f"{self.name}.parquet"

    def of(self, step: str) -> Path:
        """The file of a step that sees all documents."""
        return self.scratch / step / f"{self.name}.npy"

    def numbers(self) -> NDArray[np.void]:
        found: NDArray[np.void] = np.load(self.extracted / "numbers.npy", mmap_mode="r")
        return found


def extract_unit(options: DocumentsOptions, unit: Unit) -> None:
    """Pages to candidates, each with its signature and the keys of its lines."""
    if unit.extracted.exists():
        return
    signer = Signer(options.duplicates)
    graded = options.duplicates.keep == "best"
    dropped: list[dict[str, Any]] = []
    facts: list[dict[str, Any]] = []
    numbers: list[tuple[Any, ...]] = []
    keys: list[NDArray[np.uint64]] = []
    signatures = [np.empty((0, signer.hashes), np.uint16)]
    with atomic_folder(unit.extracted) as beside:
        with (
            parquet.ParquetFile(unit.pages) as file,
            parquet.ParquetWriter(beside / "candidates.parquet", CANDIDATES, compression="lz4") as out,
        ):
            for batch in file.iter_batches(ROWS_AT_ONCE):
                columns: dict[str, list[Any]] = {name: [] for name in CANDIDATES.names}
                for page in batch.to_pylist():
                    one = document_of(page, options)
                    row = _facts(page, one)
                    if isinstance(one, Dropped):
                        dropped.append({name: getattr(one, name) for name in DROPPED.names})
                        facts.append(row | {"characters": one.characters, "dropped_by": one.dropped_by, "twin": ""})
                        continue
                    for name, values in columns.items():
                        values.append(row[name] if name in row else getattr(one, name, None))
                    line = line_keys(one.text, one.kinds, one.language)
                    keys.append(line[line != 0])
                    numbers.append((
                        bytes.fromhex(one.id), hash_of(one.domain), hash_of(one.normalised_url),
                        _seconds(one.crawled_at), len(one.text), hash_of(one.language), int(one.features["words"]),
                        int(one.features["masked"]), len(keys[-1]),
                        rubric(one.text, one.kinds, one.features) if graded else 0,
                    ))  # fmt: skip
                if columns["text"]:
                    signatures.append(signer.sign(columns["text"]))
                    out.write_table(pa.table(columns, CANDIDATES))
        write_rows(beside / "dropped.parquet", dropped, DROPPED)
        write_rows(beside / "facts.parquet", facts, FACTS)
        save(beside / "numbers.npy", np.array(numbers, NUMBERS))
        save(beside / "signatures.npy", np.concatenate(signatures))
        save(beside / "lines.npy", np.concatenate([np.empty(0, np.uint64), *keys]))


def _facts(page: dict[str, Any], one: Candidate | Dropped) -> dict[str, Any]:
    """What was measured of a page."""
    return {
        "id": one.id,
        "url": one.url,
        "source": page["source"],
        "crawled_at": page["crawled_at"],
        "bytes": len(page["html"]),
        "characters": len(one.text),
        "language": one.language,
        "language_score": one.language_score,
        "masked_kinds": json.dumps(one.masked, sort_keys=True),
        **one.features,
    }


def _seconds(date: str) -> int:
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        return 0
    return max(0, int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()))


@dataclass(frozen=True)
class Cleaning:
    """What is decided about a unit's candidates once all of them are known; arrays [candidates].

    Attributes:
        start: place of the first one among all.
        fates: see `corpus.FATES`; 0 for those that go on.
        superiors: places of the documents that duplicates were dropped for.
        twins: places of those that these were dropped for in turn, up to one that was not.
        similarity: to the superior.
        divergence: of its tokens from those of its language; NaN where it was not measured.
        buckets: in which lines are counted.
    """

    unit: Unit
    start: int
    fates: NDArray[np.uint8]
    superiors: NDArray[np.int64]
    twins: NDArray[np.int64]
    similarity: NDArray[np.float32]
    divergence: NDArray[np.float64]
    buckets: NDArray[np.int64]


@dataclass(frozen=True)
class Clean:
    """Candidates to cleaned documents: without the duplicates and the repeated lines, with rubric and split.

    Attributes:
        numbers: those files of all units, in order.
        repeated: files of repeated lines of each bucket.
    """

    options: DocumentsOptions
    numbers: Sequence[Path]
    repeated: Sequence[Sequence[Path]]

    def __call__(self, cleaning: Cleaning) -> None:
        unit = cleaning.unit
        if unit.cleaned.exists():
            return
        table = parquet.read_table(unit.extracted / "candidates.parquet")
        texts, facts = self._clean_lines(cleaning, table)
        dropped_by = facts["dropped_by"]
        stays = np.array([not name for name in dropped_by], bool)
        left = table.filter(pa.array(stays))
        features = left.select(FEATURES).to_pylist()
        kept_texts = [texts[at] for at in np.flatnonzero(stays).tolist()]
        documents = {name: left[name] for name in _WRITTEN} | {
            "text": pa.array([text for text, _ in kept_texts], pa.string()),
            "kinds": pa.array([kinds for _, kinds in kept_texts], pa.string()),
            "split": [split_of(id, self.options.held_out_share) for id in left["id"].to_pylist()],
            "features": pa.array(features, CLEANED.field("features").type),
            "rubric": [rubric(*both, row) for both, row in zip(kept_texts, features, strict=True)],
        }
        reasons = facts.pop("reason")
        gone = table.filter(pa.array(~stays))
        with atomic_folder(unit.cleaned) as beside:
            write_json(beside / "report.json", {"lines": facts.pop("lines")})
            write_table(beside / "documents.parquet", pa.table(documents, CLEANED))
            columns = {
                name: facts.get(name, table[name] if name in table.column_names else None) for name in FACTS.names
            }
            write_table(beside / "facts.parquet", pa.table(columns, FACTS))
            rows = {name: gone[name] for name in ("id", "url")} | {
                "text": pc.utf8_slice_codeunits(gone["text"], 0, DROPPED_CHARS),
                "dropped_by": [name for name in dropped_by if name],
                "reason": [reason for reason in reasons if reason],
                "twin": [twin for twin, name in zip(facts["twin"], dropped_by, strict=True) if name],
            }
            write_table(beside / "dropped.parquet", pa.table(rows, DROPPED))

    def _clean_lines(self, cleaning: Cleaning, table: pa.Table) -> tuple[dict[int, tuple[str, str]], dict[str, Any]]:
        """Texts with the kinds of their lines, of those that go on by their rows, and the facts of all candidates."""
        size = len(table)
        reasons, names, twins = self._fates(cleaning)
        removed: Counter[int] = Counter()
        samples: dict[int, str] = {}
        left: list[int | None] = [None] * size
        lost: list[int | None] = [None] * size
        texts: dict[int, tuple[str, str]] = {}
        touched, repeated = self._touched(cleaning)
        for at in np.flatnonzero(cleaning.fates == 0).tolist():
            text, kinds = table["text"][at].as_py(), table["kinds"][at].as_py()
            length, gone = len(text), list[tuple[int, str]]()
            if touched[at]:
                keys = line_keys(text, kinds, table["language"][at].as_py())
                which = repeated[int(cleaning.buckets[at])].removed(keys, cleaning.start + at)
                text, kinds, gone = remove_lines(text, kinds, keys, which)
            share = len(text) / max(length, 1)
            left[at], lost[at] = len(text), len(gone)
            if gone and (share < self.options.duplicates.lines_left_share or not text.strip()):
                names[at] = steps.REPEATED_LINES
                reasons[at] = f"without lines that many documents repeat, {share:.0%} of the text is left"
                continue
            texts[at] = text, kinds
            for key, line in gone:
                removed[key] += 1
                samples.setdefault(key, line.strip())
        similar = np.isin(cleaning.fates, [at for at, name in enumerate(FATES) if name in _SIMILAR])
        return texts, {
            "characters_left": pa.array(left, pa.int64()),
            "lines_removed": pa.array(lost, pa.int32()),
            "dropped_by": names,
            "reason": reasons,
            "twin": twins,
            "similarity": pa.array(cleaning.similarity, mask=~similar),
            "divergence": pa.array(cleaning.divergence, from_pandas=True),
            "lines": [[samples[key], count, key] for key, count in sorted(removed.items())],
        }

    def _touched(self, cleaning: Cleaning) -> tuple[NDArray[np.bool_], dict[int, Repeated]]:
        """Which candidates have repeated lines, and the repeated lines of the unit's buckets."""
        counts = cleaning.unit.numbers()["lines"]
        keys = np.load(cleaning.unit.extracted / "lines.npy")
        repeated = {bucket: Repeated.load(self.repeated[bucket]) for bucket in np.unique(cleaning.buckets).tolist()}
        buckets = np.repeat(cleaning.buckets, counts)
        hits = np.zeros(len(keys), bool)
        for bucket, lines in repeated.items():
            mine = buckets == bucket
            hits[mine] = lines.hits(keys[mine])
        rows = np.repeat(np.arange(len(counts)), counts)
        return np.bincount(rows[hits], minlength=len(counts)) > 0, repeated

    def _fates(self, cleaning: Cleaning) -> tuple[list[str], list[str], list[str]]:
        """Why each candidate was dropped, by what, and its twin; "" for those that go on."""
        names = [FATES[fate] for fate in cleaning.fates.tolist()]
        reasons, twins = [""] * len(names), [""] * len(names)
        duplicates = np.flatnonzero(cleaning.twins != cleaning.start + np.arange(len(names)))
        numbers = Spread(self.numbers)
        superiors = numbers.take(cleaning.superiors[duplicates])
        others = numbers.take(cleaning.twins[duplicates])
        words = self.options.duplicates.shingle_words
        for at, superior, other in zip(duplicates.tolist(), superiors, others, strict=True):
            twins[at] = other["id"].tobytes().hex()
            similarity = float(cleaning.similarity[at])
            if names[at] == steps.URL_DUPLICATE:
                seconds = int(superior["seconds"])
                date = (
                    datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else "unknown date"
                )
                reasons[at] = f"the version of {date} is kept of this address"
            elif names[at] == steps.NEAR_DUPLICATE:
                chain = ", by way of documents between them" if similarity < self.options.duplicates.similarity else ""
                reasons[at] = (
                    f"it shares about {similarity:.0%} of the phrases of {words} words with another document{chain}"
                )
            else:
                reasons[at] = f"it means what another document says (cosine {similarity:.2f})"
        for at in np.flatnonzero(cleaning.fates == FATES.index(steps.OUTLIER_TOKENS)).tolist():
            reasons[at] = f"its words diverge by {cleaning.divergence[at]:.2f} from those of its language"
        for at in np.flatnonzero(cleaning.fates == FATES.index(steps.PRIVATE_DOMAIN)).tolist():
            reasons[at] = "much private data stands on the pages of its domain"
        return reasons, names, twins


FATES = (
    "", steps.URL_DUPLICATE, steps.NEAR_DUPLICATE, steps.SEMANTIC_DUPLICATE, steps.OUTLIER_TOKENS, steps.PRIVATE_DOMAIN,
)  # fmt: skip
_SIMILAR = (steps.NEAR_DUPLICATE, steps.SEMANTIC_DUPLICATE)


def split_of(id: str, held_out_share: float) -> str:
    """The split of a document: a hash of its id decides, so it stays where it is in whatever corpus it stands."""
    drawn = int.from_bytes(blake2b(id.encode(), digest_size=8, person=b"held out").digest(), "big") / 2**64
    return "held_out" if drawn < held_out_share else "train"


def score_unit(models: Path, unit: Unit) -> None:
    """What the classifiers say of each cleaned document."""
    if unit.scored.exists():
        return
    scorer = Scorer(models)
    columns: dict[str, list[Any]] = {name: [] for name in SCORED.names}
    with parquet.ParquetFile(unit.cleaned / "documents.parquet") as file:
        for batch in file.iter_batches(ROWS_AT_ONCE, columns=["text", "kinds", "language", "features", "rubric"]):
            for name, values in scorer.score(batch.to_pylist()).items():
                columns[name] += values
    write_table(unit.scored, pa.table(columns, SCORED))


def publish_unit(out: Path, threshold: float, unit: Unit) -> None:
    """Writes the final files of a unit: its kept documents with quality and tier, all that were dropped, and facts."""
    scored = parquet.read_table(unit.scored)
    table = parquet.read_table(unit.cleaned / "documents.parquet")
    best = pc.greater_equal(scored["quality"], pa.scalar(threshold, pa.float32()))
    columns = {name: table[name] for name in table.column_names} | {name: scored[name] for name in SCORED.names}
    columns["tier"] = pc.if_else(best, "best", "rest")
    write_table(out / f"kept-{unit.name}.parquet", pa.table({name: columns[name] for name in KEPT.names}, KEPT))
    for name in ("dropped", "facts"):
        pieces = [parquet.read_table(folder / f"{name}.parquet") for folder in (unit.extracted, unit.cleaned)]
        write_table(out / f"{name}-{unit.name}.parquet", pa.concat_tables(pieces))
