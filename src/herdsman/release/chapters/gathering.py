"""Chapter of the pages: where they come from and under which licence."""

from __future__ import annotations

from herdsman.release import figures
from herdsman.release.blocks import Bar, Bars, Block, Figure, Figures, Fold, Table
from herdsman.release.journey import Journey, Record

TITLE = "Gathering pages"


def lead(record: Record) -> str:
    sources = record.get("sources_total", 0)
    return (
        f"{figures.count(record.get('pages', 0))} web pages from {sources} source{'s' if sources != 1 else ''}, "
        f"{figures.size(record.get('bytes', 0))} of HTML as it was found."
    )


def blocks(journey: Journey) -> list[Block]:
    record = journey["pages"]
    sources = record.get("sources", [])
    skipped = record.get("skipped", {})
    found: list[Block] = [
        Figures(
            [
                Figure(figures.count(record.get("pages", 0)), "pages"),
                Figure(figures.size(record.get("bytes", 0)), "of HTML"),
                Figure(figures.count(sum(skipped.values())), "skipped", "not pages, empty, too large or broken"),
            ]
        ),
        Bars(
            "Sources",
            [
                Bar(
                    row["source"],
                    row["pages"],
                    f"{row['pages']:,} pages",
                    f"{figures.size(row['bytes'])} · {licence(row)}",
                    colour="sky",
                )
                for row in sources
            ],
        ),
    ]
    if skipped:
        rows = [
            (reason, figures.count(number)) for reason, number in sorted(skipped.items(), key=lambda item: -item[1])
        ]
        found.append(Fold("What was skipped, and why", [Table("", ("reason", "records"), rows)]))
    examples = [(url, row["source"]) for row in sources for url in row.get("examples", [])]
    if examples:
        found.append(Fold("Some of the addresses", [Table("", ("address", "source"), examples, text_columns=(0, 1))]))
    return found


def licence(row: dict[str, str]) -> str:
    return row.get("licence") or "licence not known"
