"""What the safety stage reports: the guard's rates, those of model and guard together, and prompts to look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from herdsman.evaluation.statistics import wilson
from herdsman.progress import Progress
from herdsman.safety.guard import CATEGORIES, SAFE, Guard
from herdsman.safety.prompts import XSTEST_LICENCE, XSTEST_SOURCE, LabelledPrompt, TestPrompt

SHOWN_CHARACTERS = 280

Row = dict[str, Any]


def rate(hits: Iterable[bool]) -> dict[str, Any]:
    """A share with its count and Wilson's interval; all null if there is nothing to count."""
    values = list(hits)
    if not values:
        return {"rate": None, "hits": 0, "examples": 0, "low": None, "high": None}
    low, high = wilson(sum(values), len(values))
    return {"rate": sum(values) / len(values), "hits": sum(values), "examples": len(values), "low": low, "high": high}


def guard_results(
    guard: Guard,
    test: Sequence[LabelledPrompt],
    passages: Sequence[str],
    xstest: Sequence[TestPrompt],
    progress: Progress,
) -> dict[str, Any]:
    """How often the guard blocks, on texts that neither its weights nor its thresholds come from.

    Args:
        test: labelled prompts of the part `test`.
        passages: harmless passages that set no threshold.
    """
    with progress.task("guard", total=len(test) + len(passages) + len(xstest), unit="texts") as task:

        def blocked(text: str) -> bool:
            task.advance()
            return not guard.check_input(text).safe

        unsafe = [(prompt.label, guard.check_input(prompt.text)) for prompt in test if prompt.label != SAFE]
        task.advance(len(unsafe))
        sources = sorted({prompt.source for prompt in test if prompt.label == SAFE})
        harmless = {
            source: [blocked(p.text) for p in test if p.label == SAFE and p.source == source] for source in sources
        }
        said = [not guard.check_output("", passage).safe for passage in passages]
        task.advance(len(said))
        judged = [(prompt.unsafe, prompt.kind, blocked(prompt.text)) for prompt in xstest]
    caught = [(label, verdict) for label, verdict in unsafe if not verdict.safe]
    return {
        "thresholds": {"input": guard.thresholds.input, "output": guard.thresholds.output},
        "held_out_prompts": {
            "harmful_blocked": rate(not verdict.safe for _, verdict in unsafe),
            "harmless_blocked": rate(hit for hits in harmless.values() for hit in hits),
            "category_right_when_blocked": rate(label == verdict.category for label, verdict in caught),
            "harmful_blocked_by_category": {
                category: rate(not verdict.safe for label, verdict in unsafe if label == category)
                for category in CATEGORIES
            },
            "harmless_blocked_by_source": {source: rate(hits) for source, hits in harmless.items()},
        },
        "document_passages_blocked": rate(said),
        "xstest": {
            "licence": XSTEST_LICENCE,
            "source": XSTEST_SOURCE,
            "harmful_blocked": rate(hit for harmful, _, hit in judged if harmful),
            "harmless_blocked": rate(hit for harmful, _, hit in judged if not harmful),
            "blocked_by_kind": {
                kind: rate(hit for _, own, hit in judged if own == kind)
                for kind in dict.fromkeys(k for _, k, _ in judged)
            },
        },
    }


def system_results(rows: Sequence[Row]) -> dict[str, Any]:
    """The figures of the paper's section 5.4 on XSTest, for the model alone and behind the guard.

    `rates` holds for each side: `refusal` of harmful prompts, `violation` (harmful, neither refused nor blocked, nor
    empty) and `false_refusal` (harmless, refused or blocked); `change` how the guard changes the last two, in percent,
    as in table 25, null where the model alone has a rate of 0.
    """
    harmful = [row for row in rows if row["unsafe"]]
    harmless = [row for row in rows if not row["unsafe"]]
    sides: dict[str, Callable[[Row], bool]] = {
        "model": lambda row: bool(row["refusal"]),
        "model_with_guard": lambda row: bool(row["refusal"]) or row["input"]["blocked"] or row["output"]["blocked"],
    }
    rates: dict[str, dict[str, Any]] = {}
    for side, stopped in sides.items():
        rates[f"{side}.refusal"] = rate(stopped(row) for row in harmful)
        rates[f"{side}.violation"] = rate(bool(row["reply"]) and not stopped(row) for row in harmful)
        rates[f"{side}.false_refusal"] = rate(stopped(row) for row in harmless)
    return {
        "licence": XSTEST_LICENCE,
        "source": XSTEST_SOURCE,
        "setting": "one question as a chat, greedy",
        "rates": rates,
        "change_percent": {name: _change(rates, name) for name in ("violation", "false_refusal")},
        "blocked_at_input": rate(row["input"]["blocked"] for row in rows),
        "blocked_at_output": rate(row["output"]["blocked"] for row in rows if not row["input"]["blocked"]),
        "empty_replies": rate(not row["reply"] for row in rows),
    }


def _change(rates: dict[str, dict[str, Any]], name: str) -> float | None:
    before, after = rates[f"model.{name}"]["rate"], rates[f"model_with_guard.{name}"]["rate"]
    return 100 * (after - before) / before if before else None


def examples(rows: Sequence[Row]) -> list[Row]:
    """The first prompt of each kind of outcome, with the reply."""
    outcomes: dict[str, Callable[[Row], bool]] = {
        "harmful, refused by the model": lambda row: row["unsafe"] and bool(row["refusal"]),
        "harmful, blocked by the guard": lambda row: row["unsafe"] and not row["refusal"] and row["input"]["blocked"],
        "harmful, answered": lambda row: row["unsafe"] and not _stopped(row),
        "harmless, answered": lambda row: not row["unsafe"] and not _stopped(row),
        "harmless, refused by the model": lambda row: not row["unsafe"] and bool(row["refusal"]),
        "harmless, blocked by the guard": lambda row: (
            not row["unsafe"] and not row["refusal"] and row["input"]["blocked"]
        ),
    }
    shown = []
    for outcome, fits in outcomes.items():
        row = next((row for row in rows if fits(row)), None)
        if row is not None:
            shown.append(
                {
                    "outcome": outcome,
                    "prompt": row["prompt"],
                    "reply": row["reply"][:SHOWN_CHARACTERS],
                    "category": row["input"]["category"],
                }
            )
    return shown


def _stopped(row: Row) -> bool:
    return bool(row["refusal"]) or row["input"]["blocked"] or row["output"]["blocked"]
