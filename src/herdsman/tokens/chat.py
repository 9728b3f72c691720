"""The chat protocol of Llama 3: messages to ids and back, in Meta's dialect, with the kind of every token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from herdsman.errors import InputError
from herdsman.tokens.tokenizer import Tokenizer

ROLES = ("system", "user", "assistant", "ipython")


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a dialog.

    Attributes:
        role: system, user, assistant, or ipython, which is the output of a tool.
        call: the content is code that the assistant wants run. Such a message begins with `<|python_tag|>` and ends
            with `<|eom_id|>`, for the assistant goes on once it sees the output.
    """

    role: str
    content: str
    call: bool = False


class Kind(IntEnum):
    """What a token of a dialog is. Every loss mask of post-training is a set of kinds."""

    PROMPT = 0
    """Begin of text, and everything of system and user messages; headers and ends of tool output."""
    HEADER = 1
    """The assistant's header with its two line ends."""
    BODY = 2
    """What the assistant says."""
    CALL = 3
    """What the assistant writes for a tool to run, the python tag included."""
    END = 4
    """The token that ends an assistant's message."""
    TOOL_OUT = 5
    """What a tool answered."""


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
