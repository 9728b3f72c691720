"""The journey of one document through the documents stage, kept or dropped: what each step measured and decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import ValidationError

from herdsman.documents.differences import marked
from herdsman.documents.filtering import filters
from herdsman.documents.mix import stream_of
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.page_to_document import DROPPED_CHARS
from herdsman.documents.store import find_rows, read_facts
from herdsman.errors import InputError, WorkspaceError
from herdsman.files import read_json
from herdsman.workspace import Workspace

NAMED = 5  # documents that a sentence names
COPIES = 20  # duplicates that a journey names
SHOWN_CHARACTERS = 600
KEPT_COLUMNS = ("title", "text", "licence", "category", "topic", "quality", "reference", "tier", "split")

Row = dict[str, Any]


def journeys(workspace: Workspace, name: str) -> list[Row]:
    """What happened to a document at each step, kept or dropped; one journey for each page of an address.

    Args:
        name: an address, or the id of a document or its beginning.

    Raises:
        WorkspaceError: the documents stage is not finished.
        InputError: there is no such document, or several whose ids begin so.
    """
    folder = finished(workspace, "documents")
    options = documents_options(workspace)
    found = _find(folder, name)
    ids = {row["id"] for row in found}
    kept = find_rows(folder, "kept", ids, KEPT_COLUMNS)
    gone = find_rows(folder, "dropped", ids, ["text", "dropped_by", "reason"])
    twins = find_texts(folder, {row["twin"] for row in found if row["twin"]})
    copies: dict[str, list[Row]] = {id: [] for id in ids}
    for batch in read_facts(folder, ["url", "dropped_by", "twin", "similarity"]):
        for row in batch.filter(pc.is_in(batch["twin"], pa.array(sorted(ids), pa.string()))).to_pylist():
            copies[row["twin"]].append(without_empty({key: row[key] for key in ("url", "dropped_by", "similarity")}))
    mix = read_json(folder / "mix.json")
    return [
        _journey(row, kept.get(row["id"], {}), gone.get(row["id"], {}), twins, copies[row["id"]], mix, options)
        for row in found
    ]


def _journey(
    facts: Row, kept: Row, gone: Row, twins: dict[str, Row], copies: list[Row], mix: Row, options: DocumentsOptions
) -> Row:
    is_kept = facts["dropped_by"] == ""
    document = kept if is_kept else gone
    twin = twins.get(facts["twin"], {})
    used = {rule.feature for rule in filters.RULES}
    category, topic, tier = (document.get(name, "") for name in ("category", "topic", "tier"))
    stream = stream_of(category, topic, tier, mix["topics"])
    steps: Row = {
        "fate": "kept" if is_kept else f"dropped by {facts['dropped_by']}: {document.get('reason', '')}",
        "page": {
            "address": facts["url"], "id": facts["id"], "source": facts["source"], "crawled": facts["crawled_at"],
            "bytes": facts["bytes"], "licence": document.get("licence"), "title": document.get("title"),
        },
        "extraction": {"characters": facts["characters"]}
        | {name: facts[name] for name in filters.FEATURES if name not in used and facts.get(name) is not None},
        "language": {"language": facts["language"], "score": facts["language_score"]},
        "rules": _rules(facts, options),
        "private data masked": json.loads(facts["masked_kinds"] or "{}"),
        "duplicates": {
            "kept in its place": twin.get("url"), "its id": facts["twin"], "similarity": facts["similarity"],
            "differences": compared(document.get("text", ""), twin.get("text", "")),
            "in its place gone": len(copies) or None,
        },
        "duplicates gone in its favour": copies[:COPIES],
        "lines": {
            "repeated lines removed": facts["lines_removed"], "characters left": facts["characters_left"],
        },
        "scores": {"quality": document.get("quality"), "reference": document.get("reference"),
                   "divergence": facts["divergence"]},
        "sorted": {name: document.get(name) for name in ("category", "topic", "tier", "split")},
        "mix": {"stream": stream} | {f"its share in {use}": mix[use].get(stream) for use in ("pretrain", "anneal")}
        if is_kept and document.get("split") == "train" else {},
        "text": shown(document.get("text", "")),
    }  # fmt: skip
    steps = {name: without_empty(step) if isinstance(step, dict) else step for name, step in steps.items()}
    return {name: step for name, step in steps.items() if step}


def compared(text: str, twin: str) -> str:
    """What differs between the beginnings of a duplicate and its twin, as long as the former is kept; "" if unknown."""
    left, right = text[:DROPPED_CHARS], twin[:DROPPED_CHARS]
    return marked(left, right, max(len(left), len(right)) >= DROPPED_CHARS) if twin else ""


def _rules(facts: Row, options: DocumentsOptions) -> list[Row]:
    """Every rule that looks at a measure of the document, with its limit and whether the document keeps to it."""
    rows = []
    for rule in filters.RULES:
        value = facts.get(rule.feature)
        if value is None or facts["words"] is None:
            continue
        off = rule.name in options.filters.off or not options.filters.enabled
        broken, limit = rule.broken(facts, options.filters), rule.limit_in(options.filters)
        verdict = "off" if off else "broken" if broken else "passed"
        if isinstance(limit, tuple):
            side, limit = "one of", ", ".join(limit) or "all"
        else:
            side = "at most" if rule.above else "at least"
            if verdict == "passed" and (value > limit if rule.above else value < limit):
                verdict = "does not apply"
        rows.append(
            {"rule": rule.name, "measure": rule.feature, "value": value, "": side, "limit": limit, "verdict": verdict}
        )
    return rows


def documents_options(workspace: Workspace) -> DocumentsOptions:
    """The options of the documents stage, from the recipe that the workspace keeps.

    Raises:
        WorkspaceError: the recipe is missing, or of another version of Herdsman.
    """
    try:
        return DocumentsOptions.model_validate(read_json(workspace.root / "recipe.json")["documents"])
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise WorkspaceError(
            "cannot be read as a recipe of this version",
            where=workspace.root / "recipe.json",
            do="raise the herd again",
        ) from error


def _find(folder: Path, name: str) -> list[Row]:
    """The facts about the pages with an address, or about the document with an id."""
    found: list[Row] = []
    near: list[str] = []
    wanted = name.strip()
    for batch in read_facts(folder):
        hits = pc.equal(batch["url"], wanted)
        if wanted and set(wanted.lower()) <= set("0123456789abcdef"):
            hits = pc.or_(hits, pc.starts_with(batch["id"], wanted.lower()))
        found += batch.filter(hits).to_pylist()
        if len(near) < NAMED:
            near += batch["url"].filter(pc.match_substring(batch["url"], wanted)).slice(0, NAMED).to_pylist()
    different = list(dict.fromkeys((row["id"], row["url"]) for row in found))
    if not found:
        do = f"it is part of {', '.join(near[:NAMED])}" if near else "give an address or the beginning of an id"
        raise InputError(f"no page has the address or id {name}", where=folder, do=do)
    if len(different) > 1 and found[0]["url"] != wanted:
        some = ", ".join(f"{id[: len(wanted) + 4]} ({url})" for id, url in different[:NAMED])
        more = f" and {len(different) - NAMED} more" if len(different) > NAMED else ""
        raise InputError(f"{len(different)} ids begin with {name}", where=folder, do=f"choose from {some}{more}")
    return found


def find_texts(folder: Path, ids: set[str]) -> dict[str, Row]:
    """Address and text of documents by id; a twin may itself have been dropped by a later step."""
    return find_rows(folder, "dropped", ids, ["url", "text"]) | find_rows(folder, "kept", ids, ["url", "text"])


def finished(workspace: Workspace, stage: str) -> Path:
    if workspace.manifest(stage) is None:
        raise WorkspaceError(
            f"the {stage} stage is not finished", where=workspace.root, do="raise the herd as far as that stage"
        )
    return workspace.folder(stage)


def shown(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else text[:SHOWN_CHARACTERS] + " …"


def without_empty(row: Mapping[str, Any]) -> Row:
    rounded = {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}
    return {key: value for key, value in rounded.items() if value not in ("", None)}
