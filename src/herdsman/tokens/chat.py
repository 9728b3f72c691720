"""Dialogs to ids and back, with the kind of every token: Llama 3's protocol in two dialects, and others' templates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import takewhile
from typing import Protocol

from herdsman.errors import InputError
from herdsman.tokens.call_forms import MalformedCall, read_calls
from herdsman.tokens.calls import arguments_json, write_calls
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.messages import CODE_INTERPRETER, ROLES, Call, Dialect, Kind, Message, ToolSpecs
from herdsman.tokens.template_chat import TemplateChat
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.tool_prompts import told_by_hf, told_by_meta


class ChatFormat(Protocol):
    """How one kind of model reads and writes a dialog.

    Attributes:
        stop_ids: tokens that end what the model writes.
    """

    @property
    def stop_ids(self) -> frozenset[int]: ...

    def encode(
        self,
        messages: Sequence[Message],
        reply: bool = False,
        tools: ToolSpecs | None = None,
        today: date | None = None,
    ) -> tuple[list[int], list[Kind]]:
        """Ids of a dialog and the kind of each.

        Args:
            reply: appends the header of an assistant's message, for a model to go on from.
            tools: what the model is told that it may call.
            today: told to the model where the format has a place for it.

        Raises:
            InputError: the format cannot express this dialog.
        """
        ...

    def decode(self, ids: Sequence[int]) -> Message:
        """The assistant's message in what a model wrote after `encode(..., reply=True)`."""
        ...


def encode(
    tokenizer: Tokenizer,
    messages: Sequence[Message],
    reply: bool = False,
    tools: ToolSpecs | None = None,
    today: date | None = None,
    dialect: Dialect = "meta",
) -> tuple[list[int], list[Kind]]:
    """Ids of a dialog in Llama 3's format and the kind of each.

    The ids are built piece by piece, never from one string, so no content can forge a header or an end; in Meta's
    dialect content is taken as it is, spaces and line ends included, as Meta's encoder does.

    Args:
        reply: appends the header of an assistant's message, for a model to go on from.
        tools: what the model is told that it may call.
        today: told to the model in the system message.
        dialect: Meta's, which herds are trained on, or that of Llama 3.1's template on the Hub; docs/chat_format.md
            lists what differs.

    Raises:
        InputError: a role is not known, or Hugging Face's dialect cannot express the dialog.
    """
    for number, message in enumerate(messages):
        if message.role not in ROLES:
            raise InputError(
                f"there is no role {message.role!r}", where=f"message {number}", do=f"use one of {', '.join(ROLES)}"
            )
    told = told_by_meta if dialect == "meta" else told_by_hf
    ids, kinds = [tokenizer.bos], [Kind.PROMPT]

    def append(piece: list[int], kind: Kind) -> None:
        ids.extend(piece)
        kinds.extend([kind] * len(piece))

    for message in told(messages, tools, today):
        if message.role != "assistant":
            append(_header(tokenizer, message.role), Kind.PROMPT)
            append(tokenizer.encode(message.content), Kind.TOOL_OUT if message.role == "ipython" else Kind.PROMPT)
            append([tokenizer.eot], Kind.PROMPT)
            continue
        turn = _meta_turn(message) if dialect == "meta" else _hf_turn(message, tools)
        append(_header(tokenizer, message.role), Kind.HEADER)
        append(tokenizer.encode(turn.said), Kind.BODY)
        append([tokenizer.python_tag] if turn.tagged else [], Kind.CALL)
        append(tokenizer.encode(turn.called), Kind.CALL)
        append([tokenizer.eom if turn.awaits_output else tokenizer.eot], Kind.END)
    if reply:
        append(_header(tokenizer, "assistant"), Kind.HEADER)
    return ids, kinds


@dataclass(frozen=True)
class _Turn:
    """What an assistant's message is written as: what it says, what it calls, and how it ends."""

    said: str
    called: str = ""
    tagged: bool = False
    awaits_output: bool = False


def _meta_turn(message: Message) -> _Turn:
    if message.calls:
        return _Turn(message.content, write_calls(message.calls), tagged=True, awaits_output=True)
    if message.call:
        return _Turn("", message.content, tagged=True, awaits_output=True)
    return _Turn(message.content)


def _hf_turn(message: Message, tools: ToolSpecs | None) -> _Turn:
    """As the template has it: one call at most, which takes the place of the content."""
    if not message.calls:
        return _meta_turn(message)
    if len(message.calls) > 1:
        raise InputError(
            f"a message calls {len(message.calls)} tools, and Hugging Face's dialect knows one call a message",
            do="use Meta's dialect",
        )
    call, builtin = message.calls[0], tools.builtin if tools else ()
    if call.name in builtin:
        arguments = ", ".join(f'{name}="{value}"' for name, value in call.arguments.items())
        return _Turn("", f"{call.name}.call({arguments})", tagged=True, awaits_output=True)
    return _Turn("", f'{{"name": "{call.name}", "parameters": {arguments_json(call)}}}', awaits_output=bool(builtin))


def decode_reply(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """The assistant's message in what a model wrote after `encode(..., reply=True)`, in either dialect.

    It ends at the first stop token, or where the model begins another message; other special tokens are left out. It is
    a call if it begins with the python tag. What follows a tag in its midst comes as data in `calls`, beside the text
    before the tag, or, where it is a call that cannot be read, as text.
    """
    ends = tokenizer.stop_ids | {tokenizer.start_header, tokenizer.bos}
    body = list(takewhile(lambda token: token not in ends, ids))
    tag = body.index(tokenizer.python_tag) if tokenizer.python_tag in body else len(body)
    said, called = (
        tokenizer.decode([token for token in part if token < tokenizer.bpe_tokens]) for part in (body[:tag], body[tag:])
    )
    if tag == len(body):
        return Message("assistant", said)
    if not said:
        return Message("assistant", called, call=True)
    try:
        calls = read_calls(called, (), alone=True) or [Call(CODE_INTERPRETER, {"code": called})]
    except MalformedCall:
        return Message("assistant", said + called)
    return Message("assistant", said, calls=tuple(calls))


def _header(tokenizer: Tokenizer, role: str) -> list[int]:
    return [tokenizer.start_header, *tokenizer.encode(role), tokenizer.end_header, *tokenizer.encode("\n\n")]


@dataclass(frozen=True)
class Llama3Chat:
    """Llama 3's format as a `ChatFormat`."""

    tokenizer: Tokenizer
    dialect: Dialect = "meta"

    @property
    def stop_ids(self) -> frozenset[int]:
        return self.tokenizer.stop_ids

    def encode(
        self,
        messages: Sequence[Message],
        reply: bool = False,
        tools: ToolSpecs | None = None,
        today: date | None = None,
    ) -> tuple[list[int], list[Kind]]:
        return encode(self.tokenizer, messages, reply, tools, today, self.dialect)

    def decode(self, ids: Sequence[int]) -> Message:
        return decode_reply(self.tokenizer, ids)


def chat_format(tokenizer: Tokenizer | ForeignTokenizer, dialect: Dialect | None = None) -> ChatFormat:
    """The format that a tokenizer's model reads: Llama 3's, or the template that came with the model.

    Raises:
        InputError: the model came with no template or a broken one, or its format has no such dialect.
    """
    if isinstance(tokenizer, ForeignTokenizer):
        if dialect is not None:
            raise InputError(
                "this model's chat format is not Llama 3's and has no dialects", do="leave the dialect out"
            )
        if tokenizer.chat_template is None:
            raise InputError("this model came with no chat template", do="let it go on with a text")
        return TemplateChat(tokenizer, tokenizer.chat_template)
    return Llama3Chat(tokenizer, dialect or "meta")
