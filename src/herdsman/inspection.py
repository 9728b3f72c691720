"""Looking at single decisions of a raised herd: what was dropped and by what, duplicates with their twins, samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from herdsman.documents.store import read_documents, read_dropped
from herdsman.errors import InputError, WorkspaceError
from herdsman.workspace import Workspace

SHOWN_CHARACTERS = 600
SAMPLE_LEDGERS = ("samples.jsonl", "preferences.jsonl")

SAID = ("messages", "prompt", "responses")

Rows = list[dict[str, Any]]


def rows_of(workspace: Workspace, what: str, by: str | None, limit: int) -> Rows:
    """The first `limit` rows of a view, in stored order.

    Args:
        what: one of `VIEWS`.
        by: only rows of this kind: the filter's name for dropped documents and duplicates, the source or family of a
            prompt for samples.

    Raises:
        WorkspaceError: the stage that decides this is not finished.
        InputError: there are rows, but none of this kind.
    """
    kinds: dict[str, int] = {}

    def wanted(rows: Iterable[tuple[set[str], dict[str, Any]]]) -> Iterator[dict[str, Any]]:
        for names, row in rows:
            for name in names:
                kinds[name] = kinds.get(name, 0) + 1
            if by is None or by in names:
                yield row

    found = list(islice(wanted(VIEWS[what](workspace)), limit))
    if not found and kinds:
        known = ", ".join(f"{name} ({count})" for name, count in sorted(kinds.items()))
        raise InputError(f"nothing is of the kind {by}", where=f"--by {by}", do=f"choose from {known}")
    return found


def _dropped(workspace: Workspace) -> Iterator[tuple[set[str], dict[str, Any]]]:
    for row in read_dropped(_finished(workspace, "documents")):
        yield {row["dropped_by"]}, {**_without_empty(row), "text": _shown(row["text"])}


def _duplicates(workspace: Workspace) -> Iterator[tuple[set[str], dict[str, Any]]]:
    """Each dropped duplicate with the document that was kept in its place."""
    folder = workspace.folder("documents")
    _finished(workspace, "documents")
    duplicates = [row for row in read_dropped(folder) if row["twin"]]
    ids = {row["twin"] for row in duplicates}
    columns = ["id", "url", "text"]
    kept = {row["id"]: row for row in read_documents(folder, columns=columns) if row["id"] in ids}
    # A twin may itself have been dropped by a later step.
    kept |= {row["id"]: row for row in read_dropped(folder) if row["id"] in ids and row["id"] not in kept}
    for row in duplicates:
        twin = kept.get(row["twin"], {})
        yield (
            {row["dropped_by"]},
            {
                "dropped_by": row["dropped_by"],
                "reason": row["reason"],
                "url": row["url"],
                "twin url": twin.get("url", ""),
                "text": _shown(row["text"]),
                "twin text": _shown(twin.get("text", "")),
            },
        )


def _samples(workspace: Workspace) -> Iterator[tuple[set[str], dict[str, Any]]]:
    """Post-training samples and preferences, each with its origin and checks."""
    from herdsman.files import read_jsonl

    folder = _finished(workspace, "posttrain")
    for name in SAMPLE_LEDGERS:
        for row in read_jsonl(folder / name) if (folder / name).exists() else ():
            said_first = dict(sorted(row.items(), key=lambda item: item[0] not in SAID))
            yield {str(row[key]) for key in ("source", "family") if row.get(key)}, said_first


VIEWS = {"dropped": _dropped, "duplicates": _duplicates, "samples": _samples}


def _finished(workspace: Workspace, stage: str) -> Any:
    if workspace.manifest(stage) is None:
        raise WorkspaceError(
            f"the {stage} stage is not finished", where=workspace.root, do="raise the herd as far as that stage"
        )
    return workspace.folder(stage)


def _shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"


def _without_empty(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if value not in ("", None)}
