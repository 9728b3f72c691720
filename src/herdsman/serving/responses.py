"""/v1/responses: a turn of the assistant with everything it does on the way, tools of this server among it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from herdsman.generation.constraint import Constraint
from herdsman.serving.api_error import ApiError, as_api_error
from herdsman.serving.chat_body import call_constraint
from herdsman.serving.conversing import Line, in_thread
from herdsman.serving.drawing import event, event_stream, log_failure, unless_gone
from herdsman.serving.fields import Body, parse
from herdsman.serving.guarding import Watched
from herdsman.serving.models import Opened
from herdsman.serving.response_body import ChosenTool, ResponseBody
from herdsman.serving.response_items import Output
from herdsman.serving.response_store import Remembered
from herdsman.serving.shapes import new_id, now
from herdsman.serving.toolbox import CALLED, Tools, kind_of
from herdsman.tokens.messages import Message, ToolSpecs
from herdsman.tools.agent import Answered, Called, Ended, Event, Text, TurnLimits, converse, tool_specs

JsonEvent = dict[str, Any]

REASONS = {"length": "max_output_tokens", "steps": "max_messages", "time": "max_messages"}
"""Why a response is incomplete, in the words that OpenAI's API has for it."""


async def responses(request: Request) -> Response:
    """Answers POST /v1/responses."""
    body = parse(ResponseBody, await request.body())
    state = request.app.state
    model = await state.models.open(body.model)
    model.chat_format()
    caller = request.scope["caller"]
    before = state.responses.recall(body.previous_response_id, caller) if body.previous_response_id else None
    dialog, open_calls = body.dialog(before.dialog if before else [], before.open_calls if before else frozenset())
    tools = await state.toolbox.take(body, model.place, caller, before.container if before else None)
    turn = None
    try:
        turn = await asyncio.to_thread(_Turn, body, model, dialog, open_calls, tools, caller, state)
        if body.stream:
            return await event_stream(request, turn.events(), last=b"")
        return JSONResponse(await unless_gone(request, turn.whole()))
    except BaseException:
        if turn is None or not turn.begun:
            tools.close()
        raise


async def forget_response(request: Request) -> Response:
    """Answers DELETE /v1/responses/ID."""
    id = request.path_params["id"]
    request.app.state.responses.forget(id, request.scope["caller"])
    return JSONResponse({"id": id, "object": "response.deleted", "deleted": True})


class _Turn:
    """One response on its way.

    Args:
        dialog: what it answers, without instructions.
        open_calls: ids of calls that the caller may answer.
        tools: of this server; closed when the turn is over.
    """

    def __init__(
        self,
        body: ResponseBody,
        model: Opened,
        dialog: list[Message],
        open_calls: frozenset[str],
        tools: Tools,
        caller: str,
        state: Any,
    ):
        self.body, self.model, self.dialog, self.open_calls = body, model, dialog, open_calls
        self.tools, self.caller, self.state = tools, caller, state
        self.functions = [tool.described() for tool in body.functions_given()] if body.tool_choice != "none" else []
        specs = tool_specs(tools.run_here, self.functions)
        self.sampling = body.sampling(
            body.max_output_tokens or model.engine.context_length,
            stop_ids=model.stop_ids(specs),
            constraint=_forced(body, specs) or body.form(),
        )
        self.messages = self._fitted(specs)
        judge = model.guard.notice_for_output if model.guard else None
        self.watched = Watched(dialog, judge)
        self.output = Output(tools.container.id if tools.container else None)
        self.head = {"id": new_id("resp_"), "object": "response", "created_at": now(), "model": body.model}
        self.usage: dict[str, Any] | None = None
        self.begun = False

    def _fitted(self, specs: ToolSpecs) -> list[Message]:
        """Instructions and dialog; with truncation the oldest questions go until there is room for an answer."""
        front = [Message("system", self.body.instructions)] if self.body.instructions else []
        context = self.model.engine.context_length
        room = context - min(self.sampling.max_new_tokens, context // 2)
        messages = [*front, *self.dialog]
        while len(prompt := self.model.encode(messages, specs)) > room and self.body.truncation == "auto":
            later = [place for place in range(len(front) + 1, len(messages)) if messages[place].role == "user"]
            if not later:
                break
            messages = [*front, *messages[later[0] :]]
        self.model.check_length(prompt, "input")
        return messages

    async def whole(self) -> JsonEvent:
        """The response as one object.

        Raises:
            ApiError: it failed.
        """
        async with aclosing(self._events()) as events:
            found = [one async for one in events]
        return found[-1]["response"]

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The response in events, each with its number."""
        number = 0
        try:
            async with aclosing(self._events()) as events:
                async for found in events:
                    yield event(found | {"sequence_number": number}, found["type"])
                    number += 1
        except Exception as error:
            if not number:
                raise
            log_failure(error)
            told = {"code": "server_error", "message": as_api_error(error).message}
            failed = self._event("failed", "failed") | {"sequence_number": number}
            yield event(failed | {"response": failed["response"] | {"error": told}}, "response.failed")

    async def _events(self) -> AsyncGenerator[JsonEvent, None]:
        asked = self.messages[-1] if self.messages else None
        notice = None
        if self.model.guard and asked and asked.role == "user":
            notice = self.model.guard.notice_for_input(self.dialog)
        yield self._event("created", "in_progress")
        yield self._event("in_progress", "in_progress")
        if notice is not None:  # The model is not to read a question it was not to be asked.
            self.begun = True
            self.tools.close()
            for found in [*self.output.say(notice), *self.output.end_text(complete=False)]:
                yield found
            yield self._event("incomplete", "incomplete", "content_filter")
            return
        turn = in_thread(self._converse, self.model.service, self.state.threads, self.tools.close)
        self.begun = True
        async with aclosing(turn) as happened:
            async for one in happened:
                for found in self._follow(one):
                    yield found
                if self.watched.blocked:
                    for found in self.output.end_text(complete=False):
                        yield found
                    yield self._event("incomplete", "incomplete", "content_filter")
                    return

    def _converse(self, line: Line) -> Iterator[Event]:
        return converse(
            line,
            self.model.chat_format(),
            self.messages,
            self.tools.run_here,
            self.sampling,
            TurnLimits.for_context(self.model.engine.context_length),
            functions=self.functions,
        )

    def _follow(self, one: Event) -> Iterator[JsonEvent]:
        """What an event of the turn is in the API."""
        if isinstance(one, Text):
            yield from self.output.say(self.watched.feed(one.text))
            return
        yield from self.output.say(self.watched.feed("", ended=True))
        if self.watched.blocked:
            return
        if isinstance(one, Called):
            yield from self.output.begin(one.call)
        elif isinstance(one, Answered):
            yield from self.output.end(one.call, one.result) if one.call else self.output.fail(one.result.text)
        else:
            yield from self._end(one)

    def _end(self, ended: Ended) -> Iterator[JsonEvent]:
        yield from self.output.end_text(complete=ended.finish != "length")
        for call in ended.calls if self.body.parallel_tool_calls is not False else ended.calls[:1]:
            yield from self.output.hand_out(call)
        self.usage = {
            "input_tokens": ended.prompt_tokens,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": ended.written_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": ended.prompt_tokens + ended.written_tokens,
        }
        if self.body.store is not False:
            handed_out = frozenset(item["call_id"] for item in self.output.items if item["type"] == "function_call")
            container = self.output.container
            dialog = [*self.dialog, *ended.messages]
            kept = Remembered(dialog, self.open_calls | handed_out, container, self.caller)
            self.state.responses.keep(self.head["id"], kept)
        if reason := REASONS.get(ended.finish):
            yield self._event("incomplete", "incomplete", reason)
        else:
            yield self._event("completed", "completed")

    def _event(self, name: str, status: str, reason: str | None = None) -> JsonEvent:
        """An event that carries the whole response as it stands."""
        body, sampling = self.body, self.sampling
        response = self.head | {
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "max_tool_calls": None,
            "metadata": body.metadata or {},
            "output": [dict(item) for item in self.output.items],
            "parallel_tool_calls": body.parallel_tool_calls is not False,
            "previous_response_id": body.previous_response_id,
            "store": body.store is not False,
            "temperature": sampling.temperature,
            "text": {"format": _given(body.text.format) if body.text and body.text.format else {"type": "text"}},
            "tool_choice": body.tool_choice if isinstance(body.tool_choice, str) else _given(body.tool_choice),
            "tools": [_given(tool) for tool in body.tools],
            "top_p": sampling.top_p,
            "truncation": body.truncation or "disabled",
            "usage": self.usage,
        }
        return {"type": f"response.{name}", "response": response}


def _given(part: Body) -> JsonEvent:
    """As it was sent."""
    return part.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _forced(body: ResponseBody, specs: ToolSpecs) -> Constraint | None:
    """The form of a call, if the model must call a tool.

    Raises:
        ApiError: the tool that is named is not among the tools.
    """
    if not body.must_call:
        return None
    names = list(specs.known)
    if isinstance(body.tool_choice, ChosenTool):
        chosen = (
            body.tool_choice.name if body.tool_choice.type == "function" else CALLED.get(kind_of(body.tool_choice.type))
        )
        if chosen not in names:
            raise ApiError(
                400, "tool_choice: names a tool that is not among the tools", param="tool_choice", code="invalid_value"
            )
        names = [chosen]
    return call_constraint(tuple(specs.known[name] for name in names))
