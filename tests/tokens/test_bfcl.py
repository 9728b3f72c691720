"""The function-calling leaderboard's calls: every right one is read and accepted in every form, no broken one is."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from herdsman.tokens.calls import CallForm, MalformedCall, check_call, parse_calls, write_calls
from herdsman.tokens.messages import Call, Message, ToolSpecs

sys.path.append(str(Path(__file__).parents[2] / "benchmarks" / "tools"))
from bfcl_data import SETS, Answer, Problem, is_right, load, reference

FORMS: tuple[CallForm, ...] = ("json", "function_tag", "python_list", "tool_call")
SIZES = {"simple": 400, "multiple": 200, "parallel": 200, "irrelevance": 240}
OF_ANOTHER_TYPE = {"string": 7, "integer": "seven", "number": "seven", "boolean": "yes", "array": "x", "object": [1]}


@pytest.fixture(scope="module", params=[name for name in SETS if name != "irrelevance"])
def problems(request: pytest.FixtureRequest) -> list[Problem]:
    found = load(request.param)
    assert len(found) == SIZES[request.param]
    return found


def read(text: str, tools: ToolSpecs, call: bool = False) -> list[Call]:
    return parse_calls(Message("assistant", text, call), tools)


def test_the_benchmark_tells_answers_apart(problems: list[Problem]) -> None:
    from bfcl import outcome

    for problem in problems[:20]:
        calls = reference(problem)
        answers = {
            "right": write_calls(calls),
            "other": write_calls([*calls, *calls]),
            "malformed": '{"name": "f',
            "none": "No.",
        }
        for expected, text in answers.items():
            assert outcome(Message("assistant", text), problem) == expected


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("tagged", [False, True])
def test_every_reference_call_is_accepted(problems: list[Problem], form: CallForm, tagged: bool) -> None:
    for problem in problems:
        calls = reference(problem)
        assert is_right(calls, problem)
        text = write_calls(calls, form)
        assert read(text, problem.tools, tagged) == calls
        if not tagged:
            assert read(f"Certainly.\n\n```\n{text}\n```\nThat should do.", problem.tools) == calls


def broken(call: Call, tools: ToolSpecs) -> Iterator[Call]:
    """The call with one thing wrong, for each thing that can be."""
    parameters = tools.known[call.name]["parameters"]
    yield Call(call.name + "_of", call.arguments)
    yield Call(call.name, call.arguments | {"no_such_argument": 1})
    for name in parameters.get("required", ()):
        yield Call(call.name, {key: value for key, value in call.arguments.items() if key != name})
    for name in call.arguments:
        definition = parameters["properties"][name]
        if wrong := OF_ANOTHER_TYPE.get(definition.get("type")):
            yield Call(call.name, call.arguments | {name: wrong})
        if "enum" in definition:
            yield Call(call.name, call.arguments | {name: "none of these"})
        if definition.get("type") == "array" and (inner := OF_ANOTHER_TYPE.get(definition["items"].get("type"))):
            yield Call(call.name, call.arguments | {name: [*call.arguments[name], inner]})


def test_every_wrong_call_is_rejected(problems: list[Problem]) -> None:
    rejected = 0
    for problem in problems:
        calls = reference(problem)
        for place, call in enumerate(calls):
            for wrong in broken(call, problem.tools):
                with pytest.raises(MalformedCall):
                    check_call(wrong, problem.tools)
                form = FORMS[rejected % len(FORMS)]
                with pytest.raises(MalformedCall):
                    read(write_calls([*calls[:place], wrong, *calls[place + 1 :]], form), problem.tools)
                rejected += 1
    assert rejected > 5 * len(problems)


@pytest.mark.parametrize("form", FORMS)
def test_every_call_that_breaks_off_is_rejected(problems: list[Problem], form: CallForm) -> None:
    rng = random.Random(1)
    for problem in problems:
        calls = reference(problem)
        text = write_calls(calls, form)
        last = len(write_calls(calls[:-1], form)) if len(calls) > 1 else 0
        opening, closing = {"python_list": ("(", ")"), "json": (":", "}")}.get(form, ("{", "}"))
        for cut in (text.rindex(closing), rng.randrange(text.index(opening, last) + 1, text.rindex(closing))):
            with pytest.raises(MalformedCall):
                read(text[:cut], problem.tools)


def test_what_is_no_call_is_none() -> None:
    problems = load("irrelevance")
    assert len(problems) == SIZES["irrelevance"]
    for problem in problems:
        assert problem.answers == ()
        assert is_right([], problem)
        names = ", ".join(problem.tools.known)
        for text in (
            problem.question,
            f"None of the functions can be used.\n{names}(...) is for something else. {problem.question}",
            f'{{"answer": "{names} cannot help", "parameters": [1, 2]}}',
            f"I looked at [{names}] (see `{names}(x)`), which does not fit: {{'name': 1}}.",
        ):
            assert read(text, problem.tools) == []


@pytest.mark.parametrize(
    ("arguments", "right"),
    [
        ({"city": "new-york, ny", "days": 3}, True),
        ({"city": "New York, NY", "days": 3.0, "unit": "C"}, True),
        ({"city": "New York", "days": 3}, False),
        ({"city": "New York, NY"}, False),
        ({"city": "New York, NY", "days": True}, False),
        ({"city": "New York, NY", "days": 3, "unit": "K"}, False),
        ({"city": "New York, NY", "days": 3, "more": 1}, False),
        ({"city": "New York, NY", "days": 3, "where": {"a": [1, "X"]}}, True),
        ({"city": "New York, NY", "days": 3, "where": {"a": [1]}}, False),
        ({"city": "New York, NY", "days": 3, "where": {"b": [1, "X"]}}, False),
    ],
)
def test_what_counts_as_right(arguments: dict[str, Any], right: bool) -> None:
    choices = {"city": ["New York, NY"], "days": [3], "unit": ["C", ""], "where": [{"a": [[1, "x"]]}, ""]}
    one = Problem("1", "", ToolSpecs(), (Answer("f", choices),))
    assert is_right([Call("f", arguments)], one) == right
    two = Problem("2", "", ToolSpecs(), (Answer("g", {}), Answer("f", choices)))
    assert is_right([Call("f", arguments), Call("g", {})], two) == right
    assert not is_right([Call("g", arguments)], one)
    assert not is_right([], one)
