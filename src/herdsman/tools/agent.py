"""The tool loop: the model writes, what it calls is run, what comes of it is given back, until it has answered."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from time import monotonic
from typing import Any, Literal, Protocol

from herdsman.errors import InputError
from herdsman.generation.engine import Piece
from herdsman.generation.sampling import Sampling
from herdsman.tokens.call_forms import MalformedCall
from herdsman.tokens.chat import ChatFormat
from herdsman.tokens.messages import BUILTIN_TOOLS, Call, Message, ToolSpecs
from herdsman.tools.calling import Answered, Called, Caller
from herdsman.tools.reply import Reply
from herdsman.tools.tool import Result, Tool

SAME_AGAIN = 3
"""A model that makes the same calls so often in a row, with the same results, goes round in circles."""

TurnFinish = Literal["stop", "length", "steps", "time", "calls"]


class Streams(Protocol):
    """The part of an `Engine` that a conversation needs."""

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]: ...


@dataclass(frozen=True)
class TurnLimits:
    """How far a model may go in one turn.

    Attributes:
        steps: messages with calls.
        seconds: by the clock. A tool that is running is not interrupted: tools keep limits of their own.
        result_characters: what is given back of one result; of a longer one the middle is left out.
    """

    steps: int = 10
    seconds: float = 300.0
    result_characters: int = 6000

    @classmethod
    def for_context(cls, context_length: int) -> TurnLimits:
        """Such that a result takes about a quarter of the model's context, at most."""
        return cls(result_characters=min(cls.result_characters, context_length))


@dataclass(frozen=True)
class Text:
    """Prose, as it is written. Never a part of a call."""

    text: str


@dataclass(frozen=True)
class Ended:
    """The last event of a turn.

    Attributes:
        messages: what the turn adds to the dialog.
        finish: "stop": the model has answered; "length": its tokens or its context ran out; "steps", "time": a limit;
            "calls": it called what only the caller of `converse` can run.
        calls: these, if so; their results are the caller's to append as `ipython` messages.
        prompt_tokens: read in all steps together.
        written_tokens: likewise.
    """

    messages: tuple[Message, ...]
    finish: TurnFinish
    calls: tuple[Call, ...]
    prompt_tokens: int
    written_tokens: int


Event = Text | Called | Answered | Ended


def tool_specs(tools: Sequence[Tool], functions: Sequence[dict[str, Any]] = ()) -> ToolSpecs:
    """What a model is told of these tools, and of functions that someone else runs.

    Raises:
        InputError: two have the same name, or one has no proper name.
    """
    builtin = tuple(tool.name for tool in tools if tool.name in BUILTIN_TOOLS)
    return ToolSpecs(builtin, (*(tool.function for tool in tools if tool.name not in BUILTIN_TOOLS), *functions))


def converse(
    engine: Streams,
    format: ChatFormat,
    messages: Sequence[Message],
    tools: Sequence[Tool],
    sampling: Sampling,
    limits: TurnLimits | None = None,
    *,
    functions: Sequence[dict[str, Any]] = (),
    row: int = 0,
    today: date | None = None,
) -> Iterator[Event]:
    """One turn of the assistant, event by event as it happens. Closing the iterator ends it and frees the engine.

    Args:
        messages: the dialog so far, which ends with what the model is to answer.
        tools: what is run here.
        sampling: `max_new_tokens` is for the whole turn; the constraint is for its first message alone, so that one can
            force a call and leave the answer free.
        functions: function objects of what the model may call and only the caller of this function can run. The turn
            ends with such calls, after the others of the same message have been run.
        row: as for `Engine.stream`.
        today: as for `ChatFormat.encode`.

    Raises:
        InputError: the dialog does not fit into the context, or the format cannot express it or the tools.
    """
    limits = limits or TurnLimits()
    specs = tool_specs(tools, functions)
    caller = Caller({tool.name: tool for tool in tools}, specs, limits.result_characters)
    if sampling.stop_ids is None:
        sampling = replace(sampling, stop_ids=format.stop_ids)
    most, deadline = sampling.max_new_tokens, monotonic() + limits.seconds
    turn, before, repeated = _Turn(), None, 1
    for _ in range(limits.steps):
        ids, _kinds = format.encode([*messages, *turn.messages], True, specs or None, today)
        reply = Reply(format, specs)
        finish = yield from _write(engine, ids, sampling, row, reply, deadline, bool(turn.messages))
        turn.prompt_tokens += len(ids)
        turn.written_tokens += len(reply.ids)
        if reply.ids or finish == "stop":
            turn.messages.append(reply.message())
        answers: list[tuple[Call | None, str]] = []
        if finish == "stop":
            handed_out: list[Call] = []
            try:
                for call in reply.calls():
                    if answers and monotonic() > deadline:
                        break
                    plain, result = yield from caller.run(call)
                    handed_out += [] if result else [plain]
                    answers += [(plain, result.text)] if result else []
            except MalformedCall as error:
                failed = Result(f"The call failed: {error}.", failed=True)
                yield Answered(None, failed)
                answers = [(None, failed.text)]
            turn.messages += [Message("ipython", text) for _, text in answers]
            if handed_out:
                yield turn.ended("calls", handed_out)
                return
        if not answers:
            if rest := reply.rest():
                yield Text(rest)
            yield turn.ended(finish)
            return
        repeated = repeated + 1 if answers == before else 1
        left = most - turn.written_tokens
        if left < 1 or repeated == SAME_AGAIN or monotonic() > deadline:
            yield turn.ended("length" if left < 1 else "steps" if repeated == SAME_AGAIN else "time")
            return
        before, sampling = answers, replace(sampling, max_new_tokens=left, constraint=None)
    yield turn.ended("steps")


@dataclass
class _Turn:
    """What a turn has come to so far."""

    messages: list[Message] = field(default_factory=list)
    prompt_tokens: int = 0
    written_tokens: int = 0

    def ended(self, finish: TurnFinish, calls: Sequence[Call] = ()) -> Ended:
        return Ended(tuple(self.messages), finish, tuple(calls), self.prompt_tokens, self.written_tokens)


def _write(
    engine: Streams,
    ids: Sequence[int],
    sampling: Sampling,
    row: int,
    reply: Reply,
    deadline: float,
    results_given: bool,
) -> Generator[Event, None, TurnFinish]:
    """One message of the model; gives how it ended."""
    try:
        with closing(engine.stream(ids, sampling, row)) as pieces:
            for piece in pieces:
                if text := reply.feed(piece):
                    yield Text(text)
                if piece.finish:
                    return piece.finish
                if monotonic() > deadline:
                    return "time"
    except InputError:
        if not results_given:
            raise
    return "length"  # what the tools answered leaves no room in the context
