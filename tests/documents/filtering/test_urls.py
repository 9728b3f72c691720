"""Addresses: what leads to one page has one form, what leads to different ones has not."""

from __future__ import annotations

import pytest

from herdsman.documents.filtering.urls import identity, normalise


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("HTTP://Example.COM:80/A/b.html#part", "https://example.com/A/b.html"),
        ("https://example.com", "https://example.com/"),
        ("https://example.com:8443/x", "https://example.com:8443/x"),
        ("https://user:secret@example.com./x", "https://example.com/x"),
        ("https://example.com/docs/index.html", "https://example.com/docs/"),
        ("https://example.com/Default.aspx", "https://example.com/"),
        ("https://example.com/myindex.html", "https://example.com/myindex.html"),
        ("https://example.com/?utm_source=a&utm_medium=b&gclid=c&fbclid=d", "https://example.com/"),
        ("https://example.com/?b=2&a=1&_ga=3&a=0", "https://example.com/?a=0&a=1&b=2"),
        ("https://example.com/?id=7&PHPSESSID=abc", "https://example.com/?id=7"),
        ("https://example.com/a;jsessionid=1A2B/b", "https://example.com/a/b"),
        ("https://example.com/%7euser/%c3%a9%2f", "https://example.com/~user/%C3%A9%2F"),
        ("https://example.com/a/./b/../c/..", "https://example.com/a/"),
        ("https://example.com/../x", "https://example.com/x"),
        ("https://example.com/#!/route", "https://example.com/#!/route"),
        ("https://[2001:DB8::1]:443/x", "https://[2001:db8::1]/x"),
        ("pypi://Project/1.0/docs/index.html#a", "pypi://project/1.0/docs/"),
        ("html:///folder/a.html#x", "html:///folder/a.html"),
        ("  https://example.com/x \n", "https://example.com/x"),
        ("http://[broken/x", "http://[broken/x"),
        ("https://example.com:port/x", "https://example.com:port/x"),
        ("https://example.com/a\tb\nc", "https://example.com/abc"),
        ("http:\\\\example.com\\a?q=\\", "https://example.com/a?q=\\"),
        ("https://BÜCHER.example/straße?q=ä", "https://xn--bcher-kva.example/stra%C3%9Fe?q=%C3%A4"),
        ("https://例え.jp/", "https://xn--r8jz45g.jp/"),
        ("https://xn--bcher-kva.example/stra%c3%9fe", "https://xn--bcher-kva.example/stra%C3%9Fe"),
        ("https://example.com/a b", "https://example.com/a%20b"),
        ("https://example.com/100%/%zz", "https://example.com/100%/%zz"),
        ("https://example.com/?a=&b&&", "https://example.com/?a=&b"),
        ("https://example.com/?srsltid=x&yclid=y&at_medium=z&id=1", "https://example.com/?id=1"),
        ("https://example.com/?ASPSESSIONIDQ=1&CFID=2&CFTOKEN=3", "https://example.com/"),
        ("ftp://example.com:21/a", "ftp://example.com/a"),
        ("https://example.com/%41%2e%2E/%2fb", "https://example.com/A../%2Fb"),
        ("https://example.com:/x", "https://example.com/x"),
        ("", ""),
    ],
)
def test_one_form_for_each_page(url: str, expected: str) -> None:
    assert normalise(url) == expected
    assert normalise(expected) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("https://example.com/a", "https://example.com/A"),
        ("https://example.com/?q=a", "https://example.com/?q=b"),
        ("https://example.com/a", "https://www.example.com/a"),
        ("https://example.com/a%2Fb", "https://example.com/a/b"),
        ("https://example.com/?cid=1", "https://example.com/?cid=2"),
    ],
)
def test_different_pages_stay_different(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)


def test_identity_is_stable_and_depends_on_both_parts() -> None:
    assert identity("https://example.com/", "text") == "f94f72123c74c034be9d5ac333c8209f"
    assert identity("a", "bc") != identity("ab", "c")
    assert identity("a", "é") == identity("a", "é".encode())
    assert len({identity(url, text) for url in ("a", "b") for text in ("", "x")}) == 4
