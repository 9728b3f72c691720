"""The output of a response as it grows: its items, and the events that tell a client of them."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

from herdsman.serving.response_body import MALFORMED
from herdsman.serving.shapes import new_id
from herdsman.tokens.messages import Call
from herdsman.tools.tool import Result

Event = dict[str, Any]

SERVER_LABEL = "herdsman"


class Output:
    """Items of a response. Each method yields the events that a client is to be sent.

    Args:
        container: id of the code interpreter's container, if there is one.
    """

    def __init__(self, container: str | None = None):
        self.container = container
        self.items: list[Event] = []
        self._text: Event | None = None
        self._running: list[tuple[Call, Event]] = []

    def say(self, text: str, logprobs: list[dict[str, Any]] | None = None) -> Iterator[Event]:
        """More text."""
        if not text and not logprobs:
            return
        if self._text is None:
            self._text = {"id": new_id("msg_"), "type": "message", "role": "assistant", "status": "in_progress"}
            self._text["content"] = []
            yield self._added(self._text)
            part: Event = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield self._of(self._text, "content_part.added") | {"content_index": 0, "part": dict(part)}
            self._text["content"] = [part]
        part = self._text["content"][0]
        part["text"] += text
        part["logprobs"] += logprobs or []
        place = {"content_index": 0, "delta": text, "logprobs": logprobs or []}
        yield self._of(self._text, "output_text.delta") | place

    def end_text(self, complete: bool = True) -> Iterator[Event]:
        """No more text in this message."""
        if self._text is None:
            return
        item, self._text = self._text, None
        item["status"] = "completed" if complete else "incomplete"
        part = item["content"][0]
        place = {"content_index": 0}
        yield self._of(item, "output_text.done") | place | {"text": part["text"], "logprobs": part["logprobs"]}
        yield self._of(item, "content_part.done") | place | {"part": part}
        yield self._done(item)

    def hand_out(self, call: Call) -> Iterator[Event]:
        """A call that the client is to carry out."""
        arguments = json.dumps(call.arguments, ensure_ascii=False)
        item = {"id": new_id("fc_"), "type": "function_call", "call_id": new_id("call_"), "name": call.name}
        item |= {"arguments": "", "status": "in_progress"}
        yield from self.end_text()
        yield self._added(item)
        yield self._of(item, "function_call_arguments.delta") | {"delta": arguments}
        item |= {"arguments": arguments, "status": "completed"}
        yield self._of(item, "function_call_arguments.done") | {"arguments": arguments, "name": call.name}
        yield self._done(item)

    def begin(self, call: Call) -> Iterator[Event]:
        """A call that is being carried out here."""
        yield from self.end_text()
        if call.name == "code_interpreter":
            code = str(call.arguments.get("code", ""))
            item: Event = {"id": new_id("ci_"), "type": "code_interpreter_call", "code": "", "outputs": []}
            item |= {"container_id": self.container, "status": "in_progress"}
            yield self._added(item)
            yield self._of(item, "code_interpreter_call.in_progress")
            yield self._of(item, "code_interpreter_call_code.delta") | {"delta": code}
            item |= {"code": code, "status": "interpreting"}
            yield self._of(item, "code_interpreter_call_code.done") | {"code": code}
            yield self._of(item, "code_interpreter_call.interpreting")
        elif call.name == "brave_search":
            query = str(call.arguments.get("query", ""))
            action = {"type": "search", "query": query, "queries": [query], "sources": []}
            item = {"id": new_id("ws_"), "type": "web_search_call", "status": "in_progress", "action": action}
            yield self._added(item)
            yield self._of(item, "web_search_call.in_progress")
            item["status"] = "searching"
            yield self._of(item, "web_search_call.searching")
        else:
            arguments = json.dumps(call.arguments, ensure_ascii=False)
            item = {"id": new_id("mcp_"), "type": "mcp_call", "server_label": SERVER_LABEL, "name": call.name}
            item |= {"arguments": arguments, "status": "calling", "output": None, "error": None}
            yield self._added(item)
            yield self._of(item, "mcp_call.in_progress")
            yield self._of(item, "mcp_call_arguments.done") | {"arguments": arguments}
        self._running.append((call, item))

    def end(self, call: Call, result: Result) -> Iterator[Event]:
        """What a call gave. One that is not begun, because a call inside it failed, is begun here."""
        if not any(running is call for running, _ in self._running):
            yield from self.begin(call)
        place = next(place for place, (running, _) in enumerate(self._running) if running is call)
        _, item = self._running.pop(place)
        item["status"] = "failed" if result.failed else "completed"
        if item["type"] == "code_interpreter_call":
            item["outputs"] = [{"type": "logs", "logs": result.text}] if result.text else []
            item["outputs"] += [_file(file.name, file.media_type, file.data) for file in result.files]
            yield self._of(item, "code_interpreter_call.completed")
        elif item["type"] == "web_search_call":
            sources = [{"title": source.title, "url": source.url, "text": source.text} for source in result.sources]
            item["action"]["sources"] = [{"type": "url", "url": source.url} for source in result.sources]
            item |= {"results": sources, "output": result.text}
            yield self._of(item, "web_search_call.completed")
        else:
            item["error" if result.failed else "output"] = result.text
            yield self._of(item, "mcp_call.failed" if result.failed else "mcp_call.completed")
        yield self._done(item)

    def fail(self, sentence: str) -> Iterator[Event]:
        """The model tried to call a tool and could not be understood."""
        yield from self.begin(call := Call(MALFORMED, {}))
        yield from self.end(call, Result(sentence, failed=True))

    def _added(self, item: Event) -> Event:
        self.items.append(item)
        return {"type": "response.output_item.added", "output_index": len(self.items) - 1, "item": dict(item)}

    def _done(self, item: Event) -> Event:
        return {"type": "response.output_item.done", "output_index": self._place(item), "item": dict(item)}

    def _of(self, item: Event, kind: str) -> Event:
        return {"type": f"response.{kind}", "item_id": item["id"], "output_index": self._place(item)}

    def _place(self, item: Event) -> int:
        return next(place for place, other in enumerate(self.items) if other is item)


def _file(name: str, media_type: str, data: bytes) -> Event:
    """A file that code made, in the answer itself: an image as OpenAI's API has it; others the same way."""
    address = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    return {"type": "image" if media_type.startswith("image/") else "file", "url": address, "name": name}
