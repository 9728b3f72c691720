"""The chat protocol of Llama 3: messages to ids and back, in Meta's dialect, with the kind of every token."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Protocol

from herdsman.errors import InputError
from herdsman.tokens.foreign import ForeignTokenizer
from herdsman.tokens.messages import ROLES, Dialect, Kind, Message, ToolSpecs
from herdsman.tokens.tokenizer import Tokenizer


class ChatFormat(Protocol):
    """How one kind of model reads and writes a dialog.

    Attributes:
        stop_ids: tokens that end what the model writes.
    """

    stop_ids: frozenset[int]

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


def encode(tokenizer: Tokenizer, messages: Sequence[Message], reply: bool = False) -> tuple[list[int], list[Kind]]:
    """Ids of a dialog and the kind of each.

    The ids are built piece by piece, never from one string, so no content can forge a header or an end; content is
    taken as it is, spaces and line ends included, as Meta's encoder does (Hugging Face's template trims it).

    Args:
        reply: appends the header of an assistant's message, for a model to go on from.

    Raises:
        InputError: a role is not known.
    """
    ids, kinds = [tokenizer.bos], [Kind.PROMPT]

    def append(piece: list[int], kind: Kind) -> None:
        ids.extend(piece)
        kinds.extend([kind] * len(piece))

    for number, message in enumerate(messages):
        if message.role not in ROLES:
            raise InputError(
                f"there is no role {message.role!r}", where=f"message {number}", do=f"use one of {', '.join(ROLES)}"
            )
        content = tokenizer.encode(message.content)
        if message.role != "assistant":
            append(_header(tokenizer, message.role), Kind.PROMPT)
            append(content, Kind.TOOL_OUT if message.role == "ipython" else Kind.PROMPT)
            append([tokenizer.eot], Kind.PROMPT)
            continue
        append(_header(tokenizer, message.role), Kind.HEADER)
        append([tokenizer.python_tag, *content] if message.call else content, Kind.CALL if message.call else Kind.BODY)
        append([tokenizer.eom if message.call else tokenizer.eot], Kind.END)
    if reply:
        append(_header(tokenizer, "assistant"), Kind.HEADER)
    return ids, kinds


def decode_reply(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """The assistant's message in what a model wrote after `encode(..., reply=True)`.

    It ends at the first stop token, or where the model begins another message; other special tokens are left out. It is
    a call if it begins with the python tag.
    """
    ends = tokenizer.stop_ids | {tokenizer.start_header, tokenizer.bos}
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    body = [token for token in ids[:end] if token < tokenizer.bpe_tokens]
    return Message("assistant", tokenizer.decode(body), call=bool(end) and ids[0] == tokenizer.python_tag)


def _header(tokenizer: Tokenizer, role: str) -> list[int]:
    return [tokenizer.start_header, *tokenizer.encode(role), tokenizer.end_header, *tokenizer.encode("\n\n")]


class Llama3Chat:
    """Llama 3's format, in Meta's dialect, which herds are trained on, or in that of Hugging Face's template."""

    def __init__(self, tokenizer: Tokenizer, dialect: Dialect = "meta"):
        self.stop_ids = tokenizer.stop_ids
        self._tokenizer, self._dialect = tokenizer, dialect

    def encode(
        self,
        messages: Sequence[Message],
        reply: bool = False,
        tools: ToolSpecs | None = None,
        today: date | None = None,
    ) -> tuple[list[int], list[Kind]]:
        return encode(self._tokenizer, messages, reply)

    def decode(self, ids: Sequence[int]) -> Message:
        return decode_reply(self._tokenizer, ids)


def chat_format(tokenizer: Tokenizer | ForeignTokenizer, dialect: Dialect | None = None) -> ChatFormat:
    """The format that a tokenizer's model reads: Llama 3's, or the template that came with the model.

    Raises:
        InputError: the model came with no template, or a dialect is asked of another format than Llama 3's.
    """
    if isinstance(tokenizer, ForeignTokenizer):
        raise InputError("this model came with no chat template", do="let it go on with a text")
    return Llama3Chat(tokenizer, dialect or "meta")
