"""Calls of tools in what a model wrote, and calls written for it to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from herdsman.tokens.messages import Call, Message, ToolSpecs

CallFormat = Literal["builtin", "json", "function_tag", "python_list", "tool_call"]


class MalformedCall(ValueError):
    """The model tried to call a tool and failed: one sentence, which the model can be given to read."""


def parse_calls(message: Message, tools: ToolSpecs) -> list[Call]:
    """What an assistant's message calls, in the order it stands there; nothing if it calls nothing.

    Raises:
        MalformedCall: it tried to call a tool and failed.
    """
    raise NotImplementedError


def write_calls(calls: Sequence[Call], form: CallFormat) -> str:
    """The calls as a model writes them."""
    raise NotImplementedError
