"""A dialog with a model: what it remembers, what of it fits the context, what the guard lets through."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from herdsman.errors import InputError
from herdsman.files import atomic_open
from herdsman.generation.engine import Engine, Piece
from herdsman.generation.sampling import Sampling
from herdsman.serving.guarding import Judge, Watched
from herdsman.tokens.chat import ChatFormat
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.messages import ROLES, Message
from herdsman.tools.agent import Ended, Event, Text, TurnLimits, converse, tool_specs
from herdsman.tools.tool import Tool

PYTHON_TAG = "<|python_tag|>"


@dataclass(frozen=True)
class Speaker:
    """A model that is talked to.

    Attributes:
        format: how it reads a dialog; None for one that was not taught to answer and only goes on with a text.
        judge_input: judges each question before the model sees it.
        judge_output: judges the answer so far at the end of each sentence, before that sentence is shown.
    """

    name: str
    engine: Engine
    format: ChatFormat | None
    judge_input: Judge | None = None
    judge_output: Judge | None = None


@dataclass(frozen=True)
class _Saved:
    """A dialog in a file."""

    system: str | None
    messages: list[Message]


_SAVED = TypeAdapter(_Saved)


class Dialog:
    """One dialog, with one model at a time.

    Args:
        sampling: how answers are drawn; each answer has its own stream of draws, and any special token ends it if
            `stop_ids` is None.
        system: the system message, if any.
        tools: what the model may call.

    Attributes:
        history: questions, and after each what the turn that answered it added.
        answers: how many there have been; the number of the next one's stream of draws.
    """

    def __init__(self, speaker: Speaker, sampling: Sampling, system: str | None = None, tools: Sequence[Tool] = ()):
        self.sampling, self.tools, self.answers = sampling, list(tools), 0
        self.history: list[Message] = []
        self.system: str | None = None
        self.speaker = speaker
        self.instruct(system)

    def instruct(self, system: str | None) -> None:
        """Sets the system message, or with None removes it, and forgets the dialog.

        Raises:
            InputError: the model only goes on with a text.
        """
        if system and self.speaker.format is None:
            raise InputError(
                "this model has no chat format, so it takes no system message", do="write what it should go on with"
            )
        self.system = system
        self.reset()

    def reset(self) -> None:
        """Forgets the dialog; the system message stays."""
        self.history = []

    def answer(self, question: str, stopped: Callable[[], bool] = lambda: False) -> Generator[Event, None, None]:
        """Answers event by event, `Ended` last, and keeps question and answer, also one that is given up half-way.

        Args:
            stopped: asked after each token; true ends the answer.

        Raises:
            InputError: the question alone does not fit into the context, or the chat format refuses the dialog.
        """
        asked = Message("user", question.encode("utf-8", "replace").decode())
        judge = self.speaker.judge_input
        if judge and (notice := judge([*self.history, asked])) is not None:
            yield Text(notice)  # Neither is kept: the model is not to read a question it was not to be asked.
            yield Ended((), "stop", (), 0, 0)
            return
        messages = self._fit(asked)
        watched = Watched([*self.history, asked], self.speaker.judge_output)
        shown, added = "", None
        try:
            with closing(self._events(messages, stopped)) as events:
                for event in events:
                    written, ended = (event.text, False) if isinstance(event, Text) else ("", True)
                    if text := watched.feed(written, ended):
                        shown += text
                        yield Text(text)
                    if watched.blocked:
                        yield Ended((), "stop", (), 0, 0)
                        return
                    if isinstance(event, Ended):
                        added = None if stopped() else event.messages
                    if not isinstance(event, Text):
                        yield event
        finally:
            self.answers += 1
            self.history += [asked, *(added or [Message("assistant", shown)])]

    def ask_again(self) -> str:
        """Forgets the last question and its answer, and gives the question.

        Raises:
            InputError: nothing has been asked yet.
        """
        last = next((place for place in reversed(range(len(self.history))) if self.history[place].role == "user"), None)
        if last is None:
            raise InputError("nothing has been asked yet")
        question = self.history[last].content
        self.history = self.history[:last]
        return question

    def save(self, path: Path) -> None:
        """Writes the dialog to a JSON file.

        Raises:
            InputError: there is something else.
        """
        if path.exists():
            _read(path)
        with atomic_open(path) as file:
            file.write(_SAVED.dump_json(_Saved(self.system, self.history), indent=1) + b"\n")

    def load(self, path: Path) -> None:
        """Goes on with a dialog that was saved.

        Raises:
            InputError: there is none.
        """
        saved = _read(path)
        self.instruct(saved.system)
        self.history = saved.messages

    def _events(self, messages: Sequence[Message], stopped: Callable[[], bool]) -> Generator[Event, None, None]:
        format, sampling = self.speaker.format, self._sampling()
        stoppable = _Stoppable(self.speaker.engine, stopped)
        if format is None:
            prompt, written = self._prompt(messages), 0
            for piece in stoppable.stream(prompt, sampling, self.answers):
                written += len(piece.ids)
                yield Text(piece.text)
            yield Ended((), "stop", (), len(prompt), written)
            return
        limits = TurnLimits.for_context(self.speaker.engine.context_length)
        yield from converse(stoppable, format, messages, self.tools, sampling, limits, row=self.answers)

    def _sampling(self) -> Sampling:
        """No special token belongs into an answer: it ends where one comes, but for the one before a call."""
        if self.sampling.stop_ids is not None:
            return self.sampling
        special, format = self.speaker.engine.tokenizer.special, self.speaker.format
        kept = {special.get(PYTHON_TAG)} if self.tools else set()
        stop_ids = frozenset(special.values()) - kept
        return replace(self.sampling, stop_ids=stop_ids | (format.stop_ids if format else frozenset()))

    def _fit(self, asked: Message) -> list[Message]:
        """What the model is to read; the oldest exchanges are forgotten until the rest leaves room for an answer."""
        context_length = self.speaker.engine.context_length
        room = context_length - min(self.sampling.max_new_tokens, context_length // 2)
        front = [Message("system", self.system)] if self.system else []
        while True:
            if self.speaker.format is None:  # It goes on with each text as it stands, and forgets it then.
                self.reset()
            messages = [*front, *self.history, asked]
            if (length := len(self._prompt(messages))) <= room:
                return messages
            if not self.history:
                raise InputError(
                    f"the message and its frame take {length} tokens and the model's context leaves {room} for them",
                    do="send a shorter one",
                )
            later = (place for place, message in enumerate(self.history) if place and message.role == "user")
            self.history = self.history[next(later, len(self.history)) :]

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        if self.speaker.format is not None:
            return self.speaker.format.encode(messages, True, tool_specs(self.tools) or None)[0]
        tokenizer = self.speaker.engine.tokenizer
        beginning = tokenizer.beginning if isinstance(tokenizer, ForeignTokenizer) else [tokenizer.bos]
        return [*beginning, *tokenizer.encode(messages[-1].content)]


@dataclass(frozen=True)
class _Stoppable:
    """An engine whose streams end when somebody asks for it."""

    engine: Engine
    stopped: Callable[[], bool]

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        with closing(self.engine.stream(prompt, sampling, row)) as pieces:
            for piece in pieces:
                yield piece
                if self.stopped():
                    return


def _read(path: Path) -> _Saved:
    try:
        saved = _SAVED.validate_json(path.read_bytes())
    except OSError as error:
        reason = error.strerror or "cannot be read"
        raise InputError(reason.lower(), where=path, do="name a file that /save wrote") from error
    except ValidationError as error:
        raise InputError("this is no saved dialog", where=path, do="name another file") from error
    if any(message.role not in ROLES for message in saved.messages):
        raise InputError("this is no saved dialog", where=path, do="name another file")
    return saved
