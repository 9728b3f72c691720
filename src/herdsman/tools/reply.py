"""A reply as it is written: prose, which is shown at once, and what may be a call, which is held back until it ends."""

from __future__ import annotations

import regex

from herdsman.generation.engine import Piece
from herdsman.tokens.call_forms import MalformedCall
from herdsman.tokens.calls import parse_calls
from herdsman.tokens.chat import ChatFormat
from herdsman.tokens.messages import BUILTIN_TOOLS, Call, Message, ToolSpecs

# How a call may begin, in any form that `tokens.call_forms` reads. {} stands for the names of the tools.
BEGINNINGS = r"""
    <\|python_tag\|>
  | (?:\A\s*```\w*\n\s*)?
    (?: <function= | <tool_call>
      | (?:\[\s*)? \{{\s* ["'](?:id|type|name|function|parameters|arguments)["'] \s*:
      | (?:^[\ \t]*) (?:\[\s*)? (?:{}) \( )
  | \A\s* \[\s* [A-Za-z_][\w.]* \(
"""


class Reply:
    """Follows one reply. Without tools nothing is held back.

    Args:
        tools: what the model may call.

    Attributes:
        ids: all tokens so far.
    """

    def __init__(self, format: ChatFormat, tools: ToolSpecs):
        self.format, self.tools, self.ids = format, tools, list[int]()
        self._held, self._last_shown, self._calls = "", "", False
        names = [*tools.known, *(f"{name}.call" for name in BUILTIN_TOOLS)]
        self._beginnings = regex.compile(
            BEGINNINGS.format("|".join(map(regex.escape, names))), regex.VERBOSE | regex.MULTILINE
        )

    def feed(self, piece: Piece) -> str:
        """The prose that is certain now."""
        self.ids += piece.ids
        if not self.tools:
            return piece.text
        self._held += piece.text
        if self._calls:
            return ""
        start = len(self._last_shown)  # that character says whether a line begins here, or the reply
        text = self._last_shown + self._held
        found = self._beginnings.search(text, start, partial=True)
        self._calls = found is not None and not found.partial
        return self._show((found.start() if found else len(text)) - start)

    def rest(self) -> str:
        """What was held back, if the reply turned out to call nothing and to try nothing of the kind."""
        try:
            return "" if self.calls() else self._show(len(self._held))
        except MalformedCall:
            return ""

    def message(self) -> Message:
        return self.format.decode(self.ids)

    def calls(self) -> list[Call]:
        """What the whole reply calls.

        Raises:
            MalformedCall: it tried to call a tool and failed.
        """
        return parse_calls(self.message(), self.tools)

    def _show(self, characters: int) -> str:
        text, self._held = self._held[:characters], self._held[characters:]
        self._last_shown = text[-1:] or self._last_shown
        return text
