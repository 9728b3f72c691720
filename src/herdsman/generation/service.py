"""An engine for servers: one thread of its own drives it, and many callers submit without ever waiting for a step."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict
from threading import Condition, Thread
from time import monotonic

from herdsman.errors import HerdsmanError
from herdsman.generation.engine import Piece
from herdsman.generation.local import LocalEngine
from herdsman.generation.request import Request
from herdsman.generation.sampling import Sampling

Deliver = Callable[[Piece | Exception], object]


class ServiceClosed(HerdsmanError):
    """The service takes no requests any more."""


class Ticket:
    """A request that was submitted."""

    def __init__(self, service: Service, request: Request):
        self._service, self._request = service, request

    def cancel(self) -> None:
        """Ends it at the next step and frees what it holds; nothing is delivered any more. Never waits."""
        self._service._tell(cancelled=self._request)


class Service:
    """Drives an engine in a thread of its own.

    Args:
        engine: nobody else need keep away from it; its other callers take turns with this thread.

    Attributes:
        draining: whether new requests are refused, because the service is being closed.
    """

    def __init__(self, engine: LocalEngine):
        self.engine, self.draining = engine, False
        self._news = Condition()
        self._added: deque[tuple[Request, Deliver]] = deque()
        self._cancelled: deque[Request] = deque()
        self._live: dict[Request, Deliver] = {}
        self._over = False
        self._thread = Thread(target=self._run, name="generation", daemon=True)
        self._thread.start()

    def submit(self, prompt: Sequence[int], sampling: Sampling, row: int, deliver: Deliver) -> Ticket:
        """Begins a completion.

        Args:
            deliver: called from the service's thread with each piece, the last of which has `finish`, or with the
                exception that ended it. It must not wait.

        Raises:
            InputError: the prompt or the sampling is not possible.
            ServiceClosed: the service is draining.
        """
        request = self.engine.request(prompt, sampling, row, lambda piece: self._deliver(request, piece))
        self.engine.scheduler.check(request)
        with self._news:
            if self.draining:
                raise ServiceClosed("the server is shutting down", do="try again later")
            self._added.append((request, deliver))
            self._news.notify_all()
        return Ticket(self, request)

    def stats(self) -> dict[str, int]:
        """Figures of this moment: running, waiting, cache_bytes_used, cache_bytes, and the totals of
        `scheduler.Counts`."""
        scheduler = self.engine.scheduler
        return {
            "running": len(scheduler.running),
            "waiting": len(scheduler.waiting) + len(self._added),
            "cache_bytes_used": scheduler.cache.bytes_used,
            "cache_bytes": scheduler.cache.bytes,
            **asdict(scheduler.counts),
        }

    def close(self, drain_seconds: float = 0.0) -> None:
        """Refuses new requests, lets those that run come to their end for so long, ends the rest with `ServiceClosed`,
        and the thread. May be called again."""
        end = monotonic() + drain_seconds
        with self._news:
            self.draining = True
            while (self._added or self._live) and (left := end - monotonic()) > 0:
                self._news.wait(left)
            self._over = True
            self._news.notify_all()
        self._thread.join()

    def _tell(self, cancelled: Request) -> None:
        with self._news:
            self._cancelled.append(cancelled)
            self._news.notify_all()

    def _deliver(self, request: Request, piece: Piece | Exception) -> None:
        deliver = self._live.get(request)
        if deliver is None:
            return
        if isinstance(piece, Exception) or piece.finish:
            with self._news:
                del self._live[request]
                self._news.notify_all()
        try:
            deliver(piece)
        except Exception:  # Who cannot be reached, such as a client's loop that has ended, must not stop the others.
            self._tell(cancelled=request)

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._added or self._cancelled or self._live or self._over)
                added, self._added = list(self._added), deque()
                gone, self._cancelled = list(self._cancelled), deque()
                self._live |= dict(added)
                for request in gone:
                    self._live.pop(request, None)
                self._news.notify_all()
            self.engine.add([request for request, _ in added])
            self.engine.cancel(gone)
            if self._over:
                return self._fail(ServiceClosed("the server is shutting down", do="try again later"))
            try:
                self.engine.step()
            except Exception as error:  # Out of memory, say: those who wait must hear of it, and the thread goes on.
                self._fail(error)

    def _fail(self, error: Exception) -> None:
        """Ends all requests with an error."""
        failed = list(self._live)
        self.engine.cancel(failed)
        for request in failed:
            self._deliver(request, error)
