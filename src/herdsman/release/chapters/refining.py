"""Chapter of the documents: what became of the pages, with examples of everything that was taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from herdsman.release import figures
from herdsman.release.blocks import (
    Bar,
    Bars,
    Block,
    Example,
    Figure,
    Figures,
    Fold,
    Funnel,
    FunnelRow,
    Histogram,
    Pair,
    Table,
    Texts,
    clip,
    compare,
)
from herdsman.release.journey import Journey, Record

TITLE = "Refining documents"
EXAMPLES, PAIRS, ROWS = 3, 4, 12
EXAMPLE_CHARACTERS, DOCUMENT_CHARACTERS, PAIR_CHARACTERS = 500, 1200, 1400


def lead(record: Record) -> str:
    kept, characters = _kept(record)
    share = f", {figures.percent(kept / record.get('pages'), 0)} of the pages" if record.get("pages", 0) else ""
    copies = record.get("duplicates.documents", 0)
    return (
        f"{figures.count(kept)} documents are worth reading{share}: {figures.short_count(characters)} characters of "
        f"text. {figures.count(copies)} were near copies of another."
    )


def blocks(journey: Journey) -> list[Block]:
    record = journey["documents"]
    return [
        _figures(record),
        _funnel(record),
        *_reasons(record),
        *_pairs(record),
        *_lines(record),
        *_quality(record),
        *_languages(record),
        *_mix(record),
        *_examples(record),
    ]


def _kept(record: Record) -> tuple[int, int]:
    """Documents and characters left at the end of the funnel."""
    last = (record.get("funnel") or [{"documents": 0, "characters": 0}])[-1]
    return last["documents"], last["characters"]


def _figures(record: Record) -> Figures:
    kept, characters = _kept(record)
    masked = record.get("masked", {})
    kinds = ", ".join(kind.replace("_", " ") for kind, number in sorted(masked.items()) if number)
    return Figures(
        [
            Figure(figures.count(kept), "documents", f"of {figures.count(record.get('pages', 0))} pages"),
            Figure(figures.short_count(characters), "characters"),
            Figure(figures.count(record.get("held_out.documents", 0)), "held out", "to measure with, never trained on"),
            Figure(figures.count(sum(masked.values())), "private data masked", kinds),
        ]
    )


def _funnel(record: Record) -> Funnel:
    dropped = record.get("dropped", {})
    rows, before = [], None
    for step in record.get("funnel", []):
        left = step["documents"]
        rows.append(
            FunnelRow(
                step["step"].replace("_", " "),
                left,
                max(0, (left if before is None else before) - left),
                f"{figures.short_count(step['characters'])} characters" if step.get("characters") else "",
                _dropped_examples(dropped.get(step["step"], {})),
            )
        )
        before = left
    return Funnel("From pages to documents", "documents", rows)


def _dropped_examples(entry: Mapping[str, Any]) -> list[Example]:
    return [
        Example(example["url"], clip(example["text"], EXAMPLE_CHARACTERS), example["reason"])
        for example in entry.get("examples", [])[:EXAMPLES]
    ]


def _reasons(record: Record) -> list[Block]:
    rows = [
        (name.replace("_", " "), reason, figures.count(number))
        for name, entry in sorted(record.get("dropped", {}).items(), key=lambda item: -item[1]["documents"])
        for reason, number in sorted(entry.get("reasons", {}).items(), key=lambda item: (-item[1], item[0]))
    ]
    if not rows:
        return []
    table = Table("", ("dropped by", "reason", "documents"), rows, text_columns=(0, 1))
    return [Fold("Every reason, counted", [table])]


def _pairs(record: Record) -> list[Block]:
    pairs = [_pair(pair) for pair in record.get("duplicates.pairs", [])[:PAIRS]]
    return [*pairs[:1], *([Fold("More near copies", pairs[1:])] if pairs[1:] else [])]


def _pair(pair: Mapping[str, Any]) -> Pair:
    left, right = compare(clip(pair["left"]["text"], PAIR_CHARACTERS), clip(pair["right"]["text"], PAIR_CHARACTERS))
    shared = figures.percent(pair["similarity"], 0)
    note = f"They share {shared} of their word 5-grams; what only one of them has is marked."
    return Pair("A near copy, and its twin that was kept", pair["left"]["url"], left, pair["right"]["url"], right, note)


def _lines(record: Record) -> list[Block]:
    top, removed = record.get("lines.top", []), record.get("lines.removed", 0)
    if not top:
        return []
    items = [Bar(clip(row["line"], 90), row["count"], figures.count(row["count"]), colour="clay") for row in top[:ROWS]]
    note = f"{figures.count(removed)} lines were removed because too many documents repeat them; these most often."
    return [Bars("Lines that every page repeats", items, note=note)]


def _quality(record: Record) -> list[Block]:
    counts, threshold = record.get("quality.histogram", []), record.get("quality.threshold")
    if not any(counts):
        return []
    note = "From 0 (like what was dropped) to 1 (like the best pages), as a fastText classifier sees it."
    if threshold is not None:
        note += f" Documents from {threshold:.2f} on make the tier “best”, which annealing reads more often."
    return [Histogram("Quality of the documents", counts, "documents", threshold, note)]


def _languages(record: Record) -> list[Block]:
    rows = record.get("languages", [])
    if not rows:
        return []
    items = [_share_bar(row["language"], row, rows) for row in rows[:ROWS]]
    note = f"And {len(rows) - ROWS} more." if len(rows) > ROWS else ""
    return [Bars("Languages", items, note=note)]


def _share_bar(label: str, row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Bar:
    share = row["characters"] / max(1, sum(other["characters"] for other in rows))
    return Bar(label, share, figures.percent(share), f"{row['documents']:,} documents", colour="sky")


def _mix(record: Record) -> list[Block]:
    """What there is, and what pretraining and annealing read of it."""
    rows = record.get("categories", [])
    here = {f"{row['category']}.{row['tier']}": row for row in rows}
    pretrain, anneal = record.get("mix.pretrain", {}), record.get("mix.anneal", {})
    all_characters = max(1, sum(row["characters"] for row in rows))
    items = []
    for stream in sorted({*here, *pretrain, *anneal}, key=lambda name: (-pretrain.get(name, 0), name)):
        row = here.get(stream, {"characters": 0, "documents": 0})
        note = (
            f"{row['documents']:,} documents, {figures.percent(row['characters'] / all_characters)} of the characters"
        )
        if anneal:
            note += f"; annealing {figures.percent(anneal.get(stream, 0))}"
        items.append(
            Bar(
                stream.replace(".", ", "),
                pretrain.get(stream, 0),
                figures.percent(pretrain.get(stream, 0)),
                note,
                anneal.get(stream) if anneal else None,
            )
        )
    if not items:
        return []
    return [
        Bars("The mix: what the model will read", items, note="Shares of the training tokens.", mark="in annealing")
    ]


def _examples(record: Record) -> list[Block]:
    items = [
        Example(row["title"] or row["url"], clip(row["text"], DOCUMENT_CHARACTERS), f"{row['category']} · {row['url']}")
        for row in record.get("examples", [])
    ]
    if not items:
        return []
    return [
        Texts("A document, as the model reads it", items[:1]),
        *([Fold("More documents", [Texts("", items[1:])])] if items[1:] else []),
    ]
