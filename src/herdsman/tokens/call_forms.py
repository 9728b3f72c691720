"""Calls found in a text by how they look, in every form that Llama models and their peers write.

    brave_search.call(query="...")                       Llama 3.1, built-in tools
    {"name": "f", "parameters": {"a": 1}}                Llama 3.1, functions; also `arguments`, arrays, OpenAI's frame
    <function=f>{"a": 1}</function>                      Llama 3.1, functions
    [f(a=1), g(b=[1, 2])]                                Llama 3.2; also without the brackets
    <tool_call>{"name": "f", "arguments": {"a": 1}}</tool_call>      models taught ChatML

One parser for all, for a model writes the form it was taught and not the one it was asked for. What looks like a call
and cannot be read is an error, never text: the model should learn that nothing was called.
"""

from __future__ import annotations

import ast
import io
import json
import keyword
import math
import re
import tokenize
import warnings
from collections.abc import Collection
from itertools import pairwise
from typing import Any

from herdsman.tokens.messages import BUILTIN_TOOLS, Call

_FRAME_KEYS = {"id", "type", "name", "function", "parameters", "arguments"}
_JSON_START = re.compile(r"""(?:\[\s*)?\{\s*["'](?:id|type|name|function|parameters|arguments)["']\s*:""")
_NAME_KEY = re.compile(r"""["'](?:name|function)["']\s*:""")
_FUNCTION_TAG = re.compile(r"<function=([\w.-]+)>?\s*")
_TOOL_CALL_TAG = re.compile(r"<tool_call>\s*")
_PYTHON_CALL = re.compile(r"(\[\s*)?([A-Za-z_][\w.]*)\(")
_PYTHON_START = re.compile(r"^[ \t]*" + _PYTHON_CALL.pattern, re.MULTILINE)
_LOOSE_QUERY = re.compile(r'(\w+)\.call\(query="(.*)"\)[ \t]*$', re.MULTILINE)
_LINE_ENDS = re.compile(r"[ \t]*(?:[\n;,]|$)")
_BETWEEN = re.compile(r"[;,\s]*")
_FENCE = re.compile(r"```\w*\n(.*?)\n?```", re.DOTALL)
_STRING_OR_BRACKET = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' r"'''(?:\\.|[^\\])*?'''|" r'"(?:\\.|[^"\\])*"|' r"'(?:\\.|[^'\\])*'|[()\[\]{}]", re.DOTALL
)
_CLOSING = {"(": ")", "[": "]", "{": "}"}
_JSON_NAMES = {"true": True, "false": False, "null": None}
_BUILTIN_CALLS = {f"{name}.call" for name in BUILTIN_TOOLS}
_HIDDEN = "__keyword"


class MalformedCall(ValueError):
    """The model tried to call a tool and failed: one sentence, which the model can be given to read."""


def read_calls(text: str, names: Collection[str], alone: bool = False) -> list[Call]:
    """The calls in a text, in their order; their names and arguments are not checked.

    Args:
        names: of the tools there are. Python's form and one without arguments are too common in ordinary text to be
            taken for a call of anything else.
        alone: the text is a call from its first character on, or none: so it is behind a python tag, where code that
            holds a call's likeness is code.

    Raises:
        MalformedCall: something looks like a call and cannot be read.
    """
    fenced = _FENCE.fullmatch(text.strip())
    text = fenced[1] if fenced else text.strip()
    for start, read in (
        (_TOOL_CALL_TAG, _tool_calls),
        (_FUNCTION_TAG, _function_tags),
        (_JSON_START, _json_calls),
        (_PYTHON_START, _python_calls),
    ):
        if (start.match if alone else start.search)(text) and (calls := read(text, names, alone)):
            return calls
    return []


def _tool_calls(text: str, names: Collection[str], alone: bool) -> list[Call]:
    calls: list[Call] = []
    at = 0
    while match := _TOOL_CALL_TAG.search(text, at):
        at = match.end()
        if text[at : at + 1] in ("{", "["):
            value = _json_at(text, at)
            if value is not None and (found := _framed(value[0], names)):
                calls, at = calls + found, value[1]
                continue
        end = text.find("</tool_call>", at)
        inner = text[at : end if end >= 0 else len(text)]
        found = _function_tags(inner, names, alone) or _python_calls(inner, names, alone)
        if not found:
            raise MalformedCall(f"between <tool_call> and </tool_call> stands no call in JSON: {_shown(inner)}")
        calls, at = calls + found, at + len(inner)
    return calls


def _function_tags(text: str, names: Collection[str], alone: bool) -> list[Call]:
    calls: list[Call] = []
    at = 0
    while match := _FUNCTION_TAG.search(text, at):
        name, at = match[1], match.end()
        if text.startswith("</function>", at):
            calls.append(Call(name, {}))
            continue
        value = _json_at(text, at) or _literal_at(text, at)
        if value is None or not isinstance(value[0], dict):
            raise MalformedCall(f"behind <function={name}> stands no JSON object: {_shown(text[at:])}")
        calls.append(Call(name, value[0]))
        at = value[1]
    return calls


def _json_calls(text: str, names: Collection[str], alone: bool) -> list[Call]:
    calls: list[Call] = []
    at = 0
    while match := _JSON_START.search(text, at):
        start = match.start()
        value = _json_at(text, start) or _literal_at(text, start)
        if value is None:
            if calls or start == 0 or _NAME_KEY.search(text, start):
                raise MalformedCall(f"this is no JSON that can be read: {_shown(text[start:])}")
            break  # an object of another kind, broken off: what comes behind is part of it
        calls += _framed(value[0], names)
        at = value[1]
    return calls


def _framed(value: Any, names: Collection[str]) -> list[Call]:
    """The calls that a JSON value says; none if it is something else, such as the definition of a function.

    Raises:
        MalformedCall: its arguments are no object.
    """
    if isinstance(value, list):
        found = [_framed(item, names) for item in value]
        return [call for calls in found for call in calls] if all(found) else []
    if not isinstance(value, dict) or value.keys() - _FRAME_KEYS:
        return []
    if isinstance(value.get("function"), dict):
        value = value["function"]
    name = value.get("name", value.get("function"))
    given = [value[key] for key in ("parameters", "arguments") if key in value]
    if not isinstance(name, str) or value.keys() - _FRAME_KEYS:
        return []
    if not given:
        return [Call(name, {})] if name in names or value.get("type") == "function" else []
    arguments = given[0]
    if isinstance(arguments, str):
        decoded = _json_at(arguments, 0)
        arguments = decoded[0] if decoded and not arguments[decoded[1] :].strip() else None
    if not isinstance(arguments, dict) or len(given) > 1:
        raise MalformedCall(f"the arguments of {_shown(name)} are not one JSON object")
    return [Call(name, arguments)]


def _python_calls(text: str, names: Collection[str], alone: bool) -> list[Call]:
    """Lists of calls, and calls by themselves that fill their lines."""
    calls: list[Call] = []
    match = _PYTHON_START.search(text)
    while match:
        listed = bool(match[1])
        start = match.start(1) if listed else match.start(2)
        known = match[2] in names or match[2] in _BUILTIN_CALLS
        end = _end_of_brackets(text, start if listed else match.end() - 1) if known or start == 0 else None
        found = None if end is None else _python_call_nodes(text[start:end])
        if not known and not (listed and end == len(text) and found and not any(node.args for node in found)):
            if alone:
                return []
            match = _PYTHON_START.search(text, match.end())
            continue
        if found is None and match[2] in _BUILTIN_CALLS and (loose := _LOOSE_QUERY.match(text, start)):
            calls.append(Call(loose[1], {"query": loose[2]}))
            end = loose.end()
        elif found is None or end is None:
            raise MalformedCall(f"this is no call that can be read: {_shown(text[start:])}")
        elif listed or _LINE_ENDS.match(text, end):
            calls += map(_python_call, found)
        elif alone:
            return []
        after = _BETWEEN.match(text, end)
        assert after is not None  # it matches nothing, too
        match = _PYTHON_CALL.match(text, after.end()) or _PYTHON_START.search(text, after.end())
        if alone and after.end() < len(text) and not (match and match.start() == after.end()):
            return []
    return calls


def _python_call_nodes(code: str) -> list[ast.Call] | None:
    """The calls of a call or of a list of calls; None for other code, and for what is none."""
    for text in (code, _hide_keywords(code)):
        try:
            with warnings.catch_warnings(action="ignore"):
                tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            continue
        nodes = tree.elts if isinstance(tree, ast.List) else [tree]
        calls = [node for node in nodes if isinstance(node, ast.Call)]
        return calls if len(calls) == len(nodes) else None
    return None


def _hide_keywords(code: str) -> str:
    """Arguments with the names of Python's keywords, `f(from=1)`, under names that Python can read."""
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(code).readline))
    except (tokenize.TokenError, SyntaxError):
        return ""
    return tokenize.untokenize(
        (token.type, token.string + (_HIDDEN if keyword.iskeyword(token.string) and after.string == "=" else ""))
        for token, after in pairwise(tokens)
    )


def _python_call(node: ast.Call) -> Call:
    name = _dotted(node.func)
    if node.args or any(argument.arg is None for argument in node.keywords):
        raise MalformedCall(f"the arguments of {_shown(name)} must be given by name")
    arguments = {str(argument.arg).removesuffix(_HIDDEN): _python_value(argument.value) for argument in node.keywords}
    return Call(name.removesuffix(".call") if name in _BUILTIN_CALLS else name, arguments)


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    raise MalformedCall("what is called is no name of a function")


def _python_value(node: ast.expr) -> Any:
    """A literal of the values that JSON has, or a nested call.

    Raises:
        MalformedCall: it is anything else.
    """
    match node:
        case ast.Constant(value=str() | bool() | int() | None as value):
            return value
        case ast.Constant(value=float() as value) if math.isfinite(value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)) if math.isfinite(value):
            return -value
        case ast.List(elts=items) | ast.Tuple(elts=items):
            return [_python_value(item) for item in items]
        case ast.Dict(keys=keys, values=values):
            names = [key.value for key in keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]
            if len(names) < len(values):
                raise MalformedCall("the keys of a dictionary must be strings")
            return dict(zip(names, map(_python_value, values), strict=True))
        case ast.Name(id=name) if name in _JSON_NAMES:
            return _JSON_NAMES[name]
        case ast.Call():
            return _python_call(node)
    raise MalformedCall("the arguments of a call must be plain values, with no variables and nothing to compute")


def _literal_at(text: str, start: int) -> tuple[Any, int] | None:
    """A dictionary or list in Python's spelling, as models write it for JSON, and where it ends."""
    end = _end_of_brackets(text, start)
    if end is None:
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            return _python_value(ast.parse(text[start:end], mode="eval").body), end
    except (SyntaxError, ValueError, MemoryError, RecursionError):  # MalformedCall is a ValueError
        return None


def _json_at(text: str, start: int) -> tuple[Any, int] | None:
    try:
        value, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        return None
    return value, end


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)


def _end_of_brackets(text: str, start: int) -> int | None:
    """Where the bracket at `start` is closed, passing over strings; None if it is not, or by another kind."""
    open_: list[str] = []
    for match in _STRING_OR_BRACKET.finditer(text, start):
        token = match[0]
        if token in _CLOSING:
            open_.append(_CLOSING[token])
        elif len(token) == 1 and token != open_.pop():
            return None
        if not open_:
            return match.end()
    return None


def _shown(text: str) -> str:
    """The beginning of what the model wrote, for it to recognise."""
    return f"`{text if len(text) <= 80 else text[:77] + '...'}`"
