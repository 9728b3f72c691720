"""An answer as it is written: prose, which may be shown at once, and calls of tools, which are read when it has ended."""

from __future__ import annotations

import re

from herdsman.generation.engine import Piece
from herdsman.tokens.calls import MalformedCall, parse_calls
from herdsman.tokens.chat import ChatFormat
from herdsman.tokens.messages import Call, ToolSpecs

# Where a call begins, in any of the forms that `parse_calls` reads; or the end of the text, which may yet become one.
_CALL = re.compile(
    r"""<\|python_tag\|> | <function= | <tool_call> | \{\s*"(name|type|function)" | ^\s*\[\s*[{A-Za-z_]""", re.VERBOSE
)
_BEGINNINGS = ("<|python_tag|>", "<function=", "<tool_call>")
_MAYBE = re.compile(r"""(\{\s*("[a-z]{0,8})?|^\s*\[\s*)\Z""")


class Reply:
    """Follows one answer. Nothing is held back if there are no tools.

    Args:
        tools: what the model may call.
    """

    def __init__(self, format: ChatFormat, tools: ToolSpecs):
        self.format, self.tools = format, tools
        self.ids: list[int] = []
        self._text, self._shown, self._holds = "", 0, False

    def feed(self, piece: Piece) -> str:
        """The prose that is certain now."""
        self.ids += piece.ids
        if not self.tools:
            return piece.text
        self._text += piece.text
        if self._holds:
            return ""
        begins = _CALL.search(self._text, self._shown)
        if begins:
            self._holds = True
            return self._show(begins.start())
        return self._show(len(self._text) - self._undecided())

    def finish(self) -> tuple[str, list[Call]]:
        """The rest of the prose and what is called. What tried to be a call and is none is prose."""
        if not self.tools:
            return "", []
        try:
            calls = parse_calls(self.format.decode(self.ids), self.tools)
        except MalformedCall:
            calls = []
        return ("", calls) if calls else (self._show(len(self._text)), [])

    def _undecided(self) -> int:
        """Characters at the end of the text that may be the beginning of a call."""
        end = self._text[self._shown :]
        marks = [size for mark in _BEGINNINGS for size in range(1, len(mark)) if end.endswith(mark[:size])]
        maybe = _MAYBE.search(self._text, self._shown)
        return max([*marks, len(maybe[0]) if maybe else 0])

    def _show(self, end: int) -> str:
        text, self._shown = self._text[self._shown : end], end
        return text
