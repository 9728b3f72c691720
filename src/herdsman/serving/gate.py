"""What stands before the application: who may come in, how often, and with how much.

It speaks ASGI itself, for a framework's middleware would copy every event of every stream.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from herdsman.serving.api_error import ApiError
from herdsman.serving.keys import is_loopback
from herdsman.serving.options import ServerOptions

OPEN_PATHS = ("/", "/health")
"""Reached without a key: the page, which asks for one, and the sign of life."""

MOST_CALLERS = 4096


class Rate:
    """At most so many requests a minute from each caller: a bucket of so many tokens that refills evenly."""

    def __init__(self, per_minute: int):
        self.per_second, self.room = per_minute / 60, float(per_minute)
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, caller: str, now: float) -> float:
        """Takes one request's token; 0, or the seconds until there is one again."""
        left, then = self._left.pop(caller, (self.room, now))
        left = min(left + (now - then) * self.per_second, self.room)
        allowed = left >= 1
        self._left[caller] = (left - allowed, now)
        if len(self._left) > MOST_CALLERS:  # The one unseen for the longest time: its bucket is likely full again.
            del self._left[next(iter(self._left))]
        return 0.0 if allowed else (1 - left) / self.per_second


class Gate:
    """Refuses what must not reach the application, and hands it the bodies of requests whole.

    Attributes:
        under_way: requests that have come in and are not answered yet.
        draining: nothing new is let in, because the server is about to stop.
    """

    def __init__(self, app: ASGIApp, options: ServerOptions, keys: Sequence[str] = ()):
        self.app, self.options = app, options
        self._keys = [hashlib.sha256(key.encode()).digest() for key in keys]
        self._rate = Rate(options.requests_per_minute) if options.requests_per_minute else None
        self.under_way = 0
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        cors = self._cors(headers)
        send = _with_headers(send, cors)
        try:
            self._check_origin(headers)
            if scope["method"] == "OPTIONS" and cors:
                await send({"type": "http.response.start", "status": 204, "headers": []})
                await send({"type": "http.response.body", "body": b""})
                return
            scope["caller"] = self._caller(scope, headers)
            if scope["method"] != "POST":
                await self.app(scope, receive, send)
                return
            self._admit(scope, headers)
            self.under_way += 1
            try:
                await self.app(scope, await self._whole_body(receive), send)
            finally:
                self.under_way -= 1
        except ApiError as error:
            # The body may be unread: the connection ends, for what follows on it could be taken for a request.
            error.headers["Connection"] = "close"
            await error.response()(scope, receive, send)

    def _check_origin(self, headers: Headers) -> None:
        """Keeps web pages of others out, also those whose name was made to point here (DNS rebinding).

        Raises:
            ApiError: the Host header is not ours while only this machine may come in, or another site's page asks.
        """
        host = headers.get("host", "")
        name = _name(host)
        if is_loopback(self.options.host) and not is_loopback(name) and name not in self.options.allow_hosts:
            raise ApiError(
                403,
                f"Host: {name[:80]!r} is not a name of this server; allow it with --allow-host",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        if origin and origin not in self.options.allow_origins and urlsplit(origin).netloc != host:
            raise ApiError(
                403,
                f"Origin: pages of {origin[:80]!r} may not use this server; allow them with --allow-origin",
                code="origin_not_allowed",
            )

    def _cors(self, headers: Headers) -> list[tuple[bytes, bytes]]:
        origin = headers.get("origin")
        if not origin or origin not in self.options.allow_origins:
            return []
        return [
            (b"access-control-allow-origin", origin.encode("latin-1")),
            (b"access-control-allow-headers", b"authorization, content-type"),
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"vary", b"Origin"),
        ]

    def _caller(self, scope: Scope, headers: Headers) -> str:
        """Who asks: a digest of the key, or the address where no keys are used.

        Raises:
            ApiError: a key is needed and is missing or wrong.
        """
        if not self._keys or scope["path"] in OPEN_PATHS:
            return str(scope["client"][0]) if scope.get("client") else "local"
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        # Every key is compared, in constant time: how long it takes says nothing about any of them.
        known = sum(hmac.compare_digest(digest, expected) for expected in self._keys)
        if scheme.lower() != "bearer" or not known:
            raise ApiError(
                401,
                "this server needs an API key; send it as Authorization: Bearer KEY",
                code="invalid_api_key",
            )
        return digest.hex()

    def _admit(self, scope: Scope, headers: Headers) -> None:
        """
        Raises:
            ApiError: the server is stopping, busy, was asked too often, or the body is of the wrong kind or size.
        """
        if self.draining:
            raise ApiError(503, "the server is stopping", code="stopping", retry_seconds=10)
        if self._rate and (wait := self._rate.take(scope["caller"], time.monotonic())):
            limit = self.options.requests_per_minute
            raise ApiError(429, f"more than {limit} requests a minute", code="rate_limit_exceeded", retry_seconds=wait)
        if self.under_way >= self.options.most_requests:
            raise ApiError(
                429,
                f"{self.under_way} requests are under way, which is all this server takes on at a time",
                code="too_many_requests",
                retry_seconds=1,
            )
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise ApiError(415, "Content-Type: send application/json", code="unsupported_media_type")
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise ApiError(415, "Content-Encoding: send the body as it is", code="unsupported_media_type")
        length = headers.get("content-length", "")
        if length.isdecimal() and len(length) < 20 and int(length) > self.options.body_bytes:
            raise self._too_large()

    async def _whole_body(self, receive: Receive) -> Receive:
        """Reads the body within its limits of size and time, and gives a `receive` that hands it over at once.

        Raises:
            ApiError: it is too large, or comes too slowly.
        """
        chunks: list[bytes] = []
        size, more = 0, True
        try:
            async with asyncio.timeout(self.options.body_seconds):
                while more:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise ApiError(400, "the client left before its request was complete")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size > self.options.body_bytes:
                        raise self._too_large()
                    chunks.append(chunk)
                    more = message.get("more_body", False)
        except TimeoutError as error:
            raise ApiError(
                408, f"the body did not come within {self.options.body_seconds:g} seconds", code="timeout"
            ) from error
        body: list[Message] = [{"type": "http.request", "body": b"".join(chunks), "more_body": False}]

        async def handed_over() -> Message:
            return body.pop() if body else await receive()

        return handed_over

    def _too_large(self) -> ApiError:
        return ApiError(413, f"the body is longer than {self.options.body_bytes:,} bytes", code="request_too_large")


def _name(host: str) -> str:
    """Of a Host header, without the port and the brackets of an IPv6 address."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _with_headers(send: Send, more: list[tuple[bytes, bytes]]) -> Send:
    if not more:
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *more]
        await send(message)

    return sending
