"""What the report shows of the documents stage, counted from the files it wrote."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents.options import CATEGORIES
from herdsman.documents.store import read_documents, read_dropped
from herdsman.files import read_json

if TYPE_CHECKING:
    from herdsman.documents.refine import Corpus
    from herdsman.documents.units import Unit

# What the steps that see all documents drop by; the names are those of the funnel's steps.
URL_DUPLICATE, NEAR_DUPLICATE, REPEATED_LINES = "url dedup", "near-duplicates", "lines"
EXTRACTION, LANGUAGE = ("hostile markup", "no text"), ("language unclear", "language not wanted")
EXAMPLES, PAIRS, DOMAINS, LINES, REASONS = 3, 3, 10, 10, 10
EXAMPLE_CHARS, PAIR_CHARS, DOCUMENT_CHARS = 300, 1500, 600
HISTOGRAM_BINS = 20
_NUMBER = re.compile(r"\d[\d.,:TZ-]*")


@dataclass
class Kept:
    """Sums over the kept documents; characters are of text, training_bytes by stream `category.tier`."""

    documents: int = 0
    characters: int = 0
    held_out: dict[str, int] = field(default_factory=lambda: {"documents": 0, "characters": 0})
    training_bytes: Counter[str] = field(default_factory=Counter)
    languages: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    streams: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    domains: dict[tuple[str, ...], list[int]] = field(default_factory=dict)
    examples: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass
class DroppedPages:
    """Sums over the dropped documents, by what dropped them."""

    documents: int = 0
    by: dict[str, dict[str, Any]] = field(default_factory=dict)

    def number(self, name: str) -> int:
        return self.by[name]["documents"] if name in self.by else 0


def report(folder: Path) -> dict[str, Any]:
    """The report that a step left of a unit."""
    found: dict[str, Any] = read_json(folder / "report.json")
    return found


def survey_kept(out: Path) -> Kept:
    kept = Kept()
    for row in read_documents(out):
        size = len(row["text"])
        kept.documents += 1
        kept.characters += size
        if row["split"] == "held_out":
            kept.held_out["documents"] += 1
            kept.held_out["characters"] += size
        else:
            kept.training_bytes[f"{row['category']}.{row['tier']}"] += len(row["text"].encode())
        _add(kept.languages, (row["language"],), size)
        _add(kept.streams, (row["category"], row["tier"]), size)
        _add(kept.domains, (row["domain"],), size)
        best = kept.examples.get(row["category"])
        if best is None or _exemplary(row) > _exemplary(best):
            kept.examples[row["category"]] = row
    return kept


def survey_dropped(out: Path) -> DroppedPages:
    dropped = DroppedPages()
    for row in read_dropped(out):
        dropped.documents += 1
        entry = dropped.by.setdefault(row["dropped_by"], {"documents": 0, "reasons": Counter(), "examples": []})
        entry["documents"] += 1
        entry["reasons"][_NUMBER.sub("…", row["reason"])] += 1
        if len(entry["examples"]) < EXAMPLES:
            example = {"url": row["url"], "text": row["text"][:EXAMPLE_CHARS], "reason": row["reason"]}
            entry["examples"].append(example)
    for entry in dropped.by.values():
        entry["reasons"] = dict(_commonest(entry["reasons"], REASONS))
    return dropped


def summarise(
    units: list[Unit],
    corpus: Corpus,
    kept: Kept,
    dropped: DroppedPages,
    scores: NDArray[np.float32],
    quality: dict[str, Any],
    mix: dict[str, Any],
    similarity: float,
) -> dict[str, Any]:
    """The summary as the report reads it. Needs the units' scratch files."""
    extracted = [report(unit.extracted) for unit in units]
    cleaned = [report(unit.cleaned) for unit in units]
    lines: Counter[int] = Counter()
    samples: dict[int, str] = {}
    masked: Counter[str] = Counter()
    for part in cleaned:
        for line, count, key in part["lines"]:
            lines[key] += count
            samples.setdefault(key, line)
        masked.update(part["masked"])
    pages = sum(part["pages"] for part in extracted)
    html_characters = sum(part["html_characters"] for part in extracted)
    histogram, _ = np.histogram(scores, bins=HISTOGRAM_BINS, range=(0, 1))
    return {
        "pages": pages,
        "funnel": _funnel(pages, html_characters, corpus, kept, dropped),
        "dropped": dropped.by,
        "duplicates": {
            "documents": dropped.number(NEAR_DUPLICATE),
            "pairs": _pairs(units, corpus, similarity),
        },
        "lines": {
            "removed": lines.total(),
            "top": [{"line": samples[key], "count": count} for key, count in _commonest(lines, LINES)],
        },
        "masked": dict(sorted(masked.items())),
        "languages": _table(("language",), kept.languages),
        "categories": _table(("category", "tier"), kept.streams),
        "quality": {"histogram": histogram.tolist(), **quality},
        "mix": mix,
        "domains": _table(("domain",), kept.domains)[:DOMAINS],
        "held_out": kept.held_out,
        "examples": [
            {
                "title": row["title"],
                "url": row["url"],
                "category": row["category"],
                "text": row["text"][:DOCUMENT_CHARS],
            }
            for row in (kept.examples[name] for name in CATEGORIES if name in kept.examples)
        ],
    }


def _funnel(
    pages: int, html_characters: int, corpus: Corpus, kept: Kept, dropped: DroppedPages
) -> list[dict[str, Any]]:
    """Documents and characters after each step. Characters of pages are those of their HTML; None where they were not
    counted, because of a document that is dropped early only the beginning is kept."""

    def left(documents: int, names: Iterable[str]) -> int:
        return documents - sum(map(dropped.number, names))

    fates = np.array([fate[0] if fate else "" for fate in corpus.fates], object)
    extracted = left(pages, EXTRACTION)
    filters = [
        name
        for name in dropped.by
        if name not in {*EXTRACTION, *LANGUAGE, URL_DUPLICATE, NEAR_DUPLICATE, REPEATED_LINES}
    ]
    steps: list[tuple[str, int, int | None]] = [
        ("pages", pages, html_characters),
        ("extracted", extracted, None),
        ("filters", left(extracted, filters), None),  # language comes last of what is asked of a page
        ("language", len(fates), int(corpus.characters.sum())),
    ]
    for name in (URL_DUPLICATE, NEAR_DUPLICATE):
        fates[fates == name] = None
        counted = fates != None  # noqa: E711
        steps.append((name, int(counted.sum()), int(corpus.characters[counted.astype(bool)].sum())))
    steps += [(REPEATED_LINES, kept.documents, kept.characters), ("kept", kept.documents, kept.characters)]
    return [{"step": name, "documents": documents, "characters": chars} for name, documents, chars in steps]


def _pairs(units: list[Unit], corpus: Corpus, threshold: float) -> list[dict[str, Any]]:
    """Near duplicates with their twins: those least alike, from the middle, and most alike without being equal."""
    places = [at for at, fate in enumerate(corpus.fates) if fate and fate[0] == NEAR_DUPLICATE]
    telling = [at for at in places if threshold <= corpus.similarity[at] < 1] or places
    telling.sort(key=lambda at: (corpus.similarity[at], at))
    chosen = list(
        dict.fromkeys(telling[(len(telling) - 1) * part // max(PAIRS - 1, 1)] for part in range(PAIRS) if telling)
    )
    ends = np.cumsum(corpus.sizes)

    def shown(at: int) -> dict[str, str]:
        number = int(np.searchsorted(ends, at, side="right"))
        table = parquet.read_table(units[number].extracted / "candidates.parquet", columns=["url", "text"])
        row = table.slice(at - int(ends[number]) + corpus.sizes[number], 1).to_pylist()[0]
        return {"url": row["url"], "text": row["text"][:PAIR_CHARS]}

    return [
        {"left": shown(at), "right": shown(int(corpus.twins[at])), "similarity": round(float(corpus.similarity[at]), 4)}
        for at in chosen
    ]


def _exemplary(row: dict[str, Any]) -> tuple[bool, float]:
    return len(row["text"]) >= DOCUMENT_CHARS, row["quality"]


def _add(sums: dict[tuple[str, ...], list[int]], key: tuple[str, ...], characters: int) -> None:
    entry = sums.setdefault(key, [0, 0])
    entry[0] += 1
    entry[1] += characters


def _table(names: tuple[str, ...], sums: dict[tuple[str, ...], list[int]]) -> list[dict[str, Any]]:
    """Rows in falling order of characters."""
    rows = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    return [dict(zip(names, key, strict=True)) | {"documents": n, "characters": chars} for key, (n, chars) in rows]


def _commonest(counter: Counter[Any], number: int) -> list[tuple[Any, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], item[0]))[:number]
