"""A turn with tools, which runs in a thread of its own because tools take their time, as events for the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor
from queue import SimpleQueue

from herdsman.generation.engine import Piece
from herdsman.generation.sampling import Sampling
from herdsman.generation.service import Service
from herdsman.serving.drawing import courier_of
from herdsman.tools.agent import Event


class Left(Exception):
    """Nobody waits for the answer any more."""


class Line:
    """A service's engine for one thread, which another may cut off."""

    def __init__(self, service: Service):
        self._service = service
        self._arrived: SimpleQueue[Piece | Exception] = SimpleQueue()
        self._cut = False

    def stream(self, prompt: Sequence[int], sampling: Sampling, row: int = 0) -> Generator[Piece, None, None]:
        """See `Engine.stream`.

        Raises:
            Left: it has been cut off.
        """
        arrived: SimpleQueue[Piece | Exception] = SimpleQueue()
        self._arrived = arrived
        ticket = self._service.submit(prompt, sampling, row, arrived.put)
        try:
            while not self._cut:
                piece = arrived.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish:
                    return
            raise Left
        finally:
            ticket.cancel()

    def cut(self) -> None:
        """Ends what is being streamed, and whatever would be streamed later."""
        self._cut = True
        self._arrived.put(Left())


async def in_thread(
    converse: Callable[[Line], Iterator[Event]], service: Service, threads: Executor, done: Callable[[], object]
) -> AsyncGenerator[Event, None]:
    """The events of a turn. Closing the iterator ends the turn, after the tool that may be running.

    Args:
        converse: begins the turn with this engine.
        done: called when the thread has ended, which may be after the iterator was closed.
    """
    courier = courier_of(asyncio.get_running_loop())
    arrived: asyncio.Queue[Event | BaseException | None] = asyncio.Queue()
    line = Line(service)

    def work() -> None:
        try:
            for event in converse(line):
                courier.bring(arrived, event)
            courier.bring(arrived, None)
        except BaseException as error:
            courier.bring(arrived, error)
        finally:
            done()

    threads.submit(work)
    try:
        while (event := await arrived.get()) is not None:
            if isinstance(event, BaseException):
                raise event
            yield event
    finally:
        line.cut()
