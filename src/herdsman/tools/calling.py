"""Running what a model called: nested calls first, failures as results, long results cut."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from herdsman.errors import HerdsmanError
from herdsman.tokens.call_forms import MalformedCall
from herdsman.tokens.calls import check_call
from herdsman.tokens.messages import Call, ToolSpecs
from herdsman.tools.tool import Result, Tool


@dataclass(frozen=True)
class Called:
    """A call that is about to be run, its nested calls replaced by their results."""

    call: Call


@dataclass(frozen=True)
class Answered:
    """What a call gave, as the model reads it. `call` is None if what the model wrote could not be read as one."""

    call: Call | None
    result: Result


Calling = Generator[Called | Answered, None, tuple[Call, Result | None]]


class _NotRun(Exception):
    """A nested call gave nothing, so that the call around it cannot be run."""


@dataclass(frozen=True)
class Caller:
    """Runs calls.

    Attributes:
        tools: what can be run here, by name.
        specs: everything the model may call.
        result_characters: most of one result; of a longer one the middle is left out.
    """

    tools: Mapping[str, Tool]
    specs: ToolSpecs
    result_characters: int

    def run(self, call: Call) -> Calling:
        """Runs a call that `parse_calls` has accepted, and before it the calls in its arguments.

        Returns:
            The call with plain arguments, and its result: None if it is the caller's of this API to run.
        """
        try:
            arguments = yield from self._plain(call, call.arguments)
            if arguments != call.arguments:
                call = Call(call.name, arguments)
                check_call(call, self.specs)
        except (_NotRun, MalformedCall) as error:
            return (yield from self._answer(call, Result(f"{call.name} was not called: {error}.", failed=True)))
        if call.name not in self.tools:
            return call, None
        yield Called(call)
        try:
            result = self.tools[call.name].call(call.arguments)
        except HerdsmanError as error:  # The machine's or the user's to mend, such as no sandbox; the chat goes on.
            result = Result(f"{call.name} does not work here: {error}.", failed=True)
        return (yield from self._answer(call, result))

    def _answer(self, call: Call, result: Result) -> Calling:
        result = replace(result, text=shortened(result.text, self.result_characters))
        yield Answered(call, result)
        return call, result

    def _plain(self, outer: Call, value: Any) -> Generator[Called | Answered, None, Any]:
        """A value of an argument with every call in it replaced by its result."""
        if isinstance(value, Call):
            inner, result = yield from self.run(value)
            if result is None:
                raise _NotRun(f"{inner.name} has to be called by itself")
            if result.failed:
                raise _NotRun(f"{inner.name} failed")
            return _value_of(result.text)
        if isinstance(value, dict):
            plain = {}
            for name, item in value.items():
                plain[name] = yield from self._plain(outer, item)
            return plain
        if isinstance(value, list):
            items = []
            for item in value:
                items.append((yield from self._plain(outer, item)))
            return items
        return value


def shortened(text: str, most: int) -> str:
    """The text, or its first three quarters and its end: the end of what Python prints says what went wrong."""
    if len(text) <= most:
        return text
    head, tail = most * 3 // 4, most // 4
    return f"{text[:head]}\n[{len(text) - head - tail:,} characters left out]\n{text[len(text) - tail :]}"


def _value_of(text: str) -> Any:
    """What a result is as an argument: the number or other value that it spells in JSON, else text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
