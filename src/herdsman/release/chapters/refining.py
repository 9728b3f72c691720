"""Chapter of the documents: what became of the pages, with examples of everything that was taken away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from herdsman.documents.steps import STEPS
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
    Stack,
    Stacks,
    Table,
    Texts,
    clip,
    compare,
)
from herdsman.release.journey import Journey, Record

TITLE = "Refining documents"
STEP_TITLES = {
    "pages": "pages gathered",
    "addresses": "addresses allowed",
    "extracted": "text found",
    "language": "language known",
    "filters": "passed every filter",
    "url dedup": "one version of each address",
    "near-duplicates": "one of each group of near copies",
    "semantic duplicates": "one of each group that means the same",
    "outlier tokens": "words like those of other documents",
    "private domain": "domains without much private data",
    "lines": "enough left without repeated lines",
    "kept": "kept",
}
FATES = {  # what the steps of the funnel take away, and the colour it has
    "kept": "grass",
    "copies": "sky",
    "filtered": "clay",
    "other languages": "heather",
    "no text": "hay",
}
FATE_OF_STEP = {
    "addresses": "filtered", "extracted": "no text", "language": "other languages",
    "url dedup": "copies", "near-duplicates": "copies", "semantic duplicates": "copies",
}  # fmt: skip
MASKED = {"email": "e-mail addresses", "ip": "IP addresses", "phone": "phone numbers"}
OPTIONAL = ("addresses", "language", "semantic duplicates", "outlier tokens", "private domain")
LANGUAGE_NAMES = {"": "no text", "und": "no language"}
LEDGER = ("", "asked for", "given", "epochs", "tokens there are", "read again", "never read")
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
        *_funnels(record),
        *_reasons(record),
        *_pairs(record),
        *_lines(record),
        *_quality(record),
        *_models(record),
        *_languages(record),
        *_mix(record),
        *_memory(record),
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
    dropped = record.get("dropped", {})
    steps = [record.get("funnel", [])[at] for at in _telling(record)]
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


def _telling(record: Record) -> list[int]:
    """Places of the funnel's steps, without those of its optional ones that took nothing away."""
    steps = record.get("funnel", [])
    return [
        at
        for at, step in enumerate(steps)
        if step["step"] not in OPTIONAL or step["documents"] < steps[at - 1]["documents"]
    ]


def _funnels(record: Record) -> list[Block]:
    """What became of the pages of each source and in each language, drawn and in numbers."""
    steps, telling = [step["step"] for step in record.get("funnel", [])], _telling(record)
    found: list[Block] = []
    for by, title in (("source", "What became of each source"), ("language", "What became of each language")):
        rows = record.get(f"funnels.{by}", [])
        if not rows:
            continue
        stacks, numbers = [], []
        for row in rows:
            label = LANGUAGE_NAMES.get(row["name"], row["name"]) if by == "language" else row["name"]
            counts, lost = row["documents"], Counter({"kept": row["documents"][-1]})
            for at in range(1, len(steps)):
                lost[FATE_OF_STEP.get(steps[at], "filtered")] += counts[at - 1] - counts[at]
            pages, characters = max(counts[0], 1), figures.short_count(row["characters"][-1])
            note = f"{figures.count(counts[-1])} of {figures.count(counts[0])} pages kept, {characters} characters"
            shares = {fate: lost[fate] / pages for fate in FATES}
            stacks.append(Stack(label, shares, figures.percent(counts[-1] / pages, 0), note))
            numbers.append((label, *(figures.count(counts[at]) for at in telling), characters))
        columns = (by, *(steps[at] for at in telling), "characters")
        series = {fate: colour for fate, colour in FATES.items() if any(stack.shares[fate] for stack in stacks)}
        found += [Stacks(title, series, stacks), Fold("In numbers", [Table("", columns, numbers)])]
    return found


def _dropped_examples(step: str, dropped: Mapping[str, Any]) -> list[Example]:
    """Examples of what a step dropped: one filter after the other, so that each has its turn."""
    claimed = {name for _, names in STEPS for name in names}
    names = dict(STEPS).get(step) or tuple(name for name in dropped if name not in claimed)
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
        for reason, number in [
            *sorted(entry.get("reasons", {}).items(), key=lambda item: (-item[1], item[0])),
            ("other reasons", entry["documents"] - sum(entry.get("reasons", {}).values())),
        ]
        if number
    ]
    if not rows:
        return []
    table = Table("", ("dropped by", "reason", "documents"), rows, text_columns=(0, 1))
    return [Fold("Every reason, counted", [table])]


def _pairs(record: Record) -> list[Block]:
    """The least alike of the pairs; the others to open."""
    pairs = [pair for pair in record.get("duplicates.pairs", []) if pair["left"]["text"] != pair["right"]["text"]]
    meant = [_pair(pair, "The same in other words") for pair in record.get("duplicates.semantic_pairs", [])]
    if not pairs:
        return [Fold("The same in other words", meant)] if meant else []
    first, *others = sorted(pairs, key=lambda pair: pair["similarity"])
    more = [*map(_pair, others), *meant]
    return [_pair(first), *([Fold("More copies", more)] if more else [])]


def _pair(pair: Mapping[str, Any], title: str = "A near copy") -> Pair:
    left, right = compare(pair["left"]["text"], pair["right"]["text"])
    note = (
        f"They are about {figures.percent(pair['similarity'], 0)} alike. These are their beginnings: what only one of "
        "them has is marked, … stands for what both have."
    )
    return Pair(f"{title}, and its twin that was kept", pair["left"]["url"], left, pair["right"]["url"], right, note)


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
    judge = "a rubric" if record.get("quality.judge", "rubric") == "rubric" else "a language model"
    taught = "a classifier taught by " if record.get("quality.models.quality.evaluation") else ""
    note = f"From 0 to 1, by {taught}{judge}."
    if threshold is not None:
        note += f" Documents from {threshold:.2f} on make the tier “best”, which annealing reads more often."
    return [Histogram("Quality of the documents", counts, "documents", threshold, note)]


def _models(record: Record) -> list[Block]:
    """How well the classifiers do on labels that they did not learn from."""
    rows = [
        (name, task["labels"], figures.count(task["learned"]), *_measured(task.get("evaluation", {})))
        for name, task in record.get("quality.models", {}).items()
    ]
    columns = ("classifier", "labels from", "learned from", "tested on", "result")
    return [Table("What the classifiers learned", columns, rows, text_columns=(0, 1, 4))] if rows else []


def _measured(evaluation: Mapping[str, Any]) -> tuple[str, str]:
    """Documents that a classifier was tested on, and the figures."""
    told = [
        f"{name.replace('_', ' ')} {value:.2f}"
        for name, value in evaluation.items()
        if isinstance(value, float) and name != "documents"
    ]
    return figures.count(evaluation.get("documents", 0)), ", ".join(told) or "too few labels to learn from"


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
        row = here.get(stream)  # streams of single topics have none
        notes = (
            [
                f"{row['documents']:,} documents",
                f"{figures.percent(row['characters'] / all_characters)} of the characters",
            ]
            if row
            else []
        )
        notes += [f"annealing {figures.percent(anneal.get(stream, 0))}"] if anneal else []
        items.append(
            Bar(
                stream.replace(".", ", "),
                pretrain.get(stream, 0),
                figures.percent(pretrain.get(stream, 0)),
                ", ".join(notes),
                anneal.get(stream) if anneal else None,
            )
        )
    note = "What holds too little is repeated up to a limit; the others take what it cannot give. Tokens are estimates."
    ledgers = [
        Table("By category", LEDGER, [_entry(row["category"], row) for row in record.get("mix.ledger", [])], note)
    ]
    if topics := [row for row in record.get("mix.topic_ledger", []) if row["topic"]]:
        rows = [_entry(f"{row['category']}, {row['topic']} × {row['weight']:g}", row) for row in topics]
        ledgers.append(Table("By topic and its weight", LEDGER, rows))
    return [
        Bars("The mix: what the model will read", items, note="Shares of the training tokens.", mark="in annealing"),
        *([Fold("What was asked for and what there is", ledgers)] if record.get("mix.ledger") else []),
    ]


def _entry(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    asked = figures.percent(row["target"]) if "target" in row else ""
    tokens = (figures.short_count(row.get(key, 0)) for key in ("available", "repeated", "cut"))
    return name, asked, figures.percent(row["given"]), f"{row['epochs']:.2f}", *tokens


def _memory(record: Record) -> list[Block]:
    held = [(name, figures.size(size)) for name, size in record.get("memory", {}).items()]
    return [Fold("Memory held for all documents at once", [Table("", ("for", "memory"), held)])] if held else []


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
