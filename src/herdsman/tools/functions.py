"""The user's own functions as tools: from a Python function's signature and docstring, or from a JSON schema.

They run in the user's own process, for they are the user's code; the sandbox is for what models write.
"""

from __future__ import annotations

import importlib.util
import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

from docstring_parser import parse
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, ValidationError, create_model
from pydantic_core import to_json

from herdsman.errors import InputError
from herdsman.tokens.call_forms import MalformedCall
from herdsman.tokens.calls import check_call
from herdsman.tokens.messages import Call, ToolSpecs
from herdsman.tools.tool import Result

_AS_THEY_ARE = frozenset(("default", "const", "enum", "examples"))
"""Keywords of a JSON schema whose values are no schemas."""


class FunctionTool:
    """A Python function as a tool.

    Names, types and defaults of the arguments come from the signature (whatever pydantic knows: numbers, text, lists,
    `Literal`, dataclasses, models), descriptions from the docstring in Google's, NumPy's or Sphinx's style, or from
    `Annotated[int, Field(description=...)]`. The function gets values of these types. What it returns is given to the
    model as text: a string as it is, a `Result` as it is, anything else as JSON.

    Raises:
        InputError: the function has no docstring, or arguments that have no names or no schema.
    """

    def __init__(self, function: Callable[..., Any], name: str | None = None):
        self.name = str(name or getattr(function, "__name__", "function"))
        self._run = function
        told = parse(inspect.getdoc(function) or "")
        if not told.description:
            raise InputError("it has no docstring", where=f"function {self.name}", do="say in one what it does")
        said = {each.arg_name: " ".join((each.description or "").split()) for each in told.params}
        self._arguments = _arguments_model(self.name, function, said)
        with warnings.catch_warnings(action="ignore"):  # defaults that JSON cannot express are left out
            schema = _untitled(self._arguments.model_json_schema())
        schema.setdefault("properties", {})
        self.function = {"name": self.name, "description": told.description, "parameters": schema}
        ToolSpecs(functions=(self.function,))

    def call(self, arguments: dict[str, Any]) -> Result:
        try:
            given = self._arguments.model_validate(arguments)
        except ValidationError as error:
            return Result(f"{self.name} was not called: {_complaint(error)}.", failed=True)
        named = {str(field.alias): getattr(given, name) for name, field in type(given).model_fields.items()}
        return _run(self.name, lambda: self._run(**named))

    def close(self) -> None:
        pass


class SchemaTool:
    """A tool from a function object (name, description, and `parameters`, a JSON schema of an object) and a handler.

    Args:
        handler: gets the arguments as a dictionary that fits the schema.

    Raises:
        InputError: the function object has no proper name, or its parameters are no object.
    """

    def __init__(self, function: dict[str, Any], handler: Callable[[dict[str, Any]], Any]):
        self._specs = ToolSpecs(functions=(function,))
        self.name, self.function, self._handler = function["name"], function, handler

    def call(self, arguments: dict[str, Any]) -> Result:
        try:
            check_call(Call(self.name, arguments), self._specs)
        except MalformedCall as error:
            return Result(f"{self.name} was not called: {error}.", failed=True)
        return _run(self.name, lambda: self._handler(arguments))

    def close(self) -> None:
        pass


def functions_in(path: Path) -> list[FunctionTool]:
    """The functions of a Python file as tools: those that the file itself defines, but names with a leading underscore.

    Raises:
        InputError: the file cannot be run, defines no such function, or one that cannot be a tool.
    """
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise InputError("there is no such Python file", where=path, do="check the path")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise InputError(f"cannot be run ({_described(error)})", where=path, do="mend it") from error
    found = [
        value
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    if not found:
        raise InputError("it defines no function", where=path, do="define the functions that a model may call")
    return [FunctionTool(function) for function in found]


def _arguments_model(name: str, function: Callable[..., Any], said: dict[str, str]) -> type[BaseModel]:
    """A model of a call's arguments. Its fields are numbered, with the arguments' names as aliases, so that these may
    be any name, also one that pydantic has for itself."""
    where = f"function {name}"
    if inspect.iscoroutinefunction(function):
        raise InputError("it is asynchronous", where=where, do="give one that returns its result")
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters
    except (NameError, TypeError, ValueError) as error:
        raise InputError(f"its signature cannot be read ({error})", where=where, do="mend its annotations") from error
    fields: dict[str, Any] = {}
    for number, (argument, parameter) in enumerate(parameters.items()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            raise InputError(
                f"its argument {argument} cannot be given by name", where=where, do="give each argument a name"
            )
        default = ... if parameter.default is parameter.empty else parameter.default
        described: dict[str, Any] = {"description": said[argument]} if argument in said else {}
        info = Field(default, alias=argument, **described)
        fields[f"argument{number}"] = (hints.get(argument, Any), info)
    try:
        return create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    except PydanticUserError as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"it has an argument without a JSON schema ({reason})", where=where, do="change it") from error


def _untitled(schema: Any) -> Any:
    """The schema without the titles that pydantic makes of names: they tell a model nothing, and cost it tokens."""
    if isinstance(schema, list):
        return [_untitled(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value if key in _AS_THEY_ARE else _untitled(value)
        for key, value in schema.items()
        if key != "title" or not isinstance(value, str)
    }


def _run(name: str, function: Callable[[], Any]) -> Result:
    try:
        value = function()
        if isinstance(value, Result):
            return value
        return Result(value if isinstance(value, str) else to_json(value, serialize_unknown=True).decode())
    except Exception as error:  # whatever the user's code raises: the model should know that nothing was done
        return Result(f"{name} failed: {_described(error)}.", failed=True)


def _described(error: Exception) -> str:
    message = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {message:.300}".rstrip(": .")


def _complaint(error: ValidationError) -> str:
    """The first thing that pydantic says is wrong, and where."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    what = "there is no such argument" if first["type"] == "extra_forbidden" else first["msg"]
    return f"{place}: {what[0].lower()}{what[1:]}"
