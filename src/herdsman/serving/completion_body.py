"""The body of a request to /v1/completions, the way lm-evaluation-harness and older clients ask."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field, model_validator

from herdsman.serving.fields import MOST_TOP_LOGPROBS, CompletionBody, wrong

Prompt = str | list[int]


def _prompts(value: Any) -> list[Prompt]:
    """A text, texts, ids or lists of ids; always as a list of prompts."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and value:
        if all(isinstance(prompt, str) for prompt in value):
            return value
        if _are_ids(value):
            return [value]
        if all(isinstance(prompt, list) and prompt and _are_ids(prompt) for prompt in value):
            return value
    raise wrong("should be a text, texts, token ids or lists of token ids, none of them empty")


def _are_ids(value: list[Any]) -> bool:
    return all(type(id) is int and 0 <= id < 2**31 for id in value)


class TextBody(CompletionBody):
    """The body of a request to /v1/completions."""

    prompt: Annotated[list[Any], BeforeValidator(_prompts)]
    max_tokens: int | None = Field(16, ge=0)
    echo: bool | None = False
    logprobs: int | None = Field(None, ge=0, le=MOST_TOP_LOGPROBS)
    best_of: int | None = None
    suffix: str | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> TextBody:
        if self.best_of not in (None, self.n or 1):
            raise wrong("best_of: only as many as n are drawn; draw more with n and choose among them yourself")
        if self.suffix:
            raise wrong("suffix: the models here write only what follows a text")
        if self.max_tokens == 0 and not self.echo:
            raise wrong("max_tokens: should be at least 1 where the prompt is not echoed")
        if self.stream and self.echo and self.logprobs is not None:
            raise wrong("logprobs: of an echoed prompt cannot be streamed")
        return self
