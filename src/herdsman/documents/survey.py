"""Counting what a documents stage wrote, a row group at a time: nothing here grows with the number of documents."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from herdsman.documents.store import read_batches, read_facts

EXAMPLES = 3
EXAMPLE_CHARS, DOCUMENT_CHARS = 300, 600
HISTOGRAM_BINS = 20
MOST_NAMES = 100_000  # that are counted at a time: of more, the rarest are forgotten now and then
_NUMBER = r"\d[\d.,:TZ-]*"


@dataclass
class Survey:
    """Sums over a finished stage's files.

    Attributes:
        pages, documents, dropped: counts of pages, of kept and of dropped documents.
        fates: by (source, language, name of what dropped it or ""): [pages, bytes of HTML, characters of text as
            extracted, characters that are left, repeated lines removed].
        held_out: documents and characters.
        training: [number, UTF-8 bytes] of the training documents by (category, topic, tier), as `make_mix` takes them.
        masked: pieces of private data in kept documents, by kind.
        reasons, shown: of each filter, its reasons without their numbers, and its first documents.
    """

    pages: int = 0
    documents: int = 0
    dropped: int = 0
    fates: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    held_out: dict[str, int] = field(default_factory=lambda: {"documents": 0, "characters": 0})
    training: dict[tuple[str, str, str], list[int]] = field(default_factory=dict)
    streams: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    domains: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    histogram: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BINS)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)
    masked: Counter[str] = field(default_factory=Counter)
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    shown: dict[str, list[dict[str, str]]] = field(default_factory=dict)

    def dropped_by(self, name: str) -> int:
        return sum(sums[0] for (_, _, by), sums in self.fates.items() if by == name)


def survey(out: Path) -> Survey:
    """Counts everything that the mix, the manifest and the report need, from `facts-*`, `kept-*` and `dropped-*`."""
    found = Survey()
    names, sums = ("source", "language", "dropped_by"), ["bytes", "characters", "characters_left", "lines_removed"]
    for batch in read_facts(out, [*names, *sums, "masked_kinds"]):
        found.pages += len(batch)
        _sum(found.fates, batch, names, sums)
        kept = batch.filter(pc.equal(batch["dropped_by"], ""))
        for entry in pc.value_counts(kept["masked_kinds"]).to_pylist():
            for kind, number in json.loads(entry["values"] or "{}").items():
                found.masked[kind] += number * entry["counts"]
    for batch in read_batches(out, "kept"):
        found.documents += len(batch)
        _survey_kept(found, batch)
    for batch in read_batches(out, "dropped", ["url", "text", "dropped_by", "reason"]):
        found.dropped += len(batch)
        _survey_dropped(found, batch)
    return found


def _survey_kept(found: Survey, batch: pa.RecordBatch) -> None:
    """Counts kept documents; of each category the best one of some length is an example."""
    sizes = pa.table(
        {name: batch[name] for name in ("category", "tier", "topic", "domain", "split")}
        | {"characters": pc.utf8_length(batch["text"]), "bytes": pc.binary_length(batch["text"])}
    )
    _sum(found.streams, sizes, ("category", "tier"), ["characters"])
    _sum(found.domains, sizes, ("domain",), ["characters"])
    if len(found.domains) > 2 * MOST_NAMES:
        found.domains = dict(sorted(found.domains.items(), key=lambda item: (-item[1][1], item[0]))[:MOST_NAMES])
    held_out = pc.equal(sizes["split"], "held_out")
    found.held_out["documents"] += pc.sum(held_out).as_py() or 0
    found.held_out["characters"] += pc.sum(sizes["characters"].filter(held_out)).as_py() or 0
    _sum(found.training, sizes.filter(pc.invert(held_out)), ("category", "topic", "tier"), ["bytes"])
    quality = batch["quality"].to_numpy(zero_copy_only=False)
    counts, _ = np.histogram(quality, bins=HISTOGRAM_BINS, range=(0, 1))
    found.histogram = [one + other for one, other in zip(found.histogram, counts.tolist(), strict=True)]
    exemplary = quality + 2 * (sizes["characters"].to_numpy() >= DOCUMENT_CHARS)
    categories = np.array(batch["category"].to_pylist(), object)
    for category in sorted(set(categories)):
        at = int(np.argmax(np.where(categories == category, exemplary, -1)))
        if category not in found.examples or exemplary[at] > found.examples[category]["exemplary"]:
            row = batch.slice(at, 1).select(["title", "url", "category", "text"]).to_pylist()[0]
            found.examples[category] = row | {"exemplary": exemplary[at]}


def _survey_dropped(found: Survey, batch: pa.RecordBatch) -> None:
    """Counts reasons, numbers in them left out; of each filter the first documents are examples."""
    table = pa.table({"by": batch["dropped_by"], "reason": pc.replace_substring_regex(batch["reason"], _NUMBER, "…")})
    for row in table.group_by(["by", "reason"], use_threads=False).aggregate([([], "count_all")]).to_pylist():
        reasons = found.reasons.setdefault(row["by"], Counter())
        if row["reason"] in reasons or len(reasons) < MOST_NAMES:
            reasons[row["reason"]] += row["count_all"]
    for name in pc.unique(batch["dropped_by"]).to_pylist():
        shown = found.shown.setdefault(name, [])
        if len(shown) < EXAMPLES:
            rows = batch.filter(pc.equal(batch["dropped_by"], name)).slice(0, EXAMPLES - len(shown)).to_pylist()
            shown += [{"url": r["url"], "text": r["text"][:EXAMPLE_CHARS], "reason": r["reason"]} for r in rows]


def _sum(
    sums: dict[Any, list[int]], table: pa.Table | pa.RecordBatch, keys: tuple[str, ...], values: list[str]
) -> None:
    """Adds rows and the sums of some columns to those known of each combination of keys."""
    table = pa.table(table) if isinstance(table, pa.Table) else pa.Table.from_batches([table])
    wanted: list[Any] = [([], "count_all"), *((value, "sum") for value in values)]
    for row in table.group_by(list(keys), use_threads=False).aggregate(wanted).to_pylist():
        entry = sums.setdefault(tuple(row[key] or "" for key in keys), [0] * (1 + len(values)))
        for at, name in enumerate(["count_all", *(f"{value}_sum" for value in values)]):
            entry[at] += row[name] or 0


def commonest(counter: Counter[Any], number: int) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:number]
