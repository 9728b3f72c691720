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
    """

    role: str
    content: str


class Kind(IntEnum):
    """What a token of a dialog is. Every loss mask of post-training is a set of kinds."""

    PROMPT = 0
    """Begin of text, and everything of system and user messages; headers and ends of tool output."""
    HEADER = 1
    """The assistant's header with its two line ends."""
    BODY = 2
    """What the assistant says."""
    CALL = 3
    """What the assistant writes for a tool to run."""
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
        assistant = message.role == "assistant"
        body = Kind.BODY if assistant else Kind.TOOL_OUT if message.role == "ipython" else Kind.PROMPT
        append(_header(tokenizer, message.role), Kind.HEADER if assistant else Kind.PROMPT)
        append(tokenizer.encode(message.content), body)
        append([tokenizer.eot], Kind.END if assistant else Kind.PROMPT)
    if reply:
        append(_header(tokenizer, "assistant"), Kind.HEADER)
    return ids, kinds


def decode_reply(tokenizer: Tokenizer, ids: Sequence[int]) -> Message:
    """The assistant's message in what a model wrote after `encode(..., reply=True)`.

    It ends at the first stop token, or where the model begins another message; other special tokens are left out.
    """
    ends = tokenizer.stop_ids | {tokenizer.start_header, tokenizer.bos}
    end = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    body = [token for token in ids[:end] if token < tokenizer.bpe_tokens]
    return Message("assistant", tokenizer.decode(body))


def _header(tokenizer: Tokenizer, role: str) -> list[int]:
    return [tokenizer.start_header, *tokenizer.encode(role), tokenizer.end_header, *tokenizer.encode("\n\n")]
