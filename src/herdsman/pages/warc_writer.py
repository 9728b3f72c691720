"""Writes what a crawler was answered as WARC/1.1 (ISO 28500:2017), each record a gzip member of its own."""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
from pathlib import Path
from uuid import uuid4

Headers = list[tuple[str, str]]
FIELDS = ("Content-Type", "application/warc-fields")


class WarcFile:
    """A .warc.gz that grows page by page.

    Args:
        end: bytes of the file that are sound; what follows them was being written when the writer was killed.
        info: fields of the warcinfo record that opens the file.
    """

    def __init__(self, path: Path, end: int, date: str, info: Headers):
        self.file = open(path, "r+b" if path.exists() else "w+b")  # noqa: SIM115
        self.file.truncate(end)
        self.file.seek(end)
        if end == 0:
            self._append(_record("warcinfo", date, [FIELDS], _lines(info)))

    def write(self, url: str, date: str, headers: Headers, body: bytes, metadata: Headers) -> tuple[int, int]:
        """Appends an answer and what is known of it, and waits for the disk.

        Returns:
            Where the response's record begins, and where the file ends now.
        """
        start, name, target = self.file.tell(), f"<urn:uuid:{uuid4()}>", ("WARC-Target-URI", url)
        message = b"HTTP/1.1 200 OK\r\n" + _lines([*headers, ("Content-Length", str(len(body)))]) + b"\r\n" + body
        response = [target, ("Content-Type", "application/http; msgtype=response")]
        about = [target, ("WARC-Concurrent-To", name), FIELDS]
        records = _record("response", date, response, message, name) + _record(
            "metadata", date, about, _lines(metadata)
        )
        return start, self._append(records)

    def close(self) -> None:
        self.file.close()

    def _append(self, records: bytes) -> int:
        self.file.write(records)
        self.file.flush()
        os.fsync(self.file.fileno())
        return self.file.tell()


def _record(kind: str, date: str, headers: Headers, block: bytes, name: str = "") -> bytes:
    digest = base64.b32encode(hashlib.sha1(block, usedforsecurity=False).digest()).decode()
    first = [("WARC-Type", kind), ("WARC-Record-ID", name or f"<urn:uuid:{uuid4()}>"), ("WARC-Date", date)]
    last = [("WARC-Block-Digest", f"sha1:{digest}"), ("Content-Length", str(len(block)))]
    head = b"WARC/1.1\r\n" + _lines([*first, *headers, *last]) + b"\r\n"
    return gzip.compress(head + block + b"\r\n\r\n", 6, mtime=0)


def _lines(fields: Headers) -> bytes:
    """Fields as lines, without the empty ones; line breaks inside a value become spaces."""
    lines = [f"{name}: {' '.join(value.split())}\r\n" for name, value in fields if value]
    return "".join(lines).encode("utf-8", "surrogateescape")
