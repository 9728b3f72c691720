"""/v1/completions: what a model writes after a text or after token ids, and how likely the text itself was."""

from __future__ import annotations

import asyncio
import codecs
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from herdsman.generation.engine import TokenLogprob
from herdsman.generation.sampling import Sampling
from herdsman.serving.api_error import ApiError
from herdsman.serving.completion_body import Prompt, TextBody
from herdsman.serving.drawing import draw, event, event_stream, unless_gone
from herdsman.serving.fields import parse
from herdsman.serving.models import Opened
from herdsman.serving.shapes import AnyTokenizer, finite, new_id, now, token_text, usage


async def completions(request: Request) -> Response:
    """Answers POST /v1/completions."""
    body = parse(TextBody, await request.body())
    state = request.app.state
    if len(body.prompt) > state.options.most_prompts:
        raise ApiError(400, f"prompt: more than {state.options.most_prompts} at a time", param="prompt")
    if body.max_tokens != 1 and len(body.prompt) * (body.n or 1) > state.options.most_choices:
        raise ApiError(400, f"n: more than {state.options.most_choices} completions at a time", param="n")
    model = await state.models.open(body.model)
    job = await asyncio.to_thread(_Job, body, model)  # It encodes the text, which may be long.
    if body.stream:
        return await event_stream(request, job.events())
    return JSONResponse(await unless_gone(request, job.whole()))


@dataclass
class _Choice:
    """One completion as it grows."""

    prompt: list[int]
    shown_from: int
    """First token of the prompt that an echo shows: not the begin-of-text token, if it was put there by this server."""
    text: str = ""
    finish: str | None = None
    ids: list[int] = field(default_factory=list)
    given: list[TokenLogprob | None] = field(default_factory=list)
    """Log-probabilities of the prompt's tokens, if they were asked for."""
    logprobs: list[TokenLogprob] = field(default_factory=list)


class _Job:
    """One request: its prompts as ids, and the answer whole or in events."""

    def __init__(self, body: TextBody, model: Opened):
        self.body, self.model = body, model
        self.tokenizer = model.engine.tokenizer
        self.count = body.n or 1
        self.limit = 16 if body.max_tokens is None else body.max_tokens
        prompts = [self._ids(prompt) for prompt in body.prompt]
        self.prompts, self.shown_from = [ids for ids, _ in prompts], [shown_from for _, shown_from in prompts]
        model.check_ids([id for ids in self.prompts for id in ids], "prompt")
        model.check_ids(body.logit_bias, "logit_bias")
        for ids in self.prompts:
            self.model.check_length(ids, "prompt", room=self.limit > 0)
        self.head = {"id": new_id("cmpl-"), "object": "text_completion", "created": now(), "model": body.model}

    def _ids(self, prompt: Prompt) -> tuple[list[int], int]:
        """A text begins as texts did in training; ids are taken as they are."""
        if not isinstance(prompt, str):
            return prompt, 0
        self.model.check_characters(len(prompt), "prompt")
        beginning = self.model.beginning
        ids = [*beginning, *self.tokenizer.encode(prompt)]
        if not ids:
            raise ApiError(400, "prompt: a text needs at least one character", param="prompt")
        return ids, len(beginning)

    def _sampling(self) -> Sampling:
        # Where one token is asked for, it is shown even if it ends the text: lm-evaluation-harness takes the last entry
        # of the log-probabilities for the one that was written, whatever it is.
        shown = self.limit == 1 and self.body.logprobs is not None
        more = {"stop_ids": frozenset[int]()} if shown else {}
        return self.body.sampling(max(self.limit, 1), logprobs=self.body.logprobs, **more)

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        choices = [
            _Choice(ids, shown_from)
            for ids, shown_from in zip(self.prompts, self.shown_from, strict=True)
            for _ in range(self.count)
        ]
        if self.body.echo and self.body.logprobs is not None:
            for place, ids in enumerate(self.prompts):
                given = await self.model.prompt_logprobs(ids, self.body.logprobs)
                for choice in choices[place * self.count : (place + 1) * self.count]:
                    choice.given = given[choice.shown_from :]
        if self.limit:
            async with aclosing(self._drawn()) as drawn:
                async for place, piece in drawn:
                    choice = choices[place]
                    choice.text += piece.text
                    choice.ids += piece.ids
                    choice.logprobs += piece.logprobs or []
                    choice.finish = piece.finish or choice.finish
        listed = [self._as_json(index, choice) for index, choice in enumerate(choices)]
        return self.head | {"choices": listed, "usage": self._usage(sum(len(choice.ids) for choice in choices))}

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer in pieces."""
        if self.body.echo:
            for index in range(len(self.prompts) * self.count):
                yield self._event(index, self._prompt_text(index // self.count), None, None)
        written = 0
        offsets = [0] * len(self.prompts) * self.count
        async with aclosing(self._drawn()) as drawn:
            async for index, piece in drawn:
                written += len(piece.ids)
                listed = None
                if piece.logprobs:
                    listed = listed_logprobs(self.tokenizer, piece.ids, piece.logprobs, offsets[index])
                    offsets[index] += len(piece.text)
                yield self._event(index, piece.text, listed, piece.finish)
        if self.body.wants_usage:
            yield event(self.head | {"choices": [], "usage": self._usage(written)})

    def _drawn(self) -> Any:
        prompts = [ids for ids in self.prompts for _ in range(self.count)]
        sampling = self._sampling()
        return draw(self.model.service, prompts, [sampling] * len(prompts), range(len(prompts)))

    def _event(self, index: int, text: str, logprobs: dict[str, Any] | None, finish: str | None) -> bytes:
        choice = {"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return event(self.head | {"choices": [choice]} | ({"usage": None} if self.body.wants_usage else {}))

    def _as_json(self, index: int, choice: _Choice) -> dict[str, Any]:
        text, finish = choice.text, choice.finish or "length"
        if choice.ids and choice.ids[-1] in self.tokenizer.stop_ids:  # Shown in the log-probabilities alone.
            text, finish = text[: -len(self.tokenizer.decode(choice.ids[-1:]))], "stop"
        if self.body.echo:
            text = self._prompt_text(index // self.count) + text
        listed = None
        if self.body.logprobs is not None:
            before = choice.prompt[choice.shown_from :] if choice.given else []
            listed = listed_logprobs(self.tokenizer, [*before, *choice.ids], [*choice.given, *choice.logprobs])
        return {"index": index, "text": text, "logprobs": listed, "finish_reason": finish}

    def _prompt_text(self, place: int) -> str:
        return self.tokenizer.decode(self.prompts[place][self.shown_from[place] :])

    def _usage(self, written: int) -> dict[str, int]:
        return usage(sum(map(len, self.prompts)), written)


def listed_logprobs(
    tokenizer: AnyTokenizer, ids: Sequence[int], logprobs: Sequence[TokenLogprob | None], offset: int = 0
) -> dict[str, Any]:
    """Log-probabilities in the form of /v1/completions: lists with an entry a token.

    A token before which nothing stands has null for its probability. The token itself is always among the alternatives,
    so that a client can see whether it was the likeliest.

    Args:
        offset: characters of text before the first token.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    offsets, alternatives = [], []
    for id, token in zip(ids, logprobs, strict=True):
        offsets.append(offset)
        offset += len(decoder.decode(tokenizer.decode_bytes([id])))
        top = {} if token is None else {token_text(tokenizer, other): finite(logprob) for other, logprob in token.top}
        alternatives.append(None if token is None else top | {token_text(tokenizer, id): finite(token.logprob)})
    return {
        "tokens": [token_text(tokenizer, id) for id in ids],
        "token_logprobs": [None if token is None else finite(token.logprob) for token in logprobs],
        "top_logprobs": alternatives,
        "text_offset": offsets,
    }
