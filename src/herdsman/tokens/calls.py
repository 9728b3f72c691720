"""Calls of tools: found in what a model wrote, checked against the tools there are, and written for it to read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from itertools import chain, count
from typing import Any, Literal

import referencing
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError, best_match
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from herdsman.errors import InputError
from herdsman.tokens.call_forms import MalformedCall, read_calls
from herdsman.tokens.messages import CODE_INTERPRETER, Call, Message, ToolSpecs

CallForm = Literal["builtin", "json", "function_tag", "python_list", "tool_call"]
LONGEST_SENTENCE = 300
MOST_REFERENCES = 1000


def parse_calls(message: Message, tools: ToolSpecs) -> list[Call]:
    """What an assistant's message calls, in the order it stands there; nothing if it calls nothing.

    Behind the python tag, what is no call of a tool is code for the interpreter.

    Raises:
        MalformedCall: it tried to call a tool and failed: the call cannot be read, there is no such tool, or the
            arguments are not those of the tool.
    """
    if message.role != "assistant" or not (tools or message.call or message.calls):
        return []
    calls = list(message.calls)
    if not calls:
        calls = read_calls(message.content, tools.known, alone=message.call)
        if not calls and message.call:
            calls = [Call(CODE_INTERPRETER, {"code": message.content})]
    for call in calls:
        check_call(call, tools)
    return calls


def check_call(call: Call, tools: ToolSpecs) -> None:
    """Checks a call, and those nested in it, against the tools' names and JSON Schemas.

    An argument that a schema with properties does not list is refused, unless it says `additionalProperties`.

    Raises:
        MalformedCall: there is no such tool, or the arguments do not fit.
    """
    function = tools.known.get(call.name)
    if function is None:
        there = f"there are {', '.join(tools.known)}" if tools else "there are none"
        raise MalformedCall(f"there is no tool {call.name!r:.80}; {there}")
    try:
        sentence = _misfit(call, function.get("parameters") or {}, tools)
    except MalformedCall:
        raise
    except Exception as problem:  # A schema can be wrong in more ways than the library foresees.
        reason = f"{type(problem).__name__} {problem}".partition("\n")[0]
        raise MalformedCall(f"the arguments of {call.name} cannot be checked: {reason:.200}") from problem
    if sentence is not None:
        raise MalformedCall(sentence if len(sentence) <= LONGEST_SENTENCE else sentence[: LONGEST_SENTENCE - 3] + "...")


def _misfit(call: Call, schema: Mapping[str, Any], tools: ToolSpecs) -> str | None:
    """What is wrong with the arguments, if anything."""
    nested = {name: list(_nested(value)) for name, value in call.arguments.items()}
    for inner in chain.from_iterable(nested.values()):
        check_call(inner, tools)
    properties = schema.get("properties") or {}
    unknown = [name for name in call.arguments if name not in properties]
    if unknown and "additionalProperties" not in schema and "patternProperties" not in schema:
        takes = f"it takes {', '.join(properties)}" if properties else "it takes none"
        return f"{call.name} has no argument {unknown[0]!r:.80}; {takes}"
    # What a nested call gives is not known yet: such an argument counts as given, whatever its type.
    required = [name for name in schema.get("required") or () if not nested.get(name)]
    plain = {name: value for name, value in call.arguments.items() if not nested[name]}
    _followed.set(count())
    validator = _Validator({**schema, "required": required}, registry=_NO_DOCUMENTS)
    error = best_match(validator.iter_errors(plain))
    if error is None:
        return None
    place = "".join(f"[{part!r}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    return f"{call.name}{place}: {error.message}"


def write_calls(calls: Sequence[Call], form: CallForm | None = None) -> str:
    """Calls as a model writes them; without a form as Llama 3.1 does, which has one for each kind of tool.

    Raises:
        InputError: the form cannot express them.
    """
    if form is None:
        form = "python_list" if any(map(_is_nested, calls)) else "json"
        if len(calls) == 1 and _has_own_form(calls[0]):
            form = "builtin"
    match form:
        case "builtin":
            if len(calls) > 1 and any(call.name == CODE_INTERPRETER for call in calls):
                raise InputError("code fills a message and stands beside no other call", do="send it by itself")
            return "\n".join(map(_builtin, calls))
        case "json":
            return "; ".join(
                f'{{"type": "function", "name": {_json(call.name)}, "parameters": {arguments_json(call)}}}'
                for call in calls
            )
        case "function_tag":
            return "\n".join(f"<function={call.name}>{arguments_json(call)}</function>" for call in calls)
        case "python_list":
            return f"[{', '.join(map(_python, calls))}]"
        case "tool_call":
            return "\n".join(
                f'<tool_call>\n{{"name": {_json(call.name)}, "arguments": {arguments_json(call)}}}\n</tool_call>'
                for call in calls
            )


def arguments_json(call: Call) -> str:
    """A call's arguments in JSON.

    Raises:
        InputError: there is a nested call in them, or what is no JSON.
    """
    try:
        return _json(call.arguments)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"the arguments cannot be written as JSON ({error})", where=f"call of {call.name}", do="give plain values"
        ) from error


def _builtin(call: Call) -> str:
    if not _has_own_form(call):
        raise InputError("it is no call of a built-in tool", where=f"call of {call.name}", do="write it as JSON")
    if call.name == CODE_INTERPRETER:
        return str(call.arguments["code"])
    return f"{call.name}.call(query={_json(call.arguments['query'])})"


def _has_own_form(call: Call) -> bool:
    expected = {"brave_search": "query", "wolfram_alpha": "query", CODE_INTERPRETER: "code"}.get(call.name)
    return call.arguments.keys() == {expected} and isinstance(call.arguments[expected or ""], str)


def _python(call: Call) -> str:
    for name in (*call.name.split("."), *call.arguments):
        if not name.isidentifier():
            raise InputError(f"{name!r} is no name in Python", where=f"call of {call.name}", do="write it as JSON")
    return f"{call.name}({', '.join(f'{name}={_python_value(value)}' for name, value in call.arguments.items())})"


def _python_value(value: Any) -> str:
    if isinstance(value, Call):
        return _python(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_python_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name!r}: {_python_value(item)}' for name, item in value.items())}}}"
    if not isinstance(value, str | int | float | None) or value in (math.inf, -math.inf) or value != value:
        raise InputError(f"{value!r:.80} is no value of JSON", do="give strings, numbers, lists and objects")
    return repr(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _is_nested(call: Call) -> bool:
    return any(any(_nested(value)) for value in call.arguments.values())


def _nested(value: Any) -> Iterator[Call]:
    """The calls in an argument's value, however deep."""
    left = [value]
    while left:
        item = left.pop()
        if isinstance(item, Call):
            yield item
        elif isinstance(item, list | dict):
            left += item.values() if isinstance(item, dict) else item


def _unchecked(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    return iter(())


def _additional(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if "patternProperties" not in schema:
        yield from Draft202012Validator.VALIDATORS["additionalProperties"](validator, value, instance, schema)


def _reference(validator: Validator, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if next(_followed.get()) >= MOST_REFERENCES:
        raise ValueError(f"more than {MOST_REFERENCES:,} references to follow")
    yield from Draft202012Validator.VALIDATORS["$ref"](validator, value, instance, schema)


# A schema may come from a stranger: no document of it is fetched, references are followed so often and no more, and no
# regular expression is run, for one that backtracks would stand still on what a model wrote. The tool can refuse it.
_NO_DOCUMENTS: referencing.Registry[Any] = referencing.Registry()
_Validator = extend(
    Draft202012Validator,
    {
        "pattern": _unchecked,
        "patternProperties": _unchecked,
        "additionalProperties": _additional,
        "$ref": _reference,
        "$dynamicRef": _unchecked,
    },
)
_followed: ContextVar[Iterator[int]] = ContextVar("_followed")
