"""Marks that stand for texts while a template runs, so that what they say cannot become part of the template."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

from herdsman.tokens.messages import Kind

# Stands on both sides of a mark. It is white space that no template writes: where it is missing, the template trims.
MARGIN = "\u2003"


@dataclass(frozen=True)
class Content:
    """A text that is not the template's own, of a message or, without a number, of a tool's definition."""

    text: str
    kind: Kind
    message: int | None
    by_assistant: bool = False


class Marks:
    """Marks for texts that go through a template, and the way back. Of any two dialogs the marks differ."""

    def __init__(self, seed: str, special: re.Pattern[str]):
        self.contents: list[Content] = []
        self._special = special
        self._nonce = f"x{hashlib.sha256(seed.encode('utf-8', 'replace')).hexdigest()[:32]}x"
        margin = rf"({MARGIN}|\\u{ord(MARGIN):04x})?"
        self._mark = re.compile(rf'{margin}{self._nonce}(\d+)(\\*)"{self._nonce}{margin}')

    def of(self, text: str, kind: Kind, message: int | None, by_assistant: bool = False) -> str:
        """A mark for the text; white space stands for itself, for templates ask whether there is a text."""
        if not text.strip():
            return text
        self.contents.append(Content(text, kind, message, by_assistant))
        # A template that writes JSON escapes the quotation mark, and so shows how the text must be.
        return f'{MARGIN}{self._nonce}{len(self.contents) - 1}"{self._nonce}{MARGIN}'

    def called(self, value: Any, message: int) -> Any:
        """Arguments of a call, all their texts marked."""
        if isinstance(value, str):
            return self.of(value, Kind.CALL, message, True)
        if isinstance(value, dict):
            return {self.named(key): self.called(item, message) for key, item in value.items()}
        return [self.called(item, message) for item in value] if isinstance(value, list) else value

    def named(self, value: Any) -> Any:
        """A definition with marks only for texts that name a special token: templates look at the others."""
        if isinstance(value, str):
            return self.of(value, Kind.PROMPT, None) if self._special.search(value) else value
        if isinstance(value, dict):
            return {self.named(key): self.named(item) for key, item in value.items()}
        return [self.named(item) for item in value] if isinstance(value, list | tuple) else value

    def split(self, text: str) -> list[str | Content]:
        """What the template wrote, and the contents as they are to stand in it."""
        parts: list[str | Content] = []
        place = 0
        for match in self._mark.finditer(text):
            left, number, backslashes, right = match.groups()
            content = self.contents[int(number)]
            shown = content.text if left else content.text.lstrip()
            shown = shown if right else shown.rstrip()
            for _ in range(len(backslashes).bit_length()):
                shown = json.dumps(shown, ensure_ascii=False)[1:-1]
            parts += [text[place : match.start()], replace(content, text=shown)]
            place = match.end()
        return [*parts, text[place:]]
