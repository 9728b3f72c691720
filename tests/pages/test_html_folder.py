"""Folders of HTML: their order, addresses, dates, and the files in them that are no pages."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from herdsman.pages.html_folder import html_files, read_html_files
from herdsman.pages.page import Page, domain_of

LIMIT = 4096


def test_pages_of_a_folder(tmp_path: Path) -> None:
    for name in ("b.html", "a/index.HTM", "a/z ü.xhtml", "a/readme.txt", "a.html"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"<p>{name}")
        os.utime(path, (0, 1_700_000_000.9))
    assert html_files(tmp_path) == ["a.html", "a/index.HTM", "a/z ü.xhtml", "b.html"]
    skipped: Counter[str] = Counter()
    pages = list(read_html_files(tmp_path, "my site", tuple(html_files(tmp_path)), skipped, LIMIT))
    assert pages[0] == Page("html:///my%20site/a.html", "2023-11-14T22:13:20Z", b"<p>a.html")
    assert pages[2].url == "html:///my%20site/a/z%20%C3%BC.xhtml"
    assert not skipped


def test_what_is_no_page_is_counted(tmp_path: Path) -> None:
    (tmp_path / "empty.html").write_bytes(b"")
    (tmp_path / "large.html").write_bytes(b"x" * (LIMIT + 1))
    (tmp_path / "noise.html").write_bytes(b"\0\1\2")
    (tmp_path / "dangling.html").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.html").symlink_to(tmp_path / "loop.html")
    os.mkfifo(tmp_path / "pipe.html")
    (tmp_path / os.fsdecode(b"caf\xe9.html")).write_bytes(b"<p>not UTF-8 in its name")
    files = tuple(html_files(tmp_path))
    skipped: Counter[str] = Counter()
    pages = list(read_html_files(tmp_path, "x", files, skipped, LIMIT))
    assert [page.url for page in pages] == ["html:///x/caf%E9.html"]
    assert skipped == {"empty page": 1, "larger than max_page_bytes": 1, "binary noise": 1, "unreadable file": 3}


def test_domains() -> None:
    assert domain_of("https://User@WWW.Example.org:80/a") == "www.example.org"
    assert domain_of("html:///manual/a/b.html") == "manual"
    assert domain_of("pypi://lxml/6.1.3/doc/a.html") == "lxml"
    assert domain_of("http://[broken") == ""
