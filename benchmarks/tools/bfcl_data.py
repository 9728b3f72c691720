"""The Berkeley Function-Calling Leaderboard: its simple, multiple, parallel and irrelevance sets, and what is right.

The questions and the calls that answer them come from the package `bfcl-eval` (Apache-2.0), fetched when they are first
needed; nothing of its code is used. A set's schemas are not quite JSON Schema (`dict`, `float`, `tuple`, `any`) and are
put right here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Any

from herdsman.artifacts import Artifact, fetch, read_member
from herdsman.tokens.messages import Call, ToolSpecs

BFCL = Artifact(
    "bfcl-eval", "2026.3.23", "bfcl_eval-2026.3.23-py3-none-any.whl",
    "3bb6dfa5f0c68ad403c9ec50b00db2bb3b4cc9b38ab1ff33f48fe30d853d3a0a", 1_925_664, "Apache-2.0",
)  # fmt: skip
SETS = {"simple": "simple_python", "multiple": "multiple", "parallel": "parallel", "irrelevance": "irrelevance"}
_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
_IGNORED = re.compile(r"[ ,./\-_*^]")  # what the leaderboard passes over when it compares texts


@dataclass(frozen=True)
class Answer:
    """A call that a question asks for: of each argument the values that are right, "" if it may be left out."""

    name: str
    choices: dict[str, list[Any]]


@dataclass(frozen=True)
class Problem:
    """A question, the functions at hand, and the calls that answer it, in any order; none in the irrelevance set."""

    id: str
    question: str
    tools: ToolSpecs
    answers: tuple[Answer, ...]


def load(name: str) -> list[Problem]:
    """All questions of one of `SETS`."""
    wheel = fetch(BFCL)

    def rows(folder: str) -> list[dict[str, Any]]:
        member = read_member(wheel, f"bfcl_eval/data/{folder}BFCL_v4_{SETS[name]}.json")
        return [json.loads(line) for line in member.decode().splitlines()]

    answers = {} if name == "irrelevance" else {row["id"]: row["ground_truth"] for row in rows("possible_answer/")}
    return [
        Problem(
            row["id"],
            row["question"][0][0]["content"],
            ToolSpecs(
                (), tuple(function | {"parameters": schema(function["parameters"])} for function in row["function"])
            ),
            tuple(Answer(*item) for answer in answers.get(row["id"], ()) for item in answer.items()),
        )
        for row in rows("")
    ]


def schema(value: Any) -> Any:
    """A set's schema as JSON Schema."""
    if isinstance(value, list):
        return [schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get("type") == "any":
        value = {key: item for key, item in value.items() if key != "type"}
    return {
        key: _TYPES.get(item, item) if key == "type" and isinstance(item, str) else schema(item)
        for key, item in value.items()
    }


def reference(problem: Problem) -> list[Call]:
    """The calls with the first of the right values everywhere; what may be left out and is not required is."""
    return [
        Call(answer.name, _chosen(answer.choices, problem.tools.known[answer.name]["parameters"].get("required", ())))
        for answer in problem.answers
    ]


def _chosen(choices: dict[str, list[Any]], required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        name: _plain(next(value for value in values if value != ""))
        for name, values in choices.items()
        if "" not in values or name in required
    }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return _chosen(value)
    return [_plain(item) for item in value] if isinstance(value, list) else value


def is_right(calls: Sequence[Call], problem: Problem) -> bool:
    """Whether these calls answer the question, by the leaderboard's rules: order does not matter, nor do case, spaces
    and most marks in texts."""
    if len(calls) != len(problem.answers):
        return False
    return any(all(map(_fits, order, problem.answers)) for order in permutations(calls))


def _fits(call: Call, answer: Answer) -> bool:
    return call.name == answer.name and _fit(call.arguments, answer.choices)


def _fit(arguments: dict[str, Any], choices: dict[str, list[Any]]) -> bool:
    return (
        all(
            any(_equal(arguments[name], value) for value in values) if name in arguments else "" in values
            for name, values in choices.items()
        )
        and not arguments.keys() - choices.keys()
    )


def _equal(value: Any, expected: Any) -> bool:
    if isinstance(expected, dict):
        return isinstance(value, dict) and _fit(value, expected)
    if isinstance(expected, list):
        return isinstance(value, list) and len(value) == len(expected) and all(map(_equal, value, expected))
    if isinstance(expected, str):
        return isinstance(value, str) and _IGNORED.sub("", value).lower() == _IGNORED.sub("", expected).lower()
    return isinstance(value, bool) == isinstance(expected, bool) and value == expected
