"""How a prompt is put to a model, and what in its completion counts as the answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from herdsman.generation.engine import Completion
from herdsman.synthesis.prompt import Prompt
from herdsman.tokens.chat import decode_reply, encode
from herdsman.tokens.tokenizer import Tokenizer

SHOTS = 2


class Manner(Protocol):
    """A way to ask."""

    def ids(self, prompt: Prompt) -> list[int]:
        """What the model reads."""

    def answer(self, completion: Completion) -> tuple[str, bool]:
        """The answer in what the model wrote, and whether it came to its end."""


class ChatManner:
    """In the chat format, for models that have been taught it."""

    def __init__(self, tokenizer: Tokenizer):
        self.tokenizer = tokenizer

    def ids(self, prompt: Prompt) -> list[int]:
        return encode(self.tokenizer, prompt.messages, reply=True)[0]

    def answer(self, completion: Completion) -> tuple[str, bool]:
        return decode_reply(self.tokenizer, completion.ids).content, completion.stopped


class PlainManner:
    """As plain text after worked examples of the same family, for a pretrained model; the answer is one line.

    Args:
        examples: prompts whose references may be shown; the first of each family are.
        room_tokens: length of the longest prompt; of examples that do not fit, fewer are shown.
    """

    def __init__(self, tokenizer: Tokenizer, examples: Sequence[Prompt], room_tokens: int):
        self.tokenizer, self.room_tokens = tokenizer, room_tokens
        self.examples: dict[str, list[Prompt]] = defaultdict(list)
        for prompt in examples:
            if len(self.examples[prompt.family]) < SHOTS:
                self.examples[prompt.family].append(prompt)

    def ids(self, prompt: Prompt) -> list[int]:
        shown = [f"{_asked(example)} {example.reference}\n\n" for example in self.examples[prompt.family]]
        while True:
            ids = [self.tokenizer.bos, *self.tokenizer.encode("".join(shown) + _asked(prompt))]
            if len(ids) <= self.room_tokens or not shown:
                return ids[-self.room_tokens :]
            shown.pop()

    def answer(self, completion: Completion) -> tuple[str, bool]:
        line, end, _ = completion.text.lstrip().partition("\n")
        return line.strip(), bool(end) or completion.stopped


def _asked(prompt: Prompt) -> str:
    return f"Question: {prompt.question}\nAnswer:"
