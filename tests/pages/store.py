"""An object store on this machine: the few calls of the S3 protocol that reading takes, faults included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.local_server import running


@dataclass
class Store:
    """What the store holds and what it was asked.

    Attributes:
        objects: bytes by `bucket/key`.
        faults: for an object, what befalls its next reads: a status, or a negative number of bytes after which the
            connection breaks.
        asked: method, path and Range header of every request.
        signed: whether any request carried a signature.
    """

    address: str = ""
    objects: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, list[int]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    signed: bool = False


@contextmanager
def serve_store() -> Iterator[Store]:
    store = Store()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            path, wanted = unquote(parts.path).strip("/"), self.headers.get("Range", "")
            store.asked.append((self.command, path, wanted))
            store.signed |= "Authorization" in self.headers
            if "list-type" in parse_qs(parts.query):
                self.answer(200, self.listing(path, parse_qs(parts.query)))
                return
            faults = store.faults.get(path, []) if self.command == "GET" else []
            fault = faults.pop(0) if faults else 0
            if path not in store.objects:
                self.answer(404, b"<Error><Code>NoSuchKey</Code><Message>gone</Message></Error>")
            elif fault > 0:
                self.answer(fault, b"<Error><Code>SlowDown</Code><Message>slow down</Message></Error>")
            else:
                content = store.objects[path]
                span = re.match(r"bytes=(\d+)-(\d+)", wanted)
                if span is None:
                    self.answer(200, content, broken=fault)
                    return
                start, end = int(span[1]), min(int(span[2]), len(content) - 1)
                shown = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
                self.answer(206, content[start : end + 1], shown, fault)

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None, broken: int = 0) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", '"one"')
            self.send_header("Last-Modified", "Mon, 06 May 2024 07:08:09 GMT")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: -broken or None])
            self.close_connection |= bool(broken)

        def listing(self, bucket: str, query: dict[str, list[str]]) -> bytes:
            prefix = query.get("prefix", [""])[0]
            keys = sorted(key.partition("/")[2] for key in store.objects if key.startswith(f"{bucket}/"))
            keys = [key for key in keys if key.startswith(prefix)]
            rows, folders = [], set()
            for key in keys:
                below = key[len(prefix) :]
                if "delimiter" in query and "/" in below:
                    folders.add(prefix + below.partition("/")[0] + "/")
                else:
                    size = len(store.objects[f"{bucket}/{key}"])
                    rows.append(
                        f"<Contents><Key>{escape(key)}</Key><LastModified>2024-05-06T07:08:09.000Z</LastModified>"
                        f"<ETag>one</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>"
                    )
            rows += [f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>" for name in sorted(folders)]
            return (
                '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(rows)}</KeyCount>"
                f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{''.join(rows)}</ListBucketResult>"
            ).encode()

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        store.address = address
        yield store
