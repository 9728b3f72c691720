"""How the addresses that a site names are spelled, and what its pages say in odd charsets."""

from __future__ import annotations

import pytest

from herdsman.pages.links import outlook, ready, sitemap_addresses, web_address


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/en/../private/x", "/private/x"),
        ("/en/%2e%2E/private/x", "/private/x"),
        ("/en/.%2e/../../x", "/x"),
        ("/a/b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/a/./b/.../c", "/a/b/.../c"),
        ("/a//../b", "/a/b"),
        ("/..", "/"),
        ("", "/"),
        ("/a?b=/../c", "/a?b=/../c"),
    ],
)
def test_dot_segments_are_resolved_before_anyone_is_asked(path: str, found: str) -> None:
    assert ready("http://host" + path) == "http://host" + found
    assert sitemap_addresses(f"http://host{path}\n".encode())[0] == ["http://host" + found]


@pytest.mark.parametrize("url", ["http://[oops/", "http://host:port/", "ftp://host/", "http://", "/path", ""])
def test_what_is_no_address_of_a_web_server(url: str) -> None:
    assert web_address(url) == ready(url) == ""


@pytest.mark.parametrize("charset", ["nonsense", "hex", "undefined", "\0"])
def test_a_charset_that_is_none(charset: str) -> None:
    assert outlook("<title>Größe</title>".encode(), "http://host/", charset, "").title == "Größe"
