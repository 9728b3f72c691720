"""What the tests of the tool loop give it: an engine that says what it is told to say, and a few tools."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from herdsman.errors import InputError
from herdsman.generation.engine import Piece
from herdsman.generation.sampling import Sampling
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tools.tool import Result

BYTES = {bytes([byte]): byte for byte in range(256)}


class ScriptedEngine:
    """Says one message of its script after the other, a character at a time; `<|...|>` are special tokens.

    Attributes:
        prompts: what it was asked, as text.
        open: streams that have been begun and not ended.
    """

    def __init__(self, *script: str, context_length: int = 100_000, wait: Callable[[float], None] | None = None):
        self.tokenizer = Tokenizer(BYTES)
        self.script, self.context_length, self.wait = list(script), context_length, wait or (lambda seconds: None)
        self.prompts: list[str] = []
        self.samplings: list[Sampling] = []
        self.open = 0

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        if len(prompt) >= self.context_length:
            raise InputError("the prompt leaves no room in the context")
        self.prompts.append(self.tokenizer.decode(prompt))
        self.samplings.append(sampling)
        ids = self.ids(self.script.pop(0))
        self.open += 1
        try:
            for token in ids[: sampling.max_new_tokens]:
                self.wait(1.0)
                yield Piece(self.tokenizer.decode([token]), (token,))
            yield Piece("", (), finish="stop" if len(ids) <= sampling.max_new_tokens else "length")
        finally:
            self.open -= 1

    def ids(self, text: str) -> list[int]:
        ids: list[int] = []
        while text:
            special = next((name for name in self.tokenizer.special if text.startswith(name)), None)
            ids += [self.tokenizer.special[special]] if special else self.tokenizer.encode(text[0])
            text = text[len(special or text[0]) :]
        return ids


@dataclass
class Plus:
    """Adds what it is given, and remembers it."""

    name: str = "plus"
    results: list[Result] = field(default_factory=list)
    given: list[dict[str, Any]] = field(default_factory=list)
    closed: int = 0

    @property
    def function(self) -> dict[str, Any]:
        number = {"type": "number"}
        parameters = {"type": "object", "properties": {"a": number, "b": number}, "required": ["a", "b"]}
        return {"name": self.name, "description": "Adds two numbers.", "parameters": parameters}

    def call(self, arguments: dict[str, Any]) -> Result:
        self.given.append(arguments)
        return self.results.pop(0) if self.results else Result(str(arguments["a"] + arguments["b"]))

    def close(self) -> None:
        self.closed += 1


@dataclass
class Builtin:
    """A built-in tool that answers with what it was asked."""

    name: str
    asked: list[str] = field(default_factory=list)
    function: dict[str, Any] = field(default_factory=dict)

    def call(self, arguments: dict[str, Any]) -> Result:
        self.asked += arguments.values()
        return Result(f"{self.name} says {' '.join(arguments.values())}")

    def close(self) -> None:
        pass
