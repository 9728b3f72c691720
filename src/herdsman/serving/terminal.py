"""Chat in the terminal: questions a line each, commands that begin with a slash; a plain pipe works too."""

from __future__ import annotations

import builtins
import importlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TextIO

from herdsman.errors import HerdsmanError, InputError
from herdsman.generation.sampling import Sampling
from herdsman.serving.dialog import Dialog, Speaker
from herdsman.serving.terminal_output import Shown
from herdsman.tools.tool import Tool

HELP = """/help            this list
/system TEXT     set the system message (none without TEXT) and forget the dialog
/reset           forget the dialog
/retry           answer the last question again
/set KEY=VALUE   change how answers are drawn, such as temperature=0.2; without KEY show it
/tools NAMES     let the model use these: of python, search, maths; none; without NAMES show what it uses
/model NAME      go on with another model; without NAME list them
/save FILE       write the dialog to a file
/load FILE       go on with a dialog that was saved
/quit            leave (so does Ctrl-D); Ctrl-C stops an answer
"""
PROMPT = "> "
SETTINGS = {
    "temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "min_p": "min_p", "seed": "seed",
    "max_tokens": "max_new_tokens", "repetition_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty", "frequency_penalty": "frequency_penalty",
}  # fmt: skip
"""What /set changes, and its name in `Sampling`."""

MakeTools = Callable[[Sequence[str]], list[Tool]]


def chat(
    dialog: Dialog,
    input: TextIO,
    output: TextIO,
    shown: Shown,
    models: Mapping[str, Callable[[], Speaker]] | None = None,
    make_tools: MakeTools = lambda names: [],
) -> None:
    """Reads questions from `input`, a line each, and shows answers until the input ends or /quit.

    On a terminal it shows a prompt, and what cannot be done is answered by a remark. Over a pipe such a line is an
    error, and of the commands' remarks only those that were asked for are shown.

    Args:
        output: where the prompt goes.
        shown: where answers and remarks go.
        models: opens the models that /model can go on with, by name.
        make_tools: makes the tools of these names.

    Raises:
        HerdsmanError: over a pipe, a question does not fit into the context, or a command cannot be carried out.
    """
    interactive = input.isatty()
    if interactive:
        shown.remark(_greeting(dialog.speaker))
    elif isinstance(input, TextIOWrapper):
        input.reconfigure(errors="replace")  # A byte that is no text must not end the dialog.
    commands = _Commands(dialog, models or {}, make_tools)
    for line in _lines(input, output, interactive):
        name, _, argument = line.partition(" ")
        if name == "/quit":
            return
        try:
            if name == "/retry":
                _reply(dialog, dialog.ask_again(), shown)
            elif not line.startswith("/"):
                _reply(dialog, line, shown)
            else:
                remark, asked_for = commands.carry_out(name, argument.strip())
                if interactive or asked_for:
                    shown.remark(remark)
        except HerdsmanError as error:
            if not interactive:
                raise
            shown.remark(f"{error}\n")


def _greeting(speaker: Speaker) -> str:
    if speaker.format is None:
        return "This model has no chat format: it goes on with your text. /help lists the commands.\n"
    return "Ask away. /help lists the commands.\n"


class _Commands:
    """What lines that begin with a slash do to a dialog."""

    def __init__(self, dialog: Dialog, models: Mapping[str, Callable[[], Speaker]], make_tools: MakeTools):
        self.dialog, self.models, self.make_tools = dialog, models, make_tools
        self._opened = {dialog.speaker.name: dialog.speaker}

    def carry_out(self, name: str, argument: str) -> tuple[str, bool]:
        """Whole lines to show for it, and whether they are what was asked for.

        Raises:
            InputError: there is no such command, or it cannot be done.
        """
        dialog = self.dialog
        if name == "/help":
            return HELP, True
        if name == "/reset":
            dialog.reset()
            return "The dialog is forgotten.\n", False
        if name == "/system":
            dialog.instruct(argument or None)
            return "The system message is set.\n" if dialog.system else "There is no system message now.\n", False
        if name == "/set":
            return self._set(argument), not argument
        if name == "/tools":
            return self._tools(argument), not argument
        if name == "/model":
            return self._model(argument), not argument
        if name in ("/save", "/load"):
            if not argument:
                raise InputError(f"{name} needs the name of a file")
            path = Path(argument).expanduser()
            (dialog.save if name == "/save" else dialog.load)(path)
            return f"{len(dialog.history)} messages: {path}\n", False
        raise InputError(f"there is no command {name}", do="/help lists the commands")

    def _set(self, argument: str) -> str:
        sampling = self.dialog.sampling
        for setting in argument.split():
            key, _, value = setting.partition("=")
            if key not in SETTINGS:
                raise InputError(f"there is nothing called {key!r} to set", do=f"set one of {', '.join(SETTINGS)}")
            kind = type(getattr(Sampling(), SETTINGS[key]))
            try:
                sampling = replace(sampling, **{SETTINGS[key]: kind(value)})
            except ValueError:
                what = "whole number" if kind is int else "number"
                raise InputError(f"{key} cannot be {value!r}", do=f"give a {what}") from None
        self.dialog.sampling = sampling
        return " ".join(f"{key}={getattr(sampling, field)}" for key, field in SETTINGS.items()) + "\n"

    def _tools(self, argument: str) -> str:
        if argument:
            names = [name.strip() for name in argument.split(",") if name.strip() not in ("", "none")]
            made = self.make_tools(names)
            for tool in self.dialog.tools:
                tool.close()
            self.dialog.tools = made
        return f"tools: {', '.join(tool.name for tool in self.dialog.tools) or 'none'}\n"

    def _model(self, name: str) -> str:
        if name:
            if name not in self.models:
                raise InputError(f"there is no model {name}", do=f"there is {', '.join(self.models)}")
            if name not in self._opened:
                self._opened[name] = self.models[name]()
            self.dialog.speaker = self._opened[name]
        current = self.dialog.speaker.name
        return "".join(f"{'*' if each == current else ' '} {each}\n" for each in self.models or [current])


def _lines(input: TextIO, output: TextIO, interactive: bool) -> Iterator[str]:
    """Non-empty lines, stripped. At a terminal Ctrl-C empties the line and Ctrl-D ends the input."""
    while True:
        try:
            line = _ask(input, output) if interactive else input.readline()
        except KeyboardInterrupt:
            output.write("\n")
            continue
        if not line:
            if interactive:
                output.write("\n")
            return
        if line.strip():
            yield line.strip()


def _ask(input: TextIO, output: TextIO) -> str:
    """A line from the terminal, with line editing where Python has it; empty at the end of the input."""
    if input is not sys.stdin:
        output.write(PROMPT)
        output.flush()
        return input.readline()
    with suppress(ImportError):
        importlib.import_module("readline")  # Its import is what gives the built-in input() editing and a memory.
    try:
        return builtins.input(PROMPT) + "\n"
    except EOFError:
        return ""


def _reply(dialog: Dialog, question: str, shown: Shown) -> None:
    """Streams one answer; Ctrl-C ends the answer and not the program."""
    with _interruptible() as interrupted:
        for event in dialog.answer(question, interrupted):
            shown.event(event)
        shown.ended(interrupted())


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Turns Ctrl-C into a flag for the time of the block, so that it never strikes in the middle of a step."""
    seen: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        seen.append(number)

    try:
        before = signal.signal(signal.SIGINT, note)
    except ValueError:  # Not the main thread: signals are not ours to handle.
        yield lambda: False
        return
    try:
        yield lambda: bool(seen)
    finally:
        signal.signal(signal.SIGINT, before)
