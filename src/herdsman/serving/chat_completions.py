"""/v1/chat/completions: what a model answers in a dialog, and which of the caller's functions it calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from herdsman.errors import InputError
from herdsman.generation.engine import Piece
from herdsman.serving.chat_body import ChatBody
from herdsman.serving.drawing import draw, event, event_stream, unless_gone
from herdsman.serving.fields import parse
from herdsman.serving.guarding import Watched
from herdsman.serving.models import Opened
from herdsman.serving.shapes import new_id, now, token_entry, usage
from herdsman.tokens.call_forms import MalformedCall
from herdsman.tokens.calls import arguments_json
from herdsman.tokens.messages import ToolSpecs
from herdsman.tools.reply import Reply


async def chat_completions(request: Request) -> Response:
    """Answers POST /v1/chat/completions."""
    body = parse(ChatBody, await request.body())
    model = await request.app.state.models.open(body.model)
    job = await asyncio.to_thread(_Job, body, model)  # It encodes the text, which may be long.
    if body.stream:
        return await event_stream(request, job.events())
    return JSONResponse(await unless_gone(request, job.whole()))


@dataclass
class _Choice:
    """One answer as it grows."""

    reply: Reply
    watched: Watched
    text: str = ""
    """What is shown."""
    written: str = ""
    """What the model wrote, calls and all, of which `prose_characters` went on to the guard as prose."""
    prose_characters: int = 0
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    finish: str | None = None


class _Job:
    """One request: its dialog as ids, and the answer whole or in events."""

    def __init__(self, body: ChatBody, model: Opened):
        self.body, self.model = body, model
        format = model.chat_format()
        self.dialog = body.dialog()
        self.tools = ToolSpecs(functions=body.functions_offered())
        self.prompt = model.encode(self.dialog, self.tools, continues=bool(body.continue_final_message))
        model.check_length(self.prompt, "messages")
        model.check_ids(body.logit_bias, "logit_bias")
        alternatives = (body.top_logprobs or 0) if body.logprobs else None
        self.sampling = body.sampling(
            body.limit or model.engine.context_length,
            stop_ids=model.stop_ids(self.tools),
            logprobs=alternatives,
            constraint=body.constraint(),
        )
        judge = model.guard.notice_for_output if model.guard else None
        self.choices = [_Choice(Reply(format, self.tools), Watched(self.dialog, judge)) for _ in range(body.n or 1)]
        self.notice = model.guard.notice_for_input(self.dialog) if model.guard else None
        self.written = 0
        self.head = {"id": new_id("chatcmpl-"), "created": now(), "model": body.model, "system_fingerprint": None}

    async def whole(self) -> dict[str, Any]:
        """The answer as one object."""
        async with aclosing(self._deltas()) as deltas:
            async for index, text, logprobs in deltas:
                self.choices[index].text += text
                self.choices[index].logprobs += logprobs
        listed = [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": choice.text if choice.text or not choice.calls else None,
                    "refusal": None,
                }
                | ({"tool_calls": choice.calls} if choice.calls else {}),
                "logprobs": {"content": choice.logprobs, "refusal": None} if self.body.logprobs else None,
                "finish_reason": choice.finish,
            }
            for index, choice in enumerate(self.choices)
        ]
        return self.head | {"object": "chat.completion", "choices": listed, "usage": self._usage()}

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The answer in pieces."""
        begun: set[int] = set()
        async with aclosing(self._deltas()) as deltas:
            async for index, text, logprobs in deltas:
                choice = self.choices[index]
                if index not in begun:
                    begun.add(index)
                    yield self._event(index, {"role": "assistant", "content": "", "refusal": None})
                if text or logprobs:
                    yield self._event(index, {"content": text}, logprobs)
                if choice.finish:
                    if choice.calls:
                        calls = [{"index": number} | call for number, call in enumerate(choice.calls)]
                        yield self._event(index, {"tool_calls": calls})
                    yield self._event(index, {}, finish=choice.finish)
        if self.body.wants_usage:
            yield event(self.head | {"object": "chat.completion.chunk", "choices": [], "usage": self._usage()})

    async def _deltas(self) -> AsyncGenerator[tuple[int, str, list[dict[str, Any]]], None]:
        """Parts of the answers: which one, text that may be shown, and log-probabilities.

        With its last part an answer has its calls and its reason to end.
        """
        if self.notice is not None:  # The model is not to read a question it was not to be asked.
            for index, choice in enumerate(self.choices):
                choice.finish = "content_filter"
                yield index, self.notice, []
            return
        count = len(self.choices)
        drawn = draw(self.model.service, [self.prompt] * count, [self.sampling] * count, range(count))
        async with aclosing(drawn):
            async for index, piece in drawn:
                choice = self.choices[index]
                if choice.finish:
                    continue
                self.written += len(piece.ids)
                text = choice.watched.feed(self._follow(choice, piece), ended=piece.finish is not None)
                if choice.watched.blocked:
                    choice.finish, choice.calls = "content_filter", []
                yield index, text, [token_entry(self.model.engine.tokenizer, token) for token in piece.logprobs or ()]
                if all(choice.finish for choice in self.choices):
                    return

    def _follow(self, choice: _Choice, piece: Piece) -> str:
        """The prose in this piece; with the last one the calls are known."""
        choice.written += piece.text
        text = choice.reply.feed(piece)
        if piece.finish is not None:
            choice.calls = _calls(choice.reply)
            if self.body.parallel_tool_calls is False:
                del choice.calls[1:]
            choice.finish = "tool_calls" if choice.calls else piece.finish
            if not choice.calls:  # What tried to be a call and is none must not vanish.
                text += choice.written[choice.prose_characters + len(text) :]
        choice.prose_characters += len(text)
        return text

    def _event(
        self,
        index: int,
        delta: dict[str, Any],
        logprobs: list[dict[str, Any]] | None = None,
        finish: str | None = None,
    ) -> bytes:
        listed = {"content": logprobs, "refusal": None} if logprobs else None
        choice = {"index": index, "delta": delta, "logprobs": listed, "finish_reason": finish}
        more = {"usage": None} if self.body.wants_usage else {}
        return event(self.head | {"object": "chat.completion.chunk", "choices": [choice]} | more)

    def _usage(self) -> dict[str, int]:
        return usage(len(self.prompt), self.written)


def _calls(reply: Reply) -> list[dict[str, Any]]:
    """What a reply calls; nothing if a call cannot be read, or has another in it, which this API cannot express."""
    try:
        return [
            {
                "id": new_id("call_"),
                "type": "function",
                "function": {"name": call.name, "arguments": arguments_json(call)},
            }
            for call in reply.calls()
        ]
    except (MalformedCall, InputError):
        return []
