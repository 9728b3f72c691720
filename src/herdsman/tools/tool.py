"""What a tool is: something with a name and a schema that a model may call, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class File:
    """A file that a tool made, such as a plot."""

    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class Source:
    """A page that a search found.

    Attributes:
        text: the passage that fits the question; plain text.
    """

    title: str
    url: str
    text: str


@dataclass(frozen=True)
class Result:
    """What a tool answered.

    Attributes:
        text: what the model reads; plain text.
        files: for the user: the model knows of them only what `text` says.
        sources: where `text` comes from, for the user to follow.
        failed: the call did nothing useful, and `text` is one sentence that says why.
    """

    text: str
    files: tuple[File, ...] = ()
    sources: tuple[Source, ...] = ()
    failed: bool = False


class Tool(Protocol):
    """A tool as a chat holds it: one instance for one chat, so that it may keep a state from call to call.

    Attributes:
        name: what a call names: `brave_search`, `wolfram_alpha` and `code_interpreter` are the ones a Llama knows
            without being told; any other is described to it by `function`.
        function: an OpenAI function object: name, description, and the arguments' JSON schema as `parameters`.
    """

    name: str
    function: dict[str, Any]

    def call(self, arguments: dict[str, Any]) -> Result:
        """Runs the tool.

        Never raises for what the model did wrong: that is a failed result, which the model reads and may mend.
        """
        ...

    def close(self) -> None:
        """Ends what the tool holds, such as a running interpreter. May be called more than once."""
        ...
