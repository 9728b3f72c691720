"""What another threshold would do, told from the facts that a run left about every page: nothing is run again.

A rule looks at one measure of a document. Between the old and the new limit of that measure lie all documents that can
change sides, so only those are judged again, by the very functions that judge pages; what all others met stands.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import ValidationError

from herdsman.document_journey import documents_options, finished
from herdsman.documents.filtering import filters
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.steps import NEAR_DUPLICATE, OUTLIER_TOKENS, REPEATED_LINES, SEMANTIC_DUPLICATE
from herdsman.documents.store import read_batches, read_facts
from herdsman.errors import InputError
from herdsman.workspace import Workspace

EXAMPLES = 5
QUANTILES = (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1)
SHARES = (0.005, 0.02, 0.05, 0.1, 0.2)  # of the documents, that thresholds are shown for
KEPT = "kept"
BEST_SHARE = "documents.quality.best_share"
BEST_SHARES = (0.05, 0.1, 0.15, 0.25, 0.35, 0.5)
DUPLICATES = (NEAR_DUPLICATE, SEMANTIC_DUPLICATE)
COLUMNS = ("id", "url", "source", "language", "dropped_by")
SETTLED_LATER = "Documents that are let through go on to the steps after it, which may still drop them."

RULE_NAMES = frozenset(rule.name for rule in filters.RULES)

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Threshold:
    """A number in the recipe that decides about documents.

    Attributes:
        key: where it stands, such as "documents.filters.min_words".
        now: its value in the recipe of this workspace.
        above: true if what lies above it is dropped.
        names: what documents are recorded as dropped by for its sake.
        columns: the facts that tell the measure.
        measure: the measure of each document; NaN where there is none.
    """

    key: str
    now: float
    above: bool
    names: tuple[str, ...]
    columns: tuple[str, ...]
    measure: Callable[[pa.RecordBatch], Values]
    rules: tuple[Any, ...] = ()


@dataclass
class Moves:
    """What changes sides: counts by (source, language, from, to), where from and to are filters or `KEPT`."""

    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)


def ask(workspace: Workspace, name: str | None, value: float | None) -> dict[str, Any]:
    """What another value of a threshold would do, or without a value how its measure is spread.

    Raises:
        WorkspaceError: the documents stage is not finished.
        InputError: there is no such threshold, it does not take the value, or the facts cannot tell.
    """
    folder = finished(workspace, "documents")
    options = documents_options(workspace)
    if name is not None and name.rpartition(".")[2] == "best_share":
        if value is not None:
            changed(options, BEST_SHARE, value)
        return best_share(folder, options.quality.best_share, value)
    threshold = find_threshold(name or "", options)
    return spread(folder, options, threshold) if value is None else what_if(folder, options, threshold, value)


def thresholds(options: DocumentsOptions) -> dict[str, Threshold]:
    """All thresholds that can be asked about, by key."""
    found: dict[str, Threshold] = {}
    for limit in dict.fromkeys(rule.limit for rule in filters.RULES if rule.limit):
        rules = tuple(rule for rule in filters.RULES if rule.limit == limit)
        columns = tuple(dict.fromkeys(rule.feature for rule in rules))  # numbers, where the limit is one
        now = getattr(options.filters, limit)
        if isinstance(now, int | float):
            names = tuple(dict.fromkeys(rule.name for rule in rules))
            measure = partial(_farthest, columns, rules[0].above)
            key = f"documents.filters.{limit}"
            found[key] = Threshold(key, now, rules[0].above, names, ("words", *columns), measure, rules)
    late = (
        ("filters", "max_divergence", True, OUTLIER_TOKENS, ("divergence",), partial(_column, "divergence")),
        ("duplicates", "similarity", False, NEAR_DUPLICATE, ("dropped_by", "similarity"), _likeness(NEAR_DUPLICATE)),
        (
            "duplicates", "semantic_similarity", False, SEMANTIC_DUPLICATE,
            ("dropped_by", "similarity"), _likeness(SEMANTIC_DUPLICATE),
        ),
        (
            "duplicates", "lines_left_share", False, REPEATED_LINES,
            ("characters", "characters_left", "lines_removed"), _share_left,
        ),
    )  # fmt: skip
    for section, name, above, dropped_by, needed, measured in late:
        now = getattr(getattr(options, section, None), name, None)
        if now:  # 0 turns a measure off
            key = f"documents.{section}.{name}"
            found[key] = Threshold(key, now, above, (dropped_by,), needed, measured)
    return found


def find_threshold(name: str, options: DocumentsOptions) -> Threshold:
    """The threshold with a key, the last part of a key, or the name of a filter that has only one.

    Raises:
        InputError: there is none, or several.
    """
    known = thresholds(options)
    wanted = name.strip().casefold()
    found = [t for key, t in known.items() if key == wanted or key.endswith(f".{wanted}")]
    found = found or [t for t in known.values() if wanted in t.names]
    if len(found) == 1:
        return found[0]
    if found:
        keys = ", ".join(t.key for t in found)
        raise InputError(f"{name} has several thresholds", where="inspect threshold", do=f"choose from {keys}")
    short = [key.removeprefix("documents.") for key in known]
    names = {key.rpartition(".")[2] for key in short} | {name for t in known.values() for name in t.names}
    close = difflib.get_close_matches(wanted, sorted(names), 1)
    do = f"did you mean {close[0]}?" if close else f"choose from {', '.join(short)}, quality.best_share"
    what = f"there is no threshold {name}" if name else "no threshold is named"
    raise InputError(what, where="inspect threshold", do=do)


def changed(options: DocumentsOptions, key: str, value: str | float) -> DocumentsOptions:
    """The options with one key set to another value.

    Raises:
        InputError: it does not take this value.
    """
    table: dict[str, Any] = options.model_dump()
    section = table
    *sections, last = key.split(".")[1:]
    for name in sections:
        section = section[name]
    section[last] = value
    try:
        return DocumentsOptions.model_validate(table)
    except ValidationError as error:
        message = error.errors()[0]["msg"]
        do = "give a number that the recipe could hold, see docs/recipe.md"
        raise InputError(f"{value}: {message[0].lower()}{message[1:]}", where=key, do=do) from error


def what_if(folder: Path, options: DocumentsOptions, threshold: Threshold, value: float) -> dict[str, Any]:
    """How many documents more or fewer each filter would drop with another value, overall, by language and by source.

    Raises:
        InputError: the facts cannot tell, or they were written under other options.
    """
    if threshold.names[0] in DUPLICATES and value < threshold.now:
        raise InputError(
            "documents less alike than the limit of the last run left no trace", where=threshold.key,
            do=f"run the documents again with --set {threshold.key}={value:g}",
        )  # fmt: skip
    now: Counter[str] = Counter()
    (moves,) = _moves(folder, options, threshold, [value], now)
    by_name, by_language, by_source = Counter[str](), Counter[str](), Counter[str]()
    dropped, let_through = 0, 0
    for (source, language, before, after), number in moves.counts.items():
        by_name[before] -= number
        by_name[after] += number
        more = number * ((after != KEPT) - (before != KEPT))
        by_language[language or "unknown"] += more
        by_source[source] += more
        dropped += number * (before == KEPT)
        let_through += number * (after == KEPT)
    notes = [SETTLED_LATER] if let_through else []
    if threshold.names[0] in DUPLICATES:
        notes.append("An estimate: documents may also be joined by way of a third one.")
    if any(before not in RULE_NAMES and before != KEPT for _, _, before, _ in moves.counts):
        notes.append("Some would be dropped earlier than now; duplicates of theirs may then be kept in their place.")
    return {
        "threshold": threshold.key,
        "now": threshold.now,
        "then": value,
        "kept documents that would be dropped": dropped,
        "dropped documents that would be let through": let_through,
        "filters": [
            {"filter": name, "drops now": now[name], "then": now[name] + change, "change": change}
            for name, change in sorted(by_name.items(), key=lambda item: (-abs(item[1]), item[0]))
            if name != KEPT
        ],
        "languages": _changes("language", by_language),
        "sources": _changes("source", by_source),
        "examples": moves.examples,
        "notes": notes,
    }


def spread(folder: Path, options: DocumentsOptions, threshold: Threshold) -> dict[str, Any]:
    """How the measure of a threshold is spread over the documents, and what several thresholds would drop."""
    values = np.concatenate(
        [
            measured[np.isfinite(measured)].astype(np.float32)
            for measured in map(threshold.measure, read_facts(folder, threshold.columns))
        ]
    )
    if not len(values):
        raise InputError("no document has this measure", where=threshold.key, do="choose another threshold")
    # Towards the side on which documents are dropped.
    sides = [1 - share if threshold.above else share for share in SHARES]
    whole = isinstance(threshold.now, int)
    quantiles = np.quantile(values, sides).tolist()
    asked = sorted({round(v) if whole else _rounded(v) for v in quantiles} | {threshold.now})
    asked = [value for value in asked if _possible(options, threshold, value)]
    now: Counter[str] = Counter()
    rows = []
    for value, moves in zip(asked, _moves(folder, options, threshold, asked, now), strict=True):
        drops = {name: now[name] for name in threshold.names}
        kept = 0
        for (_, _, before, after), number in moves.counts.items():
            kept += number * ((after == KEPT) - (before == KEPT))
            for name in threshold.names:
                drops[name] += number * ((after == name) - (before == name))
        mark = "  (now)" if value == threshold.now else ""
        rows.append({"threshold": f"{value:g}{mark}", "drops": sum(drops.values()), "change of kept": kept})
    return {
        "threshold": threshold.key,
        "drops": f"documents {'above' if threshold.above else 'below'} it, as {', '.join(threshold.names)}",
        "documents measured": len(values),
        "quantiles": [
            {"share of the documents": f"{share:.0%}", "measure up to": _rounded(float(value))}
            for share, value in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)
        ],
        "thresholds": rows,
        "notes": [SETTLED_LATER],
    }


def best_share(folder: Path, now: float, then: float | None) -> dict[str, Any]:
    """What another `quality.best_share` would put into the tier `best`, with the changes by language and source."""
    pieces = [batch["quality"].to_numpy(zero_copy_only=False) for batch in read_batches(folder, "kept", ["quality"])]
    scores = np.concatenate(pieces)
    limits = {
        share: np.float32(np.quantile(scores, 1 - share, method="higher"))  # as the documents stage draws it
        for share in sorted({*BEST_SHARES, now} if then is None else {now, then})
    }
    found: dict[str, Any] = {
        "threshold": BEST_SHARE,
        "thresholds": [
            {"best_share": share, "scores from": round(float(limit), 4), "documents": int((scores >= limit).sum())}
            for share, limit in limits.items()
        ],
    }
    if then is not None:
        by_language, by_source = Counter[str](), Counter[str]()
        for batch in read_batches(folder, "kept", ["language", "source", "quality", "tier"]):
            will_be = batch["quality"].to_numpy(zero_copy_only=False) >= limits[then]
            change = will_be.astype(int) - np.asarray(pc.equal(batch["tier"], "best")).astype(int)
            at = np.flatnonzero(change)
            for row, more in zip(batch.take(pa.array(at)).to_pylist(), change[at].tolist(), strict=True):
                by_language[row["language"]] += more
                by_source[row["source"]] += more
        found |= {"languages": _changes("language", by_language), "sources": _changes("source", by_source)}
    return found


def _moves(
    folder: Path, options: DocumentsOptions, threshold: Threshold, values: Sequence[float], now: Counter[str]
) -> list[Moves]:
    """What would change sides under each of some values; counts into `now` what each filter drops as it is."""
    found = [Moves() for _ in values]
    variants = [changed(options, threshold.key, value) for value in values]
    extra = (*filters.FEATURES, "language_score") if threshold.rules else threshold.columns
    for batch in read_facts(folder, [*dict.fromkeys((*COLUMNS, *extra))]):
        for entry in pc.value_counts(batch["dropped_by"]).to_pylist():
            now[entry["values"] or KEPT] += entry["counts"]
        measured = threshold.measure(batch)
        for moves, value, variant in zip(found, values, variants, strict=True):
            low, high = sorted((threshold.now, value))
            at = np.flatnonzero((measured >= low) & (measured <= high))
            if not len(at) or low == high:
                continue
            rows = batch.take(pa.array(at)).to_pylist()
            for row, measure in zip(rows, measured[at].tolist(), strict=True):
                before = row["dropped_by"] or KEPT
                after = _judged(row, measure, options, variant, threshold, value) or KEPT
                if after == before:
                    continue
                moves.counts[row["source"], row["language"], before, after] += 1
                if len(moves.examples) < EXAMPLES:
                    example = {"url": row["url"], "from": before, "to": after, "measure": _rounded(measure)}
                    moves.examples.append(example)
    return found


def _judged(
    row: Mapping[str, Any], measure: float, options: DocumentsOptions, variant: DocumentsOptions,
    threshold: Threshold, value: float,
) -> str:  # fmt: skip
    """What would drop a document under the changed options; "" if nothing would that can be told from facts."""
    recorded: str = row["dropped_by"]
    if threshold.rules:
        before, after = (filters.first_broken(row, o.filters) for o in (options, variant))
        if (before[0] if before else "") != (recorded if recorded in RULE_NAMES else ""):
            raise InputError(
                f"{row['url']} met {recorded or 'no filter'}, but by the recipe {before[0] if before else 'none'}",
                where=threshold.key,
                do="raise the herd again: its documents were made under another recipe or by another version",
            )
        return after[0] if after else "" if before else recorded
    beyond = measure > value if threshold.above else measure < value
    if threshold.names[0] in DUPLICATES:
        return "" if beyond and recorded in threshold.names else recorded
    return threshold.names[0] if beyond else "" if recorded in threshold.names else recorded


def _column(name: str, batch: pa.RecordBatch) -> Values:
    return batch[name].cast(pa.float64()).to_numpy(zero_copy_only=False)


def _farthest(columns: Sequence[str], above: bool, batch: pa.RecordBatch) -> Values:
    """Of the measures that share a limit, the one that is nearest to breaking it; NaN for pages without text."""
    values = (np.fmax if above else np.fmin).reduce([_column(name, batch) for name in columns])
    return np.where(np.isnan(_column("words", batch)), np.nan, values)


def _likeness(name: str) -> Callable[[pa.RecordBatch], Values]:
    """Similarity of the duplicates of one sort to their twins."""
    return lambda batch: np.where(np.asarray(pc.equal(batch["dropped_by"], name)), _column("similarity", batch), np.nan)


def _share_left(batch: pa.RecordBatch) -> Values:
    """Share of the text that is left without repeated lines; NaN for documents that lost none."""
    before, after, lines = (_column(name, batch) for name in ("characters", "characters_left", "lines_removed"))
    with np.errstate(invalid="ignore"):
        return np.where(lines > 0, after / np.maximum(before, 1), np.nan)


def _possible(options: DocumentsOptions, threshold: Threshold, value: float) -> bool:
    try:
        changed(options, threshold.key, value)
    except InputError:
        return False
    return threshold.names[0] not in DUPLICATES or value >= threshold.now


def _changes(name: str, counts: Mapping[str, int]) -> list[dict[str, Any]]:
    """Rows of what changes, the largest first."""
    rows = sorted(((key, change) for key, change in counts.items() if change), key=lambda row: (-abs(row[1]), row[0]))
    return [{name: key, "change": change} for key, change in rows]


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
