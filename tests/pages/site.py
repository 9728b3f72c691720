"""A web site on this machine: a folder of real documentation, and what real servers do besides serving files."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.local_server import running

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Site:
    """What the server holds and what it was asked.

    Attributes:
        folder: files that are served below `/`.
        replies: status, headers and body by path, in place of a file; of a list, one after the other, then the last.
        slow: seconds that an answer takes, by path.
        drip: seconds between two tenths of a body, by path.
        asked: moment, path and User-Agent of every request.
    """

    folder: Path
    address: str = ""
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    slow: dict[str, float] = field(default_factory=dict)
    drip: dict[str, float] = field(default_factory=dict)
    asked: list[tuple[float, str, str]] = field(default_factory=list)

    def reply(self, path: str, body: bytes | str = b"", status: int = 200, **headers: str) -> None:
        body = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        kind = {} if "Content-Type" in named else {"Content-Type": "text/html"}
        self.replies.setdefault(path, []).append((status, kind | named, body))

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]


@contextmanager
def serve_site(folder: Path) -> Iterator[Site]:
    site = Site(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            site.asked.append((time.monotonic(), self.path, self.headers.get("User-Agent", "")))
            time.sleep(site.slow.get(self.path, 0))
            status, headers, body = self.found()
            if status == -1:  # the connection breaks in the middle of the body
                self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999\r\n\r\n" + body)
                self.close_connection = True
                return
            if (
                "gzip" in self.headers.get("Accept-Encoding", "")
                and len(body) > 1000
                and "Content-Encoding" not in headers
            ):
                headers, body = headers | {"Content-Encoding": "gzip"}, gzip.compress(body, 1)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Transfer-Encoding" in headers:
                body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
            else:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if pause := site.drip.get(self.path):
                self.dripped(body, pause)
            else:
                self.wfile.write(body)

        def dripped(self, body: bytes, pause: float) -> None:
            size = -(-len(body) // 10)
            with suppress(ConnectionError):  # whoever asked need not wait for the end
                for start in range(0, len(body), size):
                    self.wfile.write(body[start : start + size])
                    time.sleep(pause)

        def found(self) -> Reply:
            if replies := site.replies.get(self.path):
                return replies.pop(0) if len(replies) > 1 else replies[0]
            path = site.folder / unquote(urlsplit(self.path).path).lstrip("/")
            if not path.is_file():
                return 404, {"Content-Type": "text/html"}, b"<p>not found"
            kind = "text/html" if path.suffix == ".html" else "application/octet-stream"
            return 200, {"Content-Type": kind}, path.read_bytes()

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        site.address = address
        yield site
