"""Reading WARC files, gzipped or plain, whole or broken.

`fastwarc` reads the records; what it does not do is done here: a record that is cut off or damaged is counted, and
reading goes on at the next place that looks like the start of a record (a gzip member, as every record of a .warc.gz
should be one, or the line `WARC/1.x`). In a .warc.gz that is one single gzip stream, what follows the damage is lost.
"""

from __future__ import annotations

import io
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO

from fastwarc.stream_io import BrotliReader, ZstdReader
from fastwarc.warc import ArchiveIterator, WarcRecord, WarcRecordType

from herdsman.pages.page import BYTE_ORDER_MARKS, Page, iso_seconds, refusal

BROKEN = "broken record"
HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
GZIP_MAGIC = b"\x1f\x8b\x08"
SCAN_BYTES = 1 << 20
_RECORD_START = re.compile(rb"\x1f\x8b\x08|WARC/[01]\.")
_HTML_START = re.compile(rb"\s*(<!--.*?-->\s*)*<(!doctype html|html|head|body|title)\b", re.IGNORECASE | re.DOTALL)


class _Damage(Exception):
    """A record ends before its stated length, or the file in the middle of a record."""


def read_warc(file: BinaryIO, skipped: Counter[str], max_page_bytes: int) -> Iterator[Page]:
    """The HTML pages of a seekable WARC file, in its order.

    Pages are `response` records with HTTP status 200 and `resource` records, if they hold HTML. Revisits and records
    that would be pages but for their status, type or content are counted in `skipped` by reason.
    """
    if file.seek(0, io.SEEK_END) == 0:
        skipped["empty file"] += 1
        return
    start: int | None = 0
    sound = True  # one damaged stretch counts once, however many false starts it holds
    while start is not None:
        position, length = start, None
        try:
            file.seek(start)
            for record in ArchiveIterator(file, parse_http=False):
                position, length = record.stream_pos, record.content_length
                page = _page_of(record, skipped, max_page_bytes)
                sound = True
                if page is not None:
                    yield page
            _check_end(file, position, length)
            return
        except (_Damage, OSError, ValueError, zlib.error):
            skipped[BROKEN] += sound
            sound = False
            start = _next_start(file, position + 1)


def page_at(file: BinaryIO, position: int, skipped: Counter[str], max_page_bytes: int) -> Page | None:
    """The page of the record that begins at this place of a sound WARC file, or None if it is none."""
    file.seek(position)
    return next((_page_of(record, skipped, max_page_bytes) for record in ArchiveIterator(file, parse_http=False)), None)


def _page_of(record: WarcRecord, skipped: Counter[str], max_page_bytes: int) -> Page | None:
    """The record's page, or None if it has none. Reads the record to its end.

    Raises:
        _Damage, OSError, ValueError: the record is damaged.
    """
    if not (record.headers.get("Content-Length") or "").isdigit():  # every record has it; this header is cut off
        raise _Damage
    reason, content_type = _unfit(record, max_page_bytes)
    if reason is not None:
        if record.consume() < record.content_length:
            raise _Damage
        if reason:
            skipped[reason] += 1
        return None
    body = record.reader.read(max_page_bytes + 1)
    if len(body) < record.content_length:
        raise _Damage
    if record.http_headers:
        if "chunked" in (record.http_headers.get("Transfer-Encoding") or "").lower():
            body = _dechunked(body)
        body = decoded(body, record.http_headers.get("Content-Encoding"), max_page_bytes)
    reason = refusal(body, max_page_bytes) or ("" if is_html(content_type, body) else "not HTML")
    if reason:
        skipped[reason] += 1
        return None
    url = (record.headers.get("WARC-Target-URI") or "").strip("<> ")
    return Page(url, _date(record.headers.get("WARC-Date")), body, content_type)


def _unfit(record: WarcRecord, max_page_bytes: int) -> tuple[str | None, str]:
    """What the headers say: why the record gives no page ("" if none was expected of it, None if it may), and its type.

    Parses the HTTP headers, after which the record's length is that of the body.
    """
    if record.record_type == WarcRecordType.revisit:
        return "revisit record", ""
    if not record.record_type & (WarcRecordType.response | WarcRecordType.resource):
        return "", ""
    if record.headers.get("WARC-Segment-Number"):
        return "segmented record", ""
    if not (record.headers.get("WARC-Target-URI") or "").strip("<> "):
        return "no address", ""
    content_type = record.headers.get("Content-Type") or ""
    if record.record_type == WarcRecordType.response:
        if not record.is_http:
            return "not HTML", ""
        record.parse_http(auto_decode="none")
        if record.http_headers.status_code != 200:
            return "HTTP status not 200", ""
        content_type = record.http_headers.get("Content-Type") or ""
    declared = content_type or record.headers.get("WARC-Identified-Payload-Type") or ""
    if declared and not is_html(declared, b""):
        return "not HTML", ""
    if record.content_length > max_page_bytes:
        return "larger than max_page_bytes", ""
    return None, declared


def is_html(content_type: str, body: bytes) -> bool:
    """Whether this is HTML by the type given for it, or, where none is given, by its first tag."""
    media_type = content_type.partition(";")[0].strip().lower()
    if media_type:
        return media_type in HTML_TYPES
    for mark in BYTE_ORDER_MARKS:
        body = body.removeprefix(mark)
    return _HTML_START.match(body, 0, 4096) is not None


def decoded(body: bytes, content_encoding: str | None, max_page_bytes: int) -> bytes:
    """The body without its content encodings, as far as it is one byte longer than the limit.

    Crawlers often store the decoded body and leave the headers, so a body that does not decode stays as it is.
    """
    encodings = (content_encoding or "").lower().split(",")
    for encoding in reversed([encoding.strip() for encoding in encodings]):
        try:
            match encoding:
                case "gzip" | "x-gzip":
                    body = zlib.decompressobj(31).decompress(body, max_page_bytes + 1)
                case "deflate":
                    body = zlib.decompressobj(15 if body[:1] == b"\x78" else -15).decompress(body, max_page_bytes + 1)
                case "br":
                    body = BrotliReader(io.BytesIO(body)).read(max_page_bytes + 1)
                case "zstd":
                    body = ZstdReader(io.BytesIO(body)).read(max_page_bytes + 1)
        except (zlib.error, OSError):
            break
    return body


def _dechunked(body: bytes) -> bytes:
    """Joins the chunks of RFC 9112, section 7.1; a body that is not chunked comes back as it is."""
    chunks, at = list[bytes](), 0
    while at < len(body):
        line_end = body.find(b"\r\n", at)
        size = body[at:line_end].partition(b";")[0].strip()
        if line_end < 0 or not re.fullmatch(rb"[0-9a-fA-F]{1,8}", size):
            return b"".join(chunks) if chunks else body
        if int(size, 16) == 0:
            break
        at = line_end + 2 + int(size, 16)
        chunks.append(body[line_end + 2 : at])
        at += 2
    return b"".join(chunks)


def _date(text: str | None) -> str:
    try:
        return iso_seconds(datetime.fromisoformat(text or ""))
    except (ValueError, OverflowError):
        return ""


def _check_end(file: BinaryIO, position: int, length: int | None) -> None:
    """Raises _Damage if the file goes on after its last record, which began at `position` with `length` bytes.

    The iterator ends without a word where a file is cut off inside gzip data or inside the header of a record.
    """
    file.seek(0)
    if file.read(3) == GZIP_MAGIC:
        _check_gzip_end(file, position)
        return
    file.seek(position)
    if length is not None:
        header = file.read(SCAN_BYTES).find(b"\r\n\r\n") + 4
        file.seek(position + header + length)
    if file.read(SCAN_BYTES).strip():
        raise _Damage


def _check_gzip_end(file: BinaryIO, position: int) -> None:
    file.seek(position)
    magic = file.read(3)
    file.seek(position if magic == GZIP_MAGIC else 0)
    stream, data = zlib.decompressobj(31), b""
    while data := data or file.read(SCAN_BYTES):
        while data and not stream.eof:
            stream.decompress(data, SCAN_BYTES)
            data = stream.unconsumed_tail
        if stream.eof:
            data = stream.unused_data + file.read(SCAN_BYTES)
            if not data.startswith(GZIP_MAGIC):
                return
            stream = zlib.decompressobj(31)
    raise _Damage


def _next_start(file: BinaryIO, position: int) -> int | None:
    """The next place at or after `position` that looks like the start of a record."""
    overlap = 8
    while True:
        file.seek(position)
        block = file.read(SCAN_BYTES)
        if match := _RECORD_START.search(block):
            return position + match.start()
        if len(block) < SCAN_BYTES:
            return None
        position += len(block) - overlap
