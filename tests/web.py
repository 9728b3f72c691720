"""A web server on this machine that answers what a test tells it to, faults included."""

from __future__ import annotations

import re
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.local_server import running


@dataclass
class Web:
    """What the server holds and what it was asked.

    Attributes:
        files: content type and bytes by path.
        faults: for a path, what befalls its next requests: a status such as 500, or a negative number of bytes after
            which the connection breaks (-100: after 100 bytes).
        resumes: whether Range requests are honoured.
        slow: seconds that the next answer takes.
        shift: bytes by which the ranges that come back are wrong; only the next one.
        retry_after: header of the next answers that are faults.
        asked: path and Range header ("" if none) of every request.
    """

    address: str = ""
    files: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    faults: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    resumes: bool = True
    slow: float = 0.0
    shift: int = 0
    retry_after: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def times(self, path: str) -> int:
        """How often the path was asked for."""
        return sum(asked == path for asked, _ in self.asked)


@contextmanager
def serve() -> Iterator[Web]:
    web = Web()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            pause, web.slow = web.slow, 0.0
            time.sleep(pause)
            wanted = self.headers.get("Range", "")
            web.asked.append((self.path, wanted))
            web.headers.append(dict(self.headers))
            fault = web.faults[self.path].pop(0) if web.faults[self.path] else 0
            if fault > 0 or self.path not in web.files:
                self.send_response(fault or 404)
                if web.retry_after:
                    self.send_header("Retry-After", web.retry_after)
                self.end_headers()
                return
            kind, content = web.files[self.path]
            start = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and web.resumes else None
            if start is not None and start >= len(content):
                self.send_error(416)
                return
            self.send_response(200 if start is None else 206)
            if start is not None:
                start, web.shift = start + web.shift, 0
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                content = content[start:]
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: -fault or None])

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        web.address = address
        yield web
