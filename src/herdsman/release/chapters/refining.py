"""Chapter of the documents: what became of the pages, with examples of everything that was taken away."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import zip_longest
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
STEP_TITLES = {
    "pages": "pages gathered",
    "extracted": "text found",
    "language": "language known",
    "filters": "passed every filter",
    "url dedup": "one version of each address",
    "near-duplicates": "one of each group of near copies",
    "lines": "enough left without repeated lines",
    "kept": "kept",
}
STEP_DROPS = {
    "extracted": ("hostile markup", "no text"),
    "language": ("language",),
    "url dedup": ("url dedup",),
    "near-duplicates": ("near-duplicates",),
    "lines": ("lines",),
}
NO_FILTERS = {name for names in STEP_DROPS.values() for name in names}
MASKED = {"email": "e-mail addresses", "ip": "IP addresses", "phone": "phone numbers"}
EXAMPLES, ROWS = 3, 12
EXAMPLE_CHARACTERS, DOCUMENT_CHARACTERS, LINE_CHARACTERS = 280, 580, 140


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


def masked_kinds(record: Record) -> list[str]:
    """Private data that was masked, by kind, such as "12 IP addresses"."""
    masked = sorted(record.get("masked", {}).items())
    return [f"{number:,} {MASKED.get(kind, kind)}" for kind, number in masked if number]


def _kept(record: Record) -> tuple[int, int]:
    """Documents and characters left at the end of the funnel."""
    last = (record.get("funnel") or [{"documents": 0, "characters": 0}])[-1]
    return last["documents"], last["characters"]


def _figures(record: Record) -> Figures:
    kept, characters = _kept(record)
    masked = sum(record.get("masked", {}).values())
    return Figures(
        [
            Figure(figures.count(kept), "documents", f"of {figures.count(record.get('pages', 0))} pages"),
            Figure(figures.short_count(characters), "characters"),
            Figure(figures.count(record.get("held_out.documents", 0)), "held out", "to measure with, never trained on"),
            Figure(figures.count(masked), "private data masked", ", ".join(masked_kinds(record))),
        ]
    )


def _funnel(record: Record) -> Funnel:
    steps, dropped = record.get("funnel", []), record.get("dropped", {})
    rows, before = [], None
    for step in steps:
        left, characters = step["documents"], step.get("characters")
        note = (
            f"{figures.short_count(characters)} characters{' of HTML' if before is None else ''}" if characters else ""
        )
        lost = 0 if before is None else max(0, before - left)
        label = STEP_TITLES.get(step["step"], step["step"])
        rows.append(FunnelRow(label, left, lost, note, _dropped_examples(step["step"], dropped) if lost else ()))
        before = left
    return Funnel("From pages to documents", "documents", rows)


def _dropped_examples(step: str, dropped: Mapping[str, Any]) -> list[Example]:
    """Examples of what a step dropped: one filter after the other, so that each has its turn."""
    names = STEP_DROPS.get(step) or [name for name in dropped if name not in NO_FILTERS]
    shown = [dropped[name]["examples"][:EXAMPLES] for name in names if name in dropped]
    turns = [example for turn in zip_longest(*shown) for example in turn if example]
    return [
        Example(example["url"], clip(example["text"], EXAMPLE_CHARACTERS) or "(no text)", example["reason"])
        for example in turns[: 2 * EXAMPLES]
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
    """The least alike of the pairs; the others to open."""
    pairs = [pair for pair in record.get("duplicates.pairs", []) if pair["left"]["text"] != pair["right"]["text"]]
    if not pairs:
        return []
    first, *others = sorted(pairs, key=lambda pair: pair["similarity"])
    return [_pair(first), *([Fold("More near copies", [_pair(pair) for pair in others])] if others else [])]


def _pair(pair: Mapping[str, Any]) -> Pair:
    left, right = compare(pair["left"]["text"], pair["right"]["text"])
    shared = figures.percent(pair["similarity"], 0)
    note = (
        f"They share about {shared} of their word 5-grams. These are their beginnings: what only one of them has is "
        "marked, … stands for what both have."
    )
    return Pair("A near copy, and its twin that was kept", pair["left"]["url"], left, pair["right"]["url"], right, note)


def _lines(record: Record) -> list[Block]:
    top, removed = record.get("lines.top", []), record.get("lines.removed", 0)
    if not top:
        return []
    rows = [(clip(row["line"], LINE_CHARACTERS), figures.count(row["count"])) for row in top[:ROWS]]
    note = f"{figures.count(removed)} lines were removed because too many documents repeat them; these most often."
    return [Table("Lines that repeat from page to page", ("line", "times"), rows, note)]


def _quality(record: Record) -> list[Block]:
    counts, threshold = record.get("quality.histogram", []), record.get("quality.threshold")
    if not any(counts):
        return []
    judge = "a rubric of requirements" if record.get("quality.judge") == "rubric" else "a classifier taught by a rubric"
    note = f"From 0 to 1, by {judge}: running text, whole sentences, varied words, few links."
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
    ledger = [
        (
            row["category"],
            figures.percent(row["target"]),
            figures.percent(row["given"]),
            figures.short_count(row["available"]),
            f"{row['epochs']:.2f}",
        )
        for row in record.get("mix.ledger", [])
    ]
    columns = ("category", "asked for", "given", "tokens there are, about", "epochs")
    note = "A category that holds too little is repeated up to a limit; the others take what it cannot give."
    return [
        Bars("The mix: what the model will read", items, note="Shares of the training tokens.", mark="in annealing"),
        *([Fold("What was asked for and what there is", [Table("", columns, ledger, note)])] if ledger else []),
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
