"""Chapter of safety: refusals where they belong and where they do not, and the guard at both doors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from herdsman.release import figures
from herdsman.release.blocks import Block, Chat, Chats, Dot, DotRow, Dots, Fold, Table, Turn, clip
from herdsman.release.journey import Journey, Record

TITLE = "Safety"
RATES = {
    "violation": "harmful prompts answered",
    "refusal": "harmful prompts refused or blocked",
    "false_refusal": "harmless prompts refused or blocked",
}


def lead(record: Record) -> str:
    rates = record.get("system.rates", {})
    behind = rates.get("model_with_guard.violation"), rates.get("model_with_guard.false_refusal")
    if any(rate is None or rate["rate"] is None for rate in behind):
        return ""
    return (
        f"Behind its guard the model answers {figures.percent(behind[0]['rate'], 0)} of harmful prompts and turns away "
        f"{figures.percent(behind[1]['rate'], 0)} of harmless ones that only sound harmful."
    )


def blocks(journey: Journey) -> list[Block]:
    record = journey["safety"]
    rates = record.get("system.rates", {})
    rows = [
        DotRow(
            title,
            [
                Dot(rate["rate"], rate["low"], rate["high"], series)
                for side, series in (("model", "model alone"), ("model_with_guard", "model and guard"))
                if (rate := rates.get(f"{side}.{name}")) and rate["rate"] is not None
            ],
        )
        for name, title in RATES.items()
    ]
    found: list[Block] = [
        Dots(
            "XSTest: prompts that are harmful, and prompts that only sound so",
            [row for row in rows if row.dots],
            {"model alone": "hay", "model and guard": "grass"},
            f"Share of prompts with 95% Wilson intervals; {record.get('system.setting', '')}. XSTest is under "
            f"{record.get('system.licence', 'its own licence')}. Refusals are found by rules, not by a judge.",
        ),
        _guard_table(record),
    ]
    by_category = record.get("guard.held_out_prompts.harmful_blocked_by_category", {})
    by_source = record.get("guard.held_out_prompts.harmless_blocked_by_source", {})
    by_kind = record.get("guard.xstest.blocked_by_kind", {})
    folded: list[Block] = [
        Table(title, (column, "blocked", "of"), [_row(name, rate) for name, rate in group.items()])
        for title, column, group in (
            ("Harmful prompts, by category", "category", by_category),
            ("Harmless prompts, by source", "source", by_source),
            ("XSTest, by kind", "kind", by_kind),
        )
        if group
    ]
    if folded:
        found.append(Fold("The guard in detail", folded))
    examples = record.get("examples", [])
    if examples:
        found.append(
            Chats(
                "Prompts and what became of them",
                [
                    Chat(
                        [Turn("system", row["outcome"]), Turn("user", clip(row["prompt"], 400))],
                        [("model", clip(row["reply"], 300), "")],
                    )
                    for row in examples
                ],
            )
        )
    return found


def guard_rates(record: Record) -> list[tuple[str, Mapping[str, Any]]]:
    """What the guard blocks, by what it is shown."""
    paths = {
        "harmful prompts it was not trained on": "guard.held_out_prompts.harmful_blocked",
        "harmless prompts it was not trained on": "guard.held_out_prompts.harmless_blocked",
        "XSTest, harmful": "guard.xstest.harmful_blocked",
        "XSTest, harmless": "guard.xstest.harmless_blocked",
        "passages of documents, as output": "guard.document_passages_blocked",
    }
    found = ((title, record.get(path)) for title, path in paths.items())
    return [(title, rate) for title, rate in found if rate and rate["rate"] is not None]


def _guard_table(record: Record) -> Table:
    note = "The guard is a small classifier of words. It knows English and judges words, not intentions."
    return Table("What the guard blocks", ("shown", "blocked", "of"), [_row(*row) for row in guard_rates(record)], note)


def _row(name: str, rate: Mapping[str, Any]) -> tuple[str, str, str]:
    if rate["rate"] is None:
        return name, "–", "0"
    return name, figures.interval(rate["rate"], rate["low"], rate["high"]), figures.count(rate["examples"])
