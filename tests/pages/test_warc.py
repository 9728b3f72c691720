"""WARC files, whole and broken, against warcio's reading of them."""

from __future__ import annotations

import gzip
import io
import zlib
from collections import Counter

import pytest
from warcio.archiveiterator import ArchiveIterator
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from herdsman.pages.page import Page
from herdsman.pages.warc import BROKEN, read_warc

LIMIT = 1 << 20
HTML = [("Content-Type", "text/html; charset=utf-8")]
DATE = {"WARC-Date": "2024-05-06T07:08:09Z"}


def html(number: int, size: int = 2000) -> bytes:
    """A page that does not compress to nothing, so that a file has a middle to break."""
    noise = b" ".join(b"%x" % (number * 7919 + place * 104729 & 0xFFFFFF) for place in range(size // 7))
    return b"<html><body><p>page %d</p>%s</body></html>" % (number, noise)


def record(
    writer: WARCWriter,
    url: str,
    body: bytes,
    headers: list[tuple[str, str]] = HTML,
    status: str = "200 OK",
    kind: str = "response",
    **warc: str,
) -> None:
    http = StatusAndHeaders(status, headers, protocol="HTTP/1.1") if kind != "resource" else None
    more = {"warc_content_type": warc.pop("warc_content_type")} if "warc_content_type" in warc else {}
    extra = DATE | {name.replace("_", "-"): value for name, value in warc.items()}
    writer.write_record(
        writer.create_warc_record(
            url, kind, payload=io.BytesIO(body), http_headers=http, warc_headers_dict=extra, **more
        )
    )


def sound(compressed: bool, count: int = 5, size: int = 2000) -> bytes:
    """`count` pages, with a warcinfo and a request among them as crawlers write them."""
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=compressed)
    writer.write_record(writer.create_warcinfo_record("a.warc", {"software": "test"}))
    for number in range(count):
        record(writer, f"http://example.org/{number}", b"", kind="request")
        record(writer, f"http://example.org/{number}", html(number, size))
    return file.getvalue()


def read(data: bytes, limit: int = LIMIT) -> tuple[list[Page], Counter[str]]:
    skipped: Counter[str] = Counter()
    return list(read_warc(io.BytesIO(data), skipped, limit)), skipped


def by_warcio(data: bytes) -> list[tuple[str, bytes]]:
    return [
        (found.rec_headers.get_header("WARC-Target-URI"), found.content_stream().read())
        for found in ArchiveIterator(io.BytesIO(data))
        if found.rec_type == "response"
    ]


def one(body: bytes, headers: list[tuple[str, str]] = HTML, limit: int = LIMIT, **more: str):
    file = io.BytesIO()
    record(WARCWriter(file, gzip=True), "http://example.org/", body, headers, **more)
    return read(file.getvalue(), limit), file.getvalue()


@pytest.mark.parametrize("compressed", [True, False], ids=["gzip per record", "plain"])
def test_pages_equal_warcio(compressed: bool) -> None:
    data = sound(compressed)
    pages, skipped = read(data)
    assert [(page.url, page.html) for page in pages] == by_warcio(data)
    assert len(pages) == 5
    assert pages[0] == Page("http://example.org/0", "2024-05-06T07:08:09Z", html(0), "text/html; charset=utf-8")
    assert not skipped


def test_a_file_that_is_one_gzip_stream() -> None:
    data = gzip.compress(sound(False))
    pages, skipped = read(data)
    assert [page.html for page in pages] == [html(number) for number in range(5)]
    assert not skipped
    cut, skipped = read(data[: len(data) // 2])
    assert [page.html for page in cut] == [html(number) for number in range(len(cut))]
    assert 0 < len(cut) < 5
    assert skipped == {BROKEN: 1}


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("lost", [1, 9, 100, 1500])
def test_a_file_that_is_cut_off(compressed: bool, lost: int) -> None:
    """Pages before the cut are there, and the record with the cut is counted once.

    A page is whole already where only what follows it is cut: four bytes that close a record, eight of gzip's checksum.
    """
    pages, skipped = read(sound(compressed)[:-lost])
    only_the_end = lost <= (9 if compressed else 4)
    assert [page.html for page in pages] == [html(number) for number in range(5 if only_the_end else 4)]
    assert skipped == ({} if only_the_end and not compressed else {BROKEN: 1})


@pytest.mark.parametrize("compressed", [True, False])
def test_every_cut_keeps_what_is_whole(compressed: bool) -> None:
    data = sound(compressed, count=2, size=300)
    everything = [html(number, 300) for number in range(2)]
    counts = []
    for length in range(0, len(data), 7):
        pages, skipped = read(data[:length])
        assert [page.html for page in pages] == everything[: len(pages)]
        assert skipped.total() <= 1
        counts.append(len(pages))
    assert counts == sorted(counts)
    assert counts[-1] >= 1


@pytest.mark.parametrize("compressed", [True, False])
def test_a_broken_record_in_the_middle(compressed: bool) -> None:
    data = bytearray(sound(compressed))
    middle = data.index(b"\x1f\x8b" if compressed else b"WARC-Type: response", len(data) // 2)
    place = middle + 400 if compressed else data.index(b"Content-Length", middle)
    data[place : place + 16] = b"X" * 16
    pages, skipped = read(bytes(data))
    assert skipped == {BROKEN: 1}
    assert len(pages) == 4
    assert {page.html for page in pages} < {html(number) for number in range(5)}


def test_bytes_between_records() -> None:
    first, second = sound(True, 2), sound(True, 3)
    pages, skipped = read(first + b"\0" * 5000 + second)
    assert [page.html for page in pages] == [html(number) for number in (0, 1, 0, 1, 2)]
    assert skipped == {BROKEN: 1}


@pytest.mark.parametrize(
    "data",
    [b"<html>not a WARC</html>", b"\x1f\x8b\x08 no gzip", b"\0" * 100, gzip.compress(b"x")],
    # Names that stay the same from one second to the next, as those made of compressed bytes do not.
    ids=["a page", "no gzip", "zeros", "a letter"],
)
def test_what_is_no_warc_is_counted(data: bytes) -> None:
    pages, skipped = read(data)
    assert pages == []
    assert skipped == {BROKEN: 1}


def test_an_empty_file_is_counted() -> None:
    assert read(b"") == ([], Counter({"empty file": 1}))


@pytest.mark.parametrize(
    ("reason", "body", "headers", "more"),
    [
        ("HTTP status not 200", html(0), HTML, {"status": "404 Not Found"}),
        ("HTTP status not 200", b"", HTML, {"status": "301 Moved"}),
        ("not HTML", b"%PDF-1.4", [("Content-Type", "application/pdf")], {}),
        ("not HTML", b"plain text without a type", [("Server", "x")], {}),
        ("empty page", b"", HTML, {}),
        ("empty page", b" \r\n\t ", HTML, {}),
        ("binary noise", b"<html>\0\1\2\3", HTML, {}),
        ("larger than max_page_bytes", b"<html>" + b"x" * LIMIT, HTML, {}),
        ("revisit record", html(0), HTML, {"kind": "revisit"}),
        ("not HTML", b"{}", HTML, {"kind": "resource", "warc_content_type": "application/json"}),
    ],
)
def test_what_is_no_page_is_counted_by_reason(reason: str, body: bytes, headers: list, more: dict[str, str]) -> None:
    (pages, skipped), _ = one(body, headers, **more)
    assert pages == []
    assert skipped == {reason: 1}


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (html(1), [("Content-Type", "TEXT/HTML")]),
        (html(1), [("Content-Type", "application/xhtml+xml; charset=x")]),
        (b"\xef\xbb\xbf \n<!-- c --><!DOCTYPE html><p>a", [("Server", "no type")]),
        ("<html><p>ü</html>".encode("utf-16"), HTML),
    ],
)
def test_what_is_a_page(body: bytes, headers: list) -> None:
    (pages, skipped), _ = one(body, headers)
    assert [page.html for page in pages] == [body]
    assert not skipped


def test_a_resource_record_is_a_page() -> None:
    (pages, _), _ = one(html(3), kind="resource", warc_content_type="text/html")
    assert [page.html for page in pages] == [html(3)]


def chunked(body: bytes, size: int) -> bytes:
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    return b"".join(b"%x;name=value\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(body) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "encode"),
    [("gzip", gzip.compress), ("x-gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
)
@pytest.mark.parametrize("chunk", [0, 100])
def test_encodings_are_undone_as_warcio_does(encoding: str, encode, chunk: int) -> None:
    body = encode(html(4))
    headers = [*HTML, ("Content-Encoding", encoding)]
    if chunk:
        body, headers = chunked(body, chunk), [*headers, ("Transfer-Encoding", "chunked")]
    (pages, skipped), data = one(body, headers)
    assert [page.html for page in pages] == [html(4)]
    assert not skipped
    if encoding != "x-gzip":  # which warcio does not know
        assert by_warcio(data) == [("http://example.org/", html(4))]


def test_chunked_alone_equals_warcio() -> None:
    (pages, _), data = one(chunked(html(5), 700), [*HTML, ("Transfer-Encoding", "chunked")])
    assert [page.html for page in pages] == [html(5)] == [body for _, body in by_warcio(data)]


@pytest.mark.parametrize(
    "header", [("Content-Encoding", "gzip"), ("Content-Encoding", "br"), ("Content-Encoding", "zstd")]
)
def test_headers_of_an_encoding_that_the_crawler_undid(header: tuple[str, str]) -> None:
    (pages, _), _ = one(html(6), [*HTML, header, ("Transfer-Encoding", "chunked")])
    assert [page.html for page in pages] == [html(6)]


def test_a_bomb_stays_small() -> None:
    bomb = gzip.compress(b"<html>" + b" " * (64 << 20))
    (pages, skipped), _ = one(bomb, [*HTML, ("Content-Encoding", "gzip")])
    assert pages == []
    assert skipped == {"larger than max_page_bytes": 1}


@pytest.mark.parametrize(
    ("date", "read_as"),
    [
        ("2024-01-02T03:04:05.678901Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05Z"),
        ("yesterday", ""),
        ("0001-01-01T00:00:00+14:00", ""),
    ],
)
def test_dates(date: str, read_as: str) -> None:
    (pages, _), _ = one(html(7), WARC_Date=date)
    assert pages[0].crawled_at == read_as


def test_a_record_without_an_address_is_counted() -> None:
    data = sound(False, 1).replace(b"WARC-Target-URI: http://example.org/0", b"WARC-Some-Other: http://example.org/0")
    pages, skipped = read(data)
    assert pages == []
    assert skipped == {"no address": 1}


def test_records_in_segments_are_counted() -> None:
    """A page that is spread over several records (ISO 28500, section 7) would be half a page."""
    file = io.BytesIO()
    writer = WARCWriter(file, gzip=True)
    record(writer, "http://example.org/0", html(0), WARC_Segment_Number="1")
    record(writer, "http://example.org/0", html(1), kind="continuation", WARC_Segment_Number="2")
    record(writer, "http://example.org/1", html(2), kind="conversion")
    record(writer, "http://example.org/2", html(3))
    pages, skipped = read(file.getvalue())
    assert [page.html for page in pages] == [html(3)]
    assert skipped == {"segmented record": 1}
