"""The user's functions as tools: what a model is told of them, what they are given, and how failures come back."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from herdsman.errors import InputError
from herdsman.tokens.calls import parse_calls
from herdsman.tokens.messages import Call, Message, ToolSpecs
from herdsman.tools.functions import FunctionTool, SchemaTool, functions_in
from herdsman.tools.tool import File, Result


@dataclass
class Place:
    """Where on earth."""

    latitude: float
    title: str = "here"


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Lamp(BaseModel):
    colour: Colour
    watts: int = Field(gt=0)


def weather(place: Place, days: int = 3, unit: Literal["C", "F"] = "C", *, tags: list[str] | None = None) -> str:
    """Forecasts the weather.

    Takes a second.

    Args:
        place: where
            to look.
        days: how many (1 to 9).

    Returns:
        A sentence.
    """
    return f"{type(place).__name__} {place.latitude} {place.title}, {days!r} {unit} {tags}"


def test_a_signature_and_a_docstring_become_a_function_object() -> None:
    assert FunctionTool(weather).function == {
        "name": "weather",
        "description": "Forecasts the weather.\n\nTakes a second.",
        "parameters": {
            "type": "object",
            "additionalProperties": False,
            "required": ["place"],
            "properties": {
                "place": {"$ref": "#/$defs/Place", "description": "where to look."},
                "days": {"type": "integer", "default": 3, "description": "how many (1 to 9)."},
                "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                "tags": {"anyOf": [{"type": "array", "items": {"type": "string"}}, {"type": "null"}], "default": None},
            },
            "$defs": {
                "Place": {
                    "type": "object",
                    "description": "Where on earth.",
                    "additionalProperties": False,
                    "properties": {"latitude": {"type": "number"}, "title": {"type": "string", "default": "here"}},
                    "required": ["latitude"],
                }
            },
        },
    }


def test_the_function_gets_values_of_its_types() -> None:
    tool = FunctionTool(weather)
    assert tool.call({"place": {"latitude": 1}}).text == "Place 1.0 here, 3 C None"
    assert tool.call({"place": {"latitude": "2.5", "title": "x"}, "days": "4", "tags": ["a"], "unit": "F"}) == Result(
        "Place 2.5 x, 4 F ['a']"
    )

    def lamp(lamp: Lamp, on: date) -> Any:
        """Lights."""
        return {"colour": lamp.colour, "day": on}

    assert json.loads(FunctionTool(lamp).call({"lamp": {"colour": "red", "watts": 5}, "on": "2026-01-02"}).text) == {
        "colour": "red", "day": "2026-01-02",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({}, "weather was not called: place: field required."),
        ({"place": {}}, "weather was not called: place.latitude: field required."),
        ({"place": {"latitude": 1}, "day": 1}, "weather was not called: day: there is no such argument."),
        ({"place": {"latitude": 1}, "unit": "K"}, "weather was not called: unit: input should be 'C' or 'F'."),
    ],
)
def test_arguments_that_do_not_fit_are_a_failed_result(arguments: dict[str, Any], sentence: str) -> None:
    assert FunctionTool(weather).call(arguments) == Result(sentence, failed=True)


def test_what_a_function_raises_is_one_sentence_and_what_it_returns_is_text() -> None:
    def broken(how: str) -> Any:
        """Breaks."""
        if how == "raise":
            raise KeyError("there is\nno such key")
        if how == "validate":
            Lamp.model_validate({})
        return {"text": "Grüße", "file": Result("done", (File("a.png", "image/png", b"x"),)), "none": None,
                "list": [1, 2.5, True], "strange": {object}}[how]  # fmt: skip

    tool = FunctionTool(broken)
    assert tool.call({"how": "raise"}) == Result("broken failed: KeyError: 'there is\\nno such key'.", failed=True)
    assert tool.call({"how": "validate"}).text == "broken failed: ValidationError: 2 validation errors for Lamp."
    assert tool.call({"how": "text"}) == Result("Grüße")
    assert tool.call({"how": "file"}).files[0].name == "a.png"
    assert tool.call({"how": "none"}).text == "null"
    assert tool.call({"how": "list"}).text == "[1,2.5,true]"
    assert not tool.call({"how": "strange"}).failed
    tool.close()


def test_argument_names_may_be_any() -> None:
    def odd(schema: str, model_config: int, _hidden: bool, json: list[int], copy=None) -> str:
        """Has names that pydantic has for itself."""
        return f"{schema} {model_config} {_hidden} {json} {copy}"

    tool = FunctionTool(odd)
    assert list(tool.function["parameters"]["properties"]) == ["schema", "model_config", "_hidden", "json", "copy"]
    given = {"schema": "s", "model_config": 1, "_hidden": True, "json": [1], "copy": {"a": 1}}
    assert tool.call(given).text == "s 1 True [1] {'a': 1}"


def test_other_styles_of_docstrings_and_annotations_describe_too() -> None:
    def numpy(a: int) -> None:
        """Adds.

        Parameters
        ----------
        a : int
            The first.
        """

    def sphinx(a: int) -> None:
        """Adds.

        :param a: The first.
        """

    def annotated(a: Annotated[int, Field(description="The first.", ge=1)]) -> None:
        """Adds."""

    for function in (numpy, sphinx, annotated):
        assert FunctionTool(function).function["parameters"]["properties"]["a"]["description"] == "The first."
    assert FunctionTool(annotated).call({"a": 0}).text.endswith("a: input should be greater than or equal to 1.")
    assert FunctionTool(annotated).call({"a": 1}).text == "null"


def test_calls_that_a_model_writes_are_checked_against_the_same_schema() -> None:
    specs = ToolSpecs(functions=(FunctionTool(weather).function,))
    written = '{"name": "weather", "parameters": {"place": {"latitude": 1.5}, "unit": "F"}}'
    assert parse_calls(Message("assistant", written), specs) == [
        Call("weather", {"place": {"latitude": 1.5}, "unit": "F"})
    ]


def test_what_cannot_be_a_tool_is_said_in_a_sentence() -> None:
    def silent(a: int) -> None: ...

    def starred(*numbers: int) -> None:
        """Adds."""

    def positional(a: int, /) -> None:
        """Adds."""

    def unknown(a: Nowhere) -> None:  # noqa: F821
        """Adds."""

    def strange(a: asyncio.Event) -> None:
        """Waits."""

    async def later() -> None:
        """Waits."""

    for function, sentence in (
        (silent, "function silent: it has no docstring"),
        (starred, "function starred: its argument numbers cannot be given by name"),
        (positional, "function positional: its argument a cannot be given by name"),
        (unknown, "function unknown: its signature cannot be read"),
        (strange, "function strange: it has an argument without a JSON schema"),
        (later, "function later: it is asynchronous"),
    ):
        with pytest.raises(InputError, match=sentence):
            FunctionTool(function)
    with pytest.raises(InputError, match="cannot be called 'a b'"):
        FunctionTool(weather, "a b")


def test_a_json_schema_with_a_handler_is_a_tool() -> None:
    parameters = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}
    tool = SchemaTool(
        {"name": "half", "description": "Halves.", "parameters": parameters}, lambda given: given["n"] / 2
    )
    assert tool.call({"n": 5}) == Result("2.5")
    assert tool.call({"n": 0}) == Result("half was not called: half.n: 0 is less than the minimum of 1.", failed=True)
    assert tool.call({}).failed
    broken = SchemaTool({"name": "half"}, lambda given: 1 / 0)
    assert broken.call({}) == Result("half failed: ZeroDivisionError: division by zero.", failed=True)
    with pytest.raises(InputError, match="cannot be called"):
        SchemaTool({"name": "1/2"}, lambda given: None)


def test_the_functions_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from __future__ import annotations\nfrom os.path import join\nfrom typing import Literal\n"
        "SIDES: dict = {}\ndef roll(sides: Literal[6, 20] = 6) -> int:\n    '''Rolls.'''\n    return sides\n"
        "def _hidden(): ...\nclass Not: ...\n"
    )
    (tool,) = functions_in(path)
    assert tool.function["parameters"]["properties"] == {"sides": {"type": "integer", "enum": [6, 20], "default": 6}}
    assert tool.call({"sides": 20}).text == "20"
    for text, sentence in (
        ("def f(:", r"cannot be run \(SyntaxError: "),
        ("1/0", r"cannot be run \(ZeroDivisionError: division by zero\); mend it"),
        ("x = 1", "it defines no function"),
        ("def f(): ...", "function f: it has no docstring"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=sentence):
            functions_in(path)
    with pytest.raises(InputError, match="there is no such Python file"):
        functions_in(tmp_path / "none.py")
