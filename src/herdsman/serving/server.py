"""The server's process: it listens, says where, and stops without cutting answers off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from types import FrameType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from herdsman.errors import MachineError
from herdsman.serving.app import make_app
from herdsman.serving.gate import Gate
from herdsman.serving.models import Models
from herdsman.serving.options import ServerOptions
from herdsman.serving.toolbox import Toolbox

HEADER_SECONDS = 15.0
BACKLOG = 512


def make_server(models: Models, options: ServerOptions, toolbox: Toolbox, keys: Sequence[str] = ()) -> Server:
    """A server that listens already; `run` answers until a signal or `stop`.

    Raises:
        MachineError: the address is taken or not this machine's.
    """
    return Server(make_app(models, options, toolbox, keys), options, _listen(options))


def _listen(options: ServerOptions) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((options.host, options.port))
        listener.listen(BACKLOG)  # Here, so that whoever is told the address can connect at once.
    except OSError as error:
        listener.close()
        raise MachineError(
            f"cannot listen there ({(error.strerror or str(error)).lower()})",
            where=f"{options.host}:{options.port}",
            do="choose another --port or --host",
        ) from error
    return listener


class _Protocol(HttpToolsProtocol):
    """uvicorn's, which waits forever for the headers of a first request: here they must come soon."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._first = self.loop.call_later(HEADER_SECONDS, transport.close)

    def on_headers_complete(self) -> None:
        self._first.cancel()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._first.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """uvicorn's. On a signal it lets nothing new in and gives answers under way some time to end; a second signal ends
    it at once.

    Attributes:
        address: where it is reached.
    """

    def __init__(self, gate: Gate, options: ServerOptions, listener: socket.socket):
        super().__init__(
            uvicorn.Config(
                gate,
                http=_Protocol,
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=max(round(options.stop_seconds), 1),
                backlog=BACKLOG,
            )
        )
        self.gate, self._listener = gate, listener
        host, port = listener.getsockname()[:2]
        self.address = f"http://{f'[{host}]' if ':' in host else host}:{port}"

    def run(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers until it is told to stop."""
        super().run(sockets or [self._listener])

    def stop(self) -> None:
        """As a signal does; may be called from any thread."""
        self.gate.draining = self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.gate.draining = True
        self._captured_signals.clear()  # It has been obeyed: raised again it would end the process as a failure.
