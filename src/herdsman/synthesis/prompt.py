"""A prompt whose answers can be checked, and the split that keeps held-out prompts out of training by construction."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from herdsman.synthesis.sample import content_id
from herdsman.tokens.chat import Message

Split = Literal["train", "held_out"]
HELD_OUT_PARTS = 10
SMALL_LETTER_SHARE, NO_MARK_SHARE = 0.3, 0.15


@dataclass(frozen=True)
class Prompt:
    """A dialog that waits for an answer, with what a checker needs to judge one.

    Attributes:
        messages: the dialog, ending with the user.
        source: tasks, grounded, conversation or safety.
        family: the kind of prompt within its source.
        reference: an answer that passes the checks.
        facts: what the checks compare an answer with; JSON-able.
        parents: ids of the documents it was made from.
        licence: licence of the text it quotes.
        engine: the generator and its version.
    """

    messages: tuple[Message, ...]
    source: str
    family: str
    reference: str
    facts: Mapping[str, Any]
    engine: str
    parents: tuple[str, ...] = ()
    licence: str = ""
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", content_id([[m.role, m.content] for m in self.messages]))

    @property
    def question(self) -> str:
        """The user's last message."""
        return self.messages[-1].content

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(row: Mapping[str, Any]) -> Prompt:
        rest = {name: value for name, value in row.items() if name not in ("id", "messages", "parents")}
        messages = tuple(Message.from_json(message) for message in row["messages"])
        return Prompt(messages=messages, parents=tuple(row["parents"]), **rest)


def split_of(source: str, family: str, content: object) -> Split:
    """The split that owns a piece of content, whatever words it is asked in: one part in ten is held out.

    It depends on the content alone, so the same content can never be in both splits, whatever the seed or the sizes.
    """
    digest = hashlib.blake2b(content_id([source, family, content]).encode(), digest_size=8).digest()
    return "held_out" if int.from_bytes(digest, "big") % HELD_OUT_PARTS == 0 else "train"


def generator(seed: int, *names: object) -> random.Random:
    """Random choices for one purpose, independent of those for any other and of Python's hash seed."""
    return random.Random("/".join(map(str, (seed, *names))))


def as_typed(rng: random.Random, question: str) -> str:
    """A question the way people type it: now and then without its capital letter or its last mark."""
    if rng.random() < SMALL_LETTER_SHARE:
        first, space, rest = question.partition(" ")
        question = first.lower() + space + rest
    if rng.random() < NO_MARK_SHARE:
        question = question.rstrip(".?!")
    return question
