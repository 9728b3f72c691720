"""From the engine's thread to the event loop: the pieces of one or more completions as they come."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from herdsman.generation.engine import Piece
from herdsman.generation.sampling import Sampling
from herdsman.generation.service import Service, Ticket
from herdsman.serving.api_error import ApiError, as_api_error

logger = logging.getLogger(__name__)

Answer = TypeVar("Answer")

SSE_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
DONE = b"data: [DONE]\n\n"


class Courier:
    """Brings what other threads have to the queues of an event loop, and wakes it once for all that came meanwhile:
    an engine's step has a piece for every stream."""

    def __init__(self, loop: asyncio.AbstractEventLoop):
        self._loop = loop
        self._waiting: deque[tuple[asyncio.Queue[Any], Any]] = deque()
        self._called = False

    def bring(self, queue: asyncio.Queue[Any], item: Any) -> None:
        """From any thread; nothing happens if the loop has been closed, for nobody listens any more."""
        self._waiting.append((queue, item))
        if not self._called:
            self._called = True
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._hand_over)

    def _hand_over(self) -> None:
        self._called = False  # Before the queue is emptied: what comes later calls again.
        while self._waiting:
            queue, item = self._waiting.popleft()
            queue.put_nowait(item)


_couriers: WeakKeyDictionary[asyncio.AbstractEventLoop, Courier] = WeakKeyDictionary()


def courier_of(loop: asyncio.AbstractEventLoop) -> Courier:
    return _couriers.setdefault(loop, Courier(loop))


async def draw(
    service: Service, prompts: Sequence[Sequence[int]], samplings: Sequence[Sampling], rows: Sequence[int]
) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of all completions, each with its place in `prompts`, until every one has ended.

    Closing the iterator cancels what is still being written.

    Raises:
        InputError: a prompt does not fit. All are submitted before the first piece is awaited.
    """
    courier = courier_of(asyncio.get_running_loop())
    arrived: asyncio.Queue[tuple[int, Piece | Exception]] = asyncio.Queue()

    def deliver(place: int, piece: Piece | Exception) -> None:
        courier.bring(arrived, (place, piece))

    tickets: list[Ticket] = []

    def submit() -> None:
        for place, (prompt, sampling, row) in enumerate(zip(prompts, samplings, rows, strict=True)):
            tickets.append(service.submit(prompt, sampling, row, partial(deliver, place)))

    try:
        if any(sampling.constraint for sampling in samplings):  # A grammar takes its time to be read.
            await asyncio.to_thread(submit)
        else:
            submit()
        left = len(tickets)
        while left:
            place, piece = await arrived.get()
            if isinstance(piece, Exception):
                raise piece
            left -= piece.finish is not None
            yield place, piece
    finally:
        for ticket in tickets:
            ticket.cancel()


async def unless_gone(request: Request, answer: Awaitable[Answer]) -> Answer:
    """The answer; if the client leaves before it is there, it is given up.

    Raises:
        ApiError: the client has left.
    """
    working = asyncio.ensure_future(answer)
    leaving = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ApiError(400, "the client left before its answer was complete")
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """A server-sent event."""
    prefix = b"event: %b\n" % name.encode() if name else b""
    return b"%bdata: %b\n\n" % (prefix, to_json(data))


async def event_stream(request: Request, events: AsyncGenerator[bytes, None], last: bytes = DONE) -> Response:
    """Streams events to the client; closes them when it leaves.

    The first event is awaited here, so that an error before it is an error of HTTP and not an event.

    Raises:
        Exception: whatever came in place of the first event.
    """
    try:
        first = await unless_gone(request, anext(events))
    except BaseException:
        await events.aclose()
        raise

    async def body() -> AsyncIterator[bytes]:
        async with aclosing(events):
            try:
                yield first
                async for following in events:
                    yield following
            except Exception as error:
                log_failure(error)
                yield event(as_api_error(error).body())
            if last:
                yield last

    return StreamingResponse(body(), media_type="text/event-stream", headers=SSE_HEADERS)


def log_failure(error: Exception) -> None:
    """Notes in the server's log what is not the client's doing. What was said never appears there."""
    if as_api_error(error).status >= 500:
        logger.error("a request failed", exc_info=error)
