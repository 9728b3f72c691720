"""Chat in the terminal: streaming answers, a history that fits the context, a few commands; a plain pipe works too."""

from __future__ import annotations

import builtins
import importlib
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from io import TextIOWrapper
from types import FrameType
from typing import TextIO

from herdsman.errors import InputError
from herdsman.generation.engine import Engine
from herdsman.generation.sampling import Sampling
from herdsman.tokens.chat import Message, encode
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.tokenizer import Tokenizer

Guard = Callable[[list[Message]], str | None]
"""Judges a dialog that ends with the message in question: None if it may pass, else the text to show in its place."""

HELP = """/help            this list
/system TEXT     set the system message (none without TEXT) and forget the dialog
/reset           forget the dialog
/quit            leave (so does Ctrl-D); Ctrl-C stops an answer
"""
PROMPT = "> "
SENTENCE_ENDS = (".", "!", "?", "\n")


class Chat:
    """A dialog with one model. One whose vocabulary has no form of Llama 3's was taught another chat format: it is not
    asked in ours, which it would not understand, but goes on with each text as it stands, and forgets it then.

    Args:
        engine, tokenizer: the model.
        sampling: how answers are drawn; each answer has its own stream of draws, and any special token ends it if
            `stop_ids` is None.
        system: the system message, if any.
        guard_input: judges each question before the model sees it.
        guard_output: judges the answer so far at the end of each sentence, before that sentence is shown.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer | ForeignTokenizer,
        sampling: Sampling,
        system: str | None = None,
        guard_input: Guard | None = None,
        guard_output: Guard | None = None,
    ):
        if sampling.stop_ids is None:  # No special token belongs into an answer: it ends where one comes.
            sampling = replace(sampling, stop_ids=frozenset(tokenizer.special.values()))
        self.engine, self.tokenizer, self.sampling = engine, tokenizer, sampling
        self.guard_input, self.guard_output = guard_input, guard_output
        self.answers = 0
        self.instruct(system)

    def instruct(self, system: str | None) -> None:
        """Sets the system message, or with None removes it, and forgets the dialog.

        Raises:
            InputError: the model's chat format is not Llama 3's.
        """
        if system and isinstance(self.tokenizer, ForeignTokenizer):
            raise InputError(
                "this model's chat format is not Llama 3's, so it takes no system message",
                do="write what it should go on with",
            )
        self.system = system
        self.reset()

    def reset(self) -> None:
        """Forgets the dialog; the system message stays."""
        self.history: list[Message] = []

    def answer(self, question: str) -> Generator[str, None, None]:
        """Answers in pieces and keeps question and answer, also one that is given up half-way, in the history.

        Raises:
            InputError: the question alone does not fit into the context.
        """
        question = question.encode("utf-8", "replace").decode()
        asked = Message("user", question)
        if self.guard_input and (notice := self.guard_input([*self.history, asked])) is not None:
            yield notice  # Neither is kept: the model is not to read a question it was not to be asked.
            return
        prompt = self._fit(asked)
        said: list[str] = []
        pieces = self.engine.stream(prompt, self.sampling, row=self.answers)
        try:
            texts = (piece.text for piece in pieces if piece.text)
            for text in self._guarded(asked, texts):
                said.append(text)
                yield text
        finally:
            pieces.close()
            self.answers += 1
            self.history += [asked, Message("assistant", "".join(said))]

    def _fit(self, asked: Message) -> list[int]:
        """The prompt's ids; the oldest exchanges are forgotten until the rest leaves room for an answer."""
        room = self.engine.context_length - min(self.sampling.max_new_tokens, self.engine.context_length // 2)
        front = [Message("system", self.system)] if self.system else []
        while True:
            if isinstance(self.tokenizer, ForeignTokenizer):
                self.reset()
                ids = [*self.tokenizer.beginning, *self.tokenizer.encode(asked.content)]
            else:
                ids, _ = encode(self.tokenizer, [*front, *self.history, asked], reply=True)
            if len(ids) <= room:
                return ids
            if not self.history:
                raise InputError(
                    f"the message and its frame take {len(ids)} tokens and the model's context leaves {room} for them",
                    do="send a shorter one",
                )
            self.history = self.history[2:]

    def _guarded(self, asked: Message, pieces: Iterator[str]) -> Iterator[str]:
        """Holds each sentence back until the output guard has passed it; one that is blocked ends the answer."""
        if self.guard_output is None:
            yield from pieces
            return
        shown, held = "", ""
        for piece in pieces:
            held += piece
            if held.endswith(SENTENCE_ENDS):
                notice = self._judge(asked, shown + held)
                if notice is not None:
                    yield _after(shown, notice)
                    return
                yield held
                shown, held = shown + held, ""
        if held:
            notice = self._judge(asked, shown + held)
            yield held if notice is None else _after(shown, notice)

    def _judge(self, asked: Message, answer: str) -> str | None:
        assert self.guard_output is not None
        return self.guard_output([*self.history, asked, Message("assistant", answer)])


def _after(shown: str, notice: str) -> str:
    """A notice that follows what was shown, on a line of its own."""
    return notice if not shown or shown.endswith("\n") else f"\n{notice}"


def chat(
    engine: Engine,
    tokenizer: Tokenizer | ForeignTokenizer,
    input: TextIO,
    output: TextIO,
    *,
    sampling: Sampling,
    system: str | None = None,
    guard_input: Guard | None = None,
    guard_output: Guard | None = None,
) -> None:
    """Reads questions from `input`, a line each, and writes answers to `output` until the input ends or /quit.

    On a terminal it shows a prompt, and what cannot be done is answered by a remark. Over a pipe only answers are
    written, a line each at least, and such a line is an error.

    Raises:
        InputError: over a pipe, a question does not fit into the model's context, or a command is not known.
    """
    dialog = Chat(engine, tokenizer, sampling, system, guard_input, guard_output)
    interactive = input.isatty()
    if interactive and isinstance(tokenizer, ForeignTokenizer):
        output.write(
            "This model's chat format is not Llama 3's: it goes on with your text. /help lists the commands.\n"
        )
    elif interactive:
        output.write("Ask away. /help lists the commands.\n")
    elif isinstance(input, TextIOWrapper):
        input.reconfigure(errors="replace")  # A byte that is no text must not end the dialog.
    for line in _lines(input, output, interactive):
        if line.split()[0] == "/quit":
            return
        try:
            if not line.startswith("/"):
                _reply(dialog, line, output)
            elif (remark := _command(dialog, line)) == HELP or interactive:
                output.write(remark)
        except InputError as error:
            if not interactive:
                raise
            output.write(f"{error}\n")
        output.flush()


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


def _command(dialog: Chat, line: str) -> str:
    """Carries out a command and returns what to show for it.

    Raises:
        InputError: there is no such command.
    """
    name, _, argument = line.partition(" ")
    if name == "/help":
        return HELP
    if name == "/reset":
        dialog.reset()
        return "The dialog is forgotten.\n"
    if name == "/system":
        dialog.instruct(argument.strip() or None)
        return "The system message is set.\n" if dialog.system else "There is no system message now.\n"
    raise InputError(f"there is no command {name}", do="/help lists the commands")


def _reply(dialog: Chat, question: str, output: TextIO) -> None:
    """Streams one answer; Ctrl-C ends the answer and not the program."""
    with _interruptible() as interrupted:
        pieces = dialog.answer(question)
        for piece in pieces:
            output.write(piece)
            output.flush()
            if interrupted():
                output.write(" [stopped]")
                break
        pieces.close()
    output.write("\n")


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
