"""Pages that are made to be slow, large or fatal: each costs little, and ends in a document or in a reason."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import pytest

from herdsman.documents.extraction.extract import extract
from herdsman.documents.extraction.hostile import HostileMarkup
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.page_to_document import DROPPED_CHARS, Candidate, Dropped, document_of

PROSE_TEXT = "The mill was built of stone from the quarry above the village, and it stood there for two hundred years. "


def hostile_pages() -> dict[str, Callable[[], bytes]]:
    noise = bytes((i * 7919 + (i >> 3) * 31 + (i >> 9)) % 256 for i in range(200_000))
    return {
        "empty": lambda: b"",
        "white space": lambda: b" \n\t " * 1000,
        "noise": lambda: noise,
        "noise that says it is a page": lambda: b"<html><body><p>" + noise,
        "deep nesting": lambda: b"<div>" * 100_000 + b"text",
        "nested as deep as is let through": lambda: b"<div>" * 999 + b"text" * 50 + b"</div>" * 999,
        "unclosed everything": lambda: b"<table><tr><td><ul><li><b><i><p>text" * 3_000,
        "unclosed formatting": lambda: b"".join(b"<b id=%d><p>x" % i for i in range(20_000)),
        "stray ends": lambda: b"<div>" * 900 + b"</span>" * 100_000,
        "attributes": lambda: b"<p " + b" ".join(b"a%d=1" % i for i in range(50_000)) + b">text</p>",
        "one line": lambda: b"<p>" + b"word " * 1_000_000 + b"</p>",
        "one word": lambda: b"<p>" + b"a" * 5_000_000 + b"</p>",
        "open angles": lambda: b"<" * 1_000_000,
        "open comments": lambda: b"<!--" * 200_000,
        "entities": lambda: b"&amp;#&#x110000;&#0;&#xD800;&nosuch;" * 30_000,
        "unclosed code": lambda: b"<pre>" * 900 + b"x < y\n" * 10_000,
        "unclosed links": lambda: b"<a href=x>link " * 30_000,
        "superscripts": lambda: b"x<sup>2" * 30_000,
        "maths": lambda: b"<math><mfrac><mi>x</mi>" * 900,
        "broken UTF-16": lambda: b"\xff\xfe" + b"\x00\xd8" * 100_001 + b"a",
        "changing encodings": lambda: (
            b'<meta charset="utf-7"><meta charset="hz-gb-2312">+ADw-script+AD4- \xff\xfe ~{' * 500
        ),
    }


@pytest.mark.parametrize("name", hostile_pages())
def test_hostile_pages_cost_little_and_end_in_a_document_or_a_reason(name: str) -> None:
    page = {
        "url": "https://hostile.example/",
        "domain": "hostile.example",
        "crawled_at": "",
        "html": hostile_pages()[name](),
        "content_type": "",
        "source": "test",
        "licence": "",
    }
    start = time.process_time()
    result = document_of(page, DocumentsOptions())
    seconds = time.process_time() - start
    assert isinstance(result, Candidate | Dropped)
    if isinstance(result, Dropped):
        assert result.dropped_by
        assert result.reason
        assert len(result.text) <= DROPPED_CHARS
    assert len(result.id) == 32
    result.text.encode("utf-8")  # Parquet takes no lone surrogates
    assert seconds < 12, f"{seconds:.1f} CPU seconds"


@pytest.mark.parametrize("name", ["deep nesting", "stray ends", "attributes"])
def test_markup_that_parsers_choke_on_is_refused_before_it_is_parsed(name: str) -> None:
    with pytest.raises(HostileMarkup):
        extract(hostile_pages()[name]())


def test_a_hostile_page_is_dropped_by_name() -> None:
    page = {"url": "https://a.example/", "html": b"<div>" * 100_000, "content_type": ""}
    dropped = document_of(page, DocumentsOptions())
    assert isinstance(dropped, Dropped)
    assert dropped.dropped_by == "hostile markup"
    assert "1,000 elements deep" in dropped.reason


@pytest.mark.parametrize(
    "page",
    [
        "<p " + " ".join(f'a{at}=">"' for at in range(20_000)) + ">",
        "<p" + "".join(f"/a{at}" for at in range(20_000)) + ">",
        "<p" + (" a" * 900 + ' b="<>" ' + " c" * 900) * 20 + ">",
    ],
    ids=["angles in quotes", "slashes", "words and angles"],
)
def test_thousands_of_attributes_are_refused(page: str) -> None:
    with pytest.raises(HostileMarkup, match="attributes"):
        extract(page.encode())


def test_scripts_with_long_strings_are_no_tags() -> None:
    script = f"<script>for(i=0;i<n;i++){{}} var s = '{'a b/c ' * 20_000}', t = \"='>\";</script>"
    assert extract(f"<main>{script}<p>{PROSE_TEXT}</p></main>".encode()).text == PROSE_TEXT.strip()


@pytest.mark.parametrize(
    "page",
    [
        "<pre>a" + " " * 300_000 + "b</pre>",
        "<math>" + "<mi>x</mi>" * 7_000 + "</math>",
        "<math>" + '<annotation-xml encoding="application/x-tex"></annotation-xml>' * 3_500 + "</math>",
        '<a class="' + "brackets-" * 40_000 + '">\n</a>',
        "<pre>" + "<div></div>" * 60_000 + "</pre>",
        "<p " + "=' " * 100_000 + ">" + '<a ="' * 50_000,
        "".join(f"<html a{at}=b>" for at in range(60_000)),
        "<table><tr><td>x</table>" + "<td>1" * 400_000,
        "<plaintext><ti" + "&#99;" * 400_000,
    ],
    ids=[
        "blanks in code",
        "identifiers",
        "annotations",
        "brackets",
        "empty lines of code",
        "quotes",
        "bodies",
        "cells",
        "raw text",
    ],
)
def test_time_grows_with_the_page_only(page: str) -> None:
    started = time.process_time()
    with contextlib.suppress(HostileMarkup):
        extract(page.encode())
    assert time.process_time() - started < 20  # quadratic, each would take minutes
