"""Looking at single decisions of a raised herd: what was dropped and by what, duplicates with their twins, samples."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from herdsman.document_journey import compared, find_texts, finished, journeys, shown, without_empty
from herdsman.documents.steps import NEAR_DUPLICATE, SEMANTIC_DUPLICATE, URL_DUPLICATE
from herdsman.documents.store import read_dropped
from herdsman.errors import InputError
from herdsman.files import read_jsonl
from herdsman.what_if import ask
from herdsman.workspace import Workspace

WITH_FACTS = ("language", "source", "similarity")
SAMPLE_LEDGERS = ("samples.jsonl", "preferences.jsonl")
SAID = ("messages", "prompt", "responses")
DUPLICATES = {"url": URL_DUPLICATE, "near": NEAR_DUPLICATE, "semantic": SEMANTIC_DUPLICATE}

Row = dict[str, Any]
_MARK = re.compile(r"\\?\[-.*?-\]|\{\+.*?\+\}", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """What to show: None wants all.

    Attributes:
        name: the document (its address, or the beginning of its id) or the threshold.
        value: to try for the threshold.
        by: the filter's name for dropped documents, the sort of duplicates, the source or family of samples.
        limit: rows at most.
    """

    name: str | None = None
    value: float | None = None
    by: str | None = None
    language: str | None = None
    source: str | None = None
    limit: int = 20


def dropped(workspace: Workspace, wanted: Wanted) -> list[Row]:
    """Dropped documents with the filter, the reason and the beginning of the text, in stored order.

    Raises:
        WorkspaceError: the documents stage is not finished.
        InputError: documents were dropped, but none that is wanted.
    """
    kinds: Counter[str] = Counter()

    def rows() -> Iterator[Row]:
        for row in read_dropped(finished(workspace, "documents"), WITH_FACTS):
            kinds[row["dropped_by"]] += 1
            if _is_wanted(row, wanted, wanted.by):
                yield without_empty(row) | {"text": shown(row["text"])}

    return _first(rows(), wanted, kinds)


def duplicates(workspace: Workspace, wanted: Wanted) -> list[Row]:
    """Dropped duplicates, each with its twin and what differs between the beginnings of both: [-only in the dropped
    one-] and {+only in its twin+}.

    Raises:
        WorkspaceError: the documents stage is not finished.
        InputError: there are duplicates, but none that is wanted.
    """
    folder = finished(workspace, "documents")
    name = DUPLICATES.get(wanted.by or "", wanted.by)
    kinds: Counter[str] = Counter()

    def rows() -> Iterator[Row]:
        for row in read_dropped(folder, WITH_FACTS):
            if row["twin"]:
                kinds[row["dropped_by"]] += 1
                if _is_wanted(row, wanted, name):
                    yield row

    found = _first(rows(), wanted, kinds)
    twins = find_texts(folder, {row["twin"] for row in found})
    return [_compared(row, twins.get(row["twin"], {"url": "", "text": ""})) for row in found]


def samples(workspace: Workspace, wanted: Wanted) -> list[Row]:
    """Post-training samples and preferences, each with its origin and checks.

    Raises:
        WorkspaceError: the posttrain stage is not finished.
        InputError: there are samples, but none that is wanted.
    """
    folder = finished(workspace, "posttrain")
    kinds: Counter[str] = Counter()

    def rows() -> Iterator[Row]:
        for name in SAMPLE_LEDGERS:
            for row in read_jsonl(folder / name) if (folder / name).exists() else ():
                names = {str(row[key]) for key in ("source", "family") if row.get(key)}
                kinds.update(names)
                if wanted.by is None or wanted.by in names:
                    yield dict(sorted(row.items(), key=lambda item: item[0] not in SAID))

    return _first(rows(), wanted, kinds)


def document(workspace: Workspace, name: str | None) -> list[Row]:
    if name is None:
        raise InputError("no document is named", where="inspect document", do="give its address or its id")
    return journeys(workspace, name)


VIEWS: dict[str, tuple[Callable[[Workspace, Wanted], Any], tuple[str, ...]]] = {  # and what of `Wanted` they read
    "dropped": (dropped, ("name", "by", "language", "source")),
    "document": (lambda workspace, wanted: document(workspace, wanted.name), ("name",)),
    "duplicates": (duplicates, ("name", "by", "language", "source")),
    "threshold": (lambda workspace, wanted: ask(workspace, wanted.name, wanted.value), ("name", "value")),
    "samples": (samples, ("by",)),
}


def look(workspace: Workspace, what: str, wanted: Wanted) -> Any:
    """What a view shows: rows, or a table of tables.

    Raises:
        InputError: there is no such view, or it cannot be asked for this.
    """
    if what not in VIEWS:
        raise InputError(f"cannot inspect {what}", where=workspace.root, do=f"choose from {', '.join(VIEWS)}")
    view, reads = VIEWS[what]
    for name in ("name", "value", "by", "language", "source"):
        if getattr(wanted, name) is not None and name not in reads:
            raise InputError(f"{what} cannot be chosen by {name}", where="inspect", do=f"use {', '.join(reads)}")
    return view(workspace, wanted)


def _is_wanted(row: Row, wanted: Wanted, by: str | None) -> bool:
    asked = {"dropped_by": by, "language": wanted.language, "source": wanted.source}
    name = wanted.name
    return all(value in (None, row[key]) for key, value in asked.items()) and (
        name is None or row["url"] == name or row["id"].startswith(name)
    )


def _compared(row: Row, twin: Row) -> Row:
    return without_empty({
        "dropped_by": row["dropped_by"], "reason": row["reason"], "similarity": row["similarity"],
        "id": row["id"], "url": row["url"], "twin": row["twin"], "twin url": twin["url"],
        "differences": compared(row["text"], twin["text"]),
    })  # fmt: skip


def _first(rows: Iterable[Row], wanted: Wanted, kinds: Counter[str]) -> list[Row]:
    found = list(islice(rows, wanted.limit))
    if not found and kinds:
        asked = ("by", wanted.by), ("language", wanted.language), ("source", wanted.source)
        where = " ".join([wanted.name or "", *(f"--{name} {value!r}" for name, value in asked if value)]).strip()
        known = ", ".join(f"{name} ({count})" for name, count in sorted(kinds.items()))
        raise InputError("nothing is of this kind", where=where, do=f"choose from {known}")
    return found


def show(found: Any, out: Console, title: str = "") -> None:
    """Prints what an inspection found: rows as a table if they are numbers and names, else one after the other."""
    if isinstance(found, list) and found and isinstance(found[0], dict):
        columns = list(dict.fromkeys(key for row in found for key in row))
        if title and not any(isinstance(value, dict | list) for row in found for value in row.values()):
            out.print(f"[bold]{escape(title)}[/bold]")
            table = Table(*columns, box=None, pad_edge=False)
            for row in found:
                table.add_row(*(_styled(row.get(column, "")) for column in columns))
            out.print(table)
        for row in found if not title else ():
            show(row, out)
            out.print()
    elif isinstance(found, dict):
        if title:
            out.print(f"[bold]{escape(title)}[/bold]")
        for key, value in found.items():
            if isinstance(value, dict) or (isinstance(value, list) and value and isinstance(value[0], dict)):
                show(value, out, key)
            else:
                name = f"  {escape(key)}" if title else f"[bold]{escape(key)}[/bold]"
                out.print(f"{name}: {_styled(value)}", soft_wrap=True)
    elif found:
        out.print(f"{escape(title)}: {_styled(found)}", soft_wrap=True)


def _styled(value: object) -> str:
    """A value as rich prints it; what a comparison marks gets a colour, where there are colours."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    text = escape(f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value))
    return _MARK.sub(lambda mark: f"[{'red' if mark[0][0] != '{' else 'green'}]{mark[0]}[/]", text)
