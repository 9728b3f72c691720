"""What a dialog is made of, before it becomes ids: messages, calls of tools, and what a tool is described by."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import Any, Literal

from herdsman.errors import InputError

ROLES = ("system", "user", "assistant", "ipython")
BUILTIN_TOOLS = ("brave_search", "wolfram_alpha", "code_interpreter")
CODE_INTERPRETER = "code_interpreter"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Call:
    """A tool to be called with these arguments.

    Code is `Call("code_interpreter", {"code": ...})`, a search `Call("brave_search", {"query": ...})`. The value of an
    argument is JSON, or again a `Call`: then the result of that one is to be put in its place, as in `f(x=g(y=1))`.
    """

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a dialog.

    Attributes:
        role: system, user, assistant, or ipython, which is the output of a tool.
        call: the content is what the assistant wants run, as it stands: code, or a call written out. Such a message
            begins with `<|python_tag|>` and ends with `<|eom_id|>`, for the assistant goes on once it sees the output.
        calls: what the assistant calls, as data, which the encoder writes behind the content.
    """

    role: str
    content: str
    call: bool = False
    calls: tuple[Call, ...] = ()

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Message:
        """What `dataclasses.asdict` made of one."""
        return Message(**{**row, "calls": tuple(Call(**call) for call in row.get("calls", ()))})


class Kind(IntEnum):
    """What a token of a dialog is. Every loss mask of post-training is a set of kinds."""

    PROMPT = 0
    """Begin of text, and everything of system and user messages; headers and ends of tool output."""
    HEADER = 1
    """The assistant's header with its two line ends."""
    BODY = 2
    """What the assistant says."""
    CALL = 3
    """What the assistant writes for a tool to run, the python tag included."""
    END = 4
    """The token that ends an assistant's message."""
    TOOL_OUT = 5
    """What a tool answered."""


_QUERY = {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]}
_CODE = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
BUILTIN_FUNCTIONS: dict[str, dict[str, Any]] = {
    "brave_search": {"name": "brave_search", "description": "Searches and returns passages.", "parameters": _QUERY},
    "wolfram_alpha": {
        "name": "wolfram_alpha",
        "description": "Answers a question of mathematics or about quantities.",
        "parameters": _QUERY,
    },
    CODE_INTERPRETER: {
        "name": CODE_INTERPRETER,
        "description": "Runs Python code and returns what it printed.",
        "parameters": _CODE,
    },
}
"""The built-in tools as functions, for models that were not taught them."""


@dataclass(frozen=True)
class ToolSpecs:
    """What a model is told about its tools.

    Attributes:
        builtin: of `BUILTIN_TOOLS`; a Llama 3 model knows these by name.
        functions: OpenAI's function objects: name, description, and parameters, a JSON Schema of an object.

    Raises:
        InputError: a built-in tool does not exist, a function has no proper name, two have the same, or the parameters
            are no object.
    """

    builtin: tuple[str, ...] = ()
    functions: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        for builtin in self.builtin:
            if builtin not in BUILTIN_TOOLS:
                known = ", ".join(BUILTIN_TOOLS)
                raise InputError(f"there is no built-in tool {builtin!r:.80}", do=f"choose of {known}")
        for function in self.functions:
            name = function.get("name")
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise InputError(
                    f"a function cannot be called {name!r:.80}",
                    do="use up to 64 letters, digits, dots, dashes and underscores, beginning with no digit",
                )
            if not isinstance(function.get("parameters") or {}, dict):
                raise InputError("its parameters are no JSON Schema", where=f"function {name}", do="give an object")
        names = [*self.builtin, *(function["name"] for function in self.functions)]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"there are two tools called {min(twice)}", do="give one of them another name")

    @cached_property
    def known(self) -> dict[str, dict[str, Any]]:
        """Every tool by name as a function object."""
        builtin = {name: BUILTIN_FUNCTIONS[name] for name in self.builtin}
        return builtin | {function["name"]: function for function in self.functions}

    def __bool__(self) -> bool:
        return bool(self.builtin or self.functions)


Dialect = Literal["meta", "hf"]
