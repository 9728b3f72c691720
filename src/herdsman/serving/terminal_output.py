"""What a chat in the terminal shows: answers as they are written, tool calls as they happen; or events for programs."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from herdsman.tokens.messages import CODE_INTERPRETER, Call
from herdsman.tools.agent import Event, Text
from herdsman.tools.calling import Answered, Called
from herdsman.tools.tool import File, Result

MOST_LINES = 20
"""Of a call or a result, shown on a screen."""
ENDINGS = {
    "length": "cut off at the limit of tokens",
    "steps": "given up after too many calls",
    "time": "given up after too long a time",
}
# A terminal obeys control characters, and neither a model nor a page that it found is to give it orders.
_CONTROLS = {code: "\ufffd" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


class Shown(Protocol):
    """Where a chat appears."""

    def event(self, event: Event) -> None: ...

    def remark(self, text: str) -> None:
        """Says what a command did, or why it could not be done: whole lines."""
        ...

    def ended(self, stopped: bool) -> None:
        """The answer is over."""
        ...


class Screen:
    """Prose goes to `output`, and everything about it to `notes`: on a terminal the same, over a pipe standard error.

    Args:
        folder: where files of tools, such as plots, are saved.
    """

    def __init__(self, output: TextIO, notes: TextIO, folder: Path):
        self.output, self.notes, self.folder = output, notes, folder
        self._in_line = False
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb" or not notes.isatty()
        self._dim, self._normal = ("", "") if plain else ("\x1b[2m", "\x1b[0m")

    def event(self, event: Event) -> None:
        if isinstance(event, Text):
            text = event.text.translate(_CONTROLS) if self.output.isatty() else event.text
            self.output.write(text)
            self.output.flush()
            self._in_line = not text.endswith("\n") if text else self._in_line
        elif isinstance(event, Called):
            self._note(_described(event.call))
        elif isinstance(event, Answered):
            self._note(self._answered(event.result), "  ")
        elif event.finish in ENDINGS:
            self._note(f"[{ENDINGS[event.finish]}]")

    def remark(self, text: str) -> None:
        self.output.write(text)
        self.output.flush()

    def ended(self, stopped: bool) -> None:
        if stopped:
            self.output.write(" [stopped]")
            self._in_line = True
        if self._in_line:
            self.output.write("\n")
        self.output.flush()
        self._in_line = False

    def _answered(self, result: Result) -> str:
        lines = ["failed: " * result.failed + result.text] if not result.sources else []
        lines += [f"{source.title or source.url}\n  {source.url}" for source in result.sources]
        lines += [f"saved: {path}" for path in save_files(result.files, self.folder)]
        return "\n".join(line for line in lines if line)

    def _note(self, text: str, indent: str = "") -> None:
        """Lines of their own, which break off the prose before them."""
        if self._in_line:
            self.output.write("\n")
            self.output.flush()
            self._in_line = False
        lines = text.translate(_CONTROLS).splitlines()
        if len(lines) > MOST_LINES:
            lines = [*lines[: MOST_LINES - 1], f"[{len(lines) - MOST_LINES + 1} more lines]"]
        self.notes.writelines(f"{self._dim}{indent}| {line}{self._normal}\n" for line in lines)
        self.notes.flush()


class Lines:
    """One JSON object a line for each event, for programs."""

    def __init__(self, output: TextIO, folder: Path):
        self.output, self.folder = output, folder

    def event(self, event: Event) -> None:
        if isinstance(event, Text):
            self._write({"type": "text", "text": event.text})
        elif isinstance(event, Called):
            self._write({"type": "call", "name": event.call.name, "arguments": event.call.arguments})
        elif isinstance(event, Answered):
            result = event.result
            files = [str(path) for path in save_files(result.files, self.folder)]
            sources = [vars(source) for source in result.sources]
            name = event.call.name if event.call else None
            answer = {"type": "result", "name": name, "text": result.text, "failed": result.failed}
            self._write(answer | {"files": files, "sources": sources})
        else:
            counts = {"prompt_tokens": event.prompt_tokens, "written_tokens": event.written_tokens}
            self._write({"type": "end", "finish": event.finish} | counts)

    def remark(self, text: str) -> None:
        self._write({"type": "remark", "text": text.rstrip("\n")})

    def ended(self, stopped: bool) -> None:
        if stopped:
            self._write({"type": "stopped"})

    def _write(self, event: dict[str, Any]) -> None:
        self.output.write(json.dumps(event, ensure_ascii=False) + "\n")
        self.output.flush()


def save_files(files: Sequence[File], folder: Path) -> list[Path]:
    """Writes files into a folder under names that are free there, and gives their paths."""
    paths = []
    for file in files:
        folder.mkdir(parents=True, exist_ok=True)
        name, number = Path(Path(file.name).name or "file"), 1
        path = folder / name
        while path.exists():
            number += 1
            path = folder / f"{name.stem}-{number}{name.suffix}"
        path.write_bytes(file.data)
        paths.append(path)
    return paths


def _described(call: Call) -> str:
    """Code as it is, any other call in one line."""
    if call.name == CODE_INTERPRETER:
        return str(call.arguments.get("code", ""))
    arguments = ", ".join(
        f"{name}={json.dumps(value, ensure_ascii=False, default=str)}" for name, value in call.arguments.items()
    )
    return f"{call.name}({arguments})"
