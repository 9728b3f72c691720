"""What the report shows of the documents stage, counted from the files it wrote.

Nothing here grows with the number of documents, but for 12 bytes of each duplicate.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc

from herdsman.documents.options import CATEGORIES
from herdsman.documents.steps import NEAR_DUPLICATE, SEMANTIC_DUPLICATE, STEPS
from herdsman.documents.store import find_rows, read_facts
from herdsman.documents.survey import DOCUMENT_CHARS, MOST_NAMES, Survey, commonest
from herdsman.files import read_json

_STEP_OF = {name: at for at, (_, names) in enumerate(STEPS) for name in names} | {"": len(STEPS) - 1}
_FILTERS = [step for step, _ in STEPS].index("filters")
DOMAINS, LINES, REASONS, ROWS = 10, 10, 10, 10
PAIR_CHARS = 1500
PAIRS_AT = (0.1, 0.5, 0.9)  # of all pairs of duplicates that are not equal, in order of their similarity


def describe(
    out: Path,
    found: Survey,
    reports: Iterable[Path],
    quality: Mapping[str, Any],
    mix: Mapping[str, Any],
    memory: Mapping[str, int],
) -> dict[str, Any]:
    """The summary as the report reads it.

    Args:
        out: the stage's folder with its final files.
        found: what `survey` counted there.
        reports: of each unit in order the `report.json` of its cleaning, with "lines": [line, times removed, key].
        quality: "threshold" and "judge" (who taught the scores), and "models": {name: {figure on held-out labels}}.
        mix: as `make_mix` returned it.
        memory: bytes held at once for all documents, by what they are held for.
    """
    lines: Counter[int] = Counter()
    samples: dict[int, str] = {}
    removed = 0
    for path in reports:
        for line, count, key in read_json(path)["lines"]:
            lines[key] += count
            removed += count
            samples.setdefault(key, line)
        if len(lines) > 2 * MOST_NAMES:
            lines = Counter(dict(commonest(lines, MOST_NAMES)))
            samples = {key: samples[key] for key in lines}
    fates = found.fates
    return {
        "pages": found.pages,
        "funnel": [
            {"step": name, "documents": left[0], "characters": left[1]}
            for (name, _), left in zip(STEPS, _funnel(fates.items()), strict=True)
        ],
        "funnels": {"source": _funnels(fates, 0), "language": _funnels(fates, 1)},
        "dropped": {
            name: {
                "documents": found.dropped_by(name),
                "reasons": dict(commonest(reasons, REASONS)),
                "examples": found.shown[name],
            }
            for name, reasons in found.reasons.items()
        },
        "duplicates": {
            "documents": found.dropped_by(NEAR_DUPLICATE),
            "pairs": _pairs(out, NEAR_DUPLICATE),
            "semantic": found.dropped_by(SEMANTIC_DUPLICATE),
            "semantic_pairs": _pairs(out, SEMANTIC_DUPLICATE) if found.dropped_by(SEMANTIC_DUPLICATE) else [],
        },
        "lines": {
            "removed": removed,
            "top": [{"line": samples[key], "count": count} for key, count in commonest(lines, LINES)],
        },
        "masked": dict(sorted(found.masked.items())),
        "languages": _table(("language",), _languages(fates)),
        "categories": _table(("category", "tier"), found.streams),
        "quality": {"histogram": found.histogram, **quality},
        "mix": dict(mix),
        "memory": dict(memory),
        "domains": _table(("domain",), found.domains)[:DOMAINS],
        "held_out": found.held_out,
        "examples": [
            {
                "title": row["title"],
                "url": row["url"],
                "category": row["category"],
                "text": row["text"][:DOCUMENT_CHARS],
            }
            for row in (found.examples[name] for name in CATEGORIES if name in found.examples)
        ],
    }


def _funnel(fates: Iterable[tuple[tuple[str, str, str], list[int]]]) -> list[tuple[int, int]]:
    """Documents and characters after each of `STEPS`. Characters of pages are those of their HTML, later ones those of
    the text as extracted, from the removal of lines on those that are left."""
    lost = np.zeros((len(STEPS), 4), np.int64)
    for (_, _, name), sums in fates:
        lost[_STEP_OF.get(name, _FILTERS)] += sums[:4]
    left = np.cumsum(lost[::-1], axis=0)[::-1]  # what is lost in a step or later
    after = [left[0], *left[2:], left[-1]]
    return [
        (int(row[0]), int(row[1] if at == 0 else row[3] if at >= len(STEPS) - 2 else row[2]))
        for at, row in enumerate(after)
    ]


def _funnels(fates: dict[tuple[str, str, str], list[int]], key: int) -> list[dict[str, Any]]:
    """The funnel of each source (key 0) or language (key 1), the largest first, the small ones together as "other"."""
    pages: Counter[str] = Counter()
    for names, sums in fates.items():
        pages[names[key]] += sums[0]
    ranked = [name for name, _ in commonest(pages, len(pages))]
    named = set(ranked[: ROWS if len(ranked) > ROWS + 1 else ROWS + 1])
    groups: dict[str, list[Any]] = {
        name: [] for name in [*ranked[: len(named)], *(["other"] if named < {*ranked} else [])]
    }
    for names, sums in fates.items():
        groups[names[key] if names[key] in named else "other"].append((names, sums))
    rows = []
    for name, group in groups.items():
        funnel = _funnel(group)
        rows.append({
            "name": name,
            "documents": [documents for documents, _ in funnel],
            "characters": [characters for _, characters in funnel],
        })  # fmt: skip
    return rows


def _languages(fates: dict[tuple[str, str, str], list[int]]) -> dict[tuple[str, ...], list[int]]:
    """Documents and characters that are kept in each language."""
    sums: dict[tuple[str, ...], list[int]] = {}
    for (_, language, name), (documents, _, _, characters, _) in fates.items():
        if name == "":
            entry = sums.setdefault((language,), [0, 0])
            entry[0] += documents
            entry[1] += characters
    return sums


def _pairs(out: Path, name: str) -> list[dict[str, Any]]:
    """Duplicates with their twins: unlike ones, from the middle, and very alike ones that are not equal."""
    alike, places = [np.zeros(0, np.float32)], [np.zeros(0, np.int64)]
    start = 0
    for batch in read_facts(out, ["dropped_by", "similarity"]):
        found = batch["similarity"].to_numpy(zero_copy_only=False).astype(np.float32)
        unlike = np.flatnonzero(pc.equal(batch["dropped_by"], name).to_numpy(zero_copy_only=False) & (found < 1))
        alike.append(found[unlike])
        places.append(unlike + start)
        start += len(batch)
    order = np.concatenate(places)[np.argsort(np.concatenate(alike), kind="stable")]
    chosen = list(dict.fromkeys(int(order[int(share * (len(order) - 1))]) for share in PAIRS_AT if len(order)))
    rows, start = {}, 0
    for batch in read_facts(out, ["id", "twin", "similarity"]):
        for at in chosen:
            if start <= at < start + len(batch):
                rows[at] = batch.slice(at - start, 1).to_pylist()[0]
        start += len(batch)
    ids = {row[key] for row in rows.values() for key in ("id", "twin")}
    # A twin may itself have been dropped by a later step.
    texts = find_rows(out, "dropped", ids, ["url", "text"]) | find_rows(out, "kept", ids, ["url", "text"])

    def shown(id: str) -> dict[str, str]:
        return {"url": texts[id]["url"], "text": texts[id]["text"][:PAIR_CHARS]}

    return [
        {"left": shown(row["id"]), "right": shown(row["twin"]), "similarity": round(row["similarity"], 4)}
        for row in (rows[at] for at in chosen)
        if row["id"] in texts and row["twin"] in texts
    ]


def _table(names: tuple[str, ...], sums: dict[tuple[str, ...], list[int]]) -> list[dict[str, Any]]:
    """Rows in falling order of characters."""
    rows = sorted(sums.items(), key=lambda item: (-item[1][1], item[0]))
    return [dict(zip(names, key, strict=True)) | {"documents": n, "characters": chars} for key, (n, chars) in rows]
