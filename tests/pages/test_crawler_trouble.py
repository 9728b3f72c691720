"""The crawler where a site breaks down, misleads, or has no end."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from herdsman.errors import NetworkError
from herdsman.pages import frontier, visitor
from herdsman.pages.crawler import crawl_sites, site_start
from herdsman.progress import SILENT
from tests.pages.site import Site, serve_site
from tests.pages.test_crawler import crawl, links, options_of, paths


def test_no_spelling_leads_past_robots_txt(small: Site) -> None:
    a = small.address
    small.reply("/robots.txt", "User-agent: *\nDisallow: /private/", Content_Type="text/plain")
    private = [f"{a}/en/../private/1", f"{a}/en/%2e%2E/private/2", f"{a}/en/x/.%2E/../private/3"]
    small.reply("/en/", links(*private, f"{a}/en/./good", f"{a}/en/../other", "hop", "hop2"))
    small.reply("/en/good", links())
    small.reply("/en/hop", status=302, Location=private[0])
    small.reply("/en/hop2", status=302, Location="/en/%2e./other")
    small.reply("/sitemap.xml", f"<urlset><url><loc>{private[1]}</loc></url></urlset>")
    assert paths(small, crawl(a + "/en/")[0]) == ["/en/", "/en/good"]
    assert not [path for path in small.paths() if "private" in path or "other" in path]


def test_addresses_that_are_none(small: Site) -> None:
    a, bad = small.address, "http://[oops/"
    small.reply("/robots.txt", f"Sitemap: {bad}s.xml\nSitemap: {a}/index.xml\n", Content_Type="text/plain")
    maps = "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in (bad + "t.xml", a + "/moved.xml", a + "/one.xml"))
    small.reply("/index.xml", f"<sitemapindex>{maps}</sitemapindex>")
    small.reply("/moved.xml", status=302, Location=bad)
    small.reply("/one.xml", f"<urlset><url><loc>{bad}</loc></url><url><loc>{a}/lone</loc></url></urlset>")
    small.reply("/", links("/moved", bad, "/odd"))
    small.reply("/moved", status=302, Location=bad)
    small.reply("/odd", links() + "\xff", Content_Type="text/html; charset=nonsense")
    small.reply("/lone", links())
    pages, skipped = crawl(a + "/")
    assert paths(small, pages) == ["/", "/odd", "/lone"]
    assert skipped == {"redirect to outside the site": 1}


def test_robots_txt_that_leads_to_no_address(small: Site) -> None:
    small.reply("/robots.txt", status=301, Location="http://[oops/")
    small.reply("/", links())
    assert len(crawl(small.address + "/")[0]) == 1


@pytest.mark.parametrize("line", ["Crawl-delay: 99999999999", "Request-rate: 1/" + "9" * 400, "Request-rate: 1/2h"])
def test_a_pause_that_nobody_can_wait_for(small: Site, line: str) -> None:
    small.reply("/robots.txt", f"User-agent: *\n{line}\n", Content_Type="text/plain")
    small.reply("/", links())
    with pytest.raises(
        NetworkError, match=r"robots\.txt: asks for more than 3,600 seconds between two requests; take the site out"
    ):
        crawl(small.address + "/")
    assert small.paths() == ["/robots.txt"]


@pytest.mark.parametrize("status", [408, 500, 502, 504])
def test_an_outage_leaves_the_frontier_as_it_was(small: Site, status: int) -> None:
    """A page that may not be asked for, in the midst of those that fail, does not say that the server is back."""
    small.reply("/robots.txt", "User-agent: *\nDisallow: /no", Content_Type="text/plain")
    small.reply("/", links("/0", "/1", "/2", "/3", "/no", *(f"/{number}" for number in range(4, 15))))
    for number in range(15):
        small.reply(f"/{number}", links(), status=200 if number < 2 else status)
    with pytest.raises(
        NetworkError, match=rf"/11: cannot be crawled \(the server answered {status}\); run again later"
    ):
        crawl(small.address + "/")
    for number in range(2, 15):
        small.replies[f"/{number}"] = [(200, {"Content-Type": "text/html"}, links().encode())]
    pages, skipped = crawl(small.address + "/")
    assert paths(small, pages) == ["/", *(f"/{number}" for number in range(15))]
    assert skipped == {"forbidden by robots.txt": 1}


def test_a_first_page_that_breaks_is_asked_for_again(small: Site) -> None:
    small.reply("/", links(), status=500)
    with pytest.raises(NetworkError, match=r"cannot be crawled \(the server answered 500\)"):
        crawl(small.address + "/")
    small.replies["/"] = [(200, {}, links().encode())]
    assert len(crawl(small.address + "/")[0]) == 1


@pytest.mark.parametrize("retries", [0, 1])
def test_retry_after_holds_for_the_next_page_too(small: Site, retries: int) -> None:
    small.reply("/", links("/a", "/b"))
    for _ in range(retries):
        small.reply("/a", status=503)
    small.reply("/a", status=503, Retry_After="0.3")
    small.reply("/b", links())
    pages, skipped = crawl(small.address + "/", retries=retries)
    assert paths(small, pages) == ["/", "/b"]
    assert skipped == {"no answer": 1}
    moments = {path: moment for moment, path, _ in small.asked}
    assert moments["/b"] - moments["/a"] >= 0.3


def test_a_host_that_two_starts_lead_to_keeps_its_pace(small: Site, tmp_path: Path) -> None:
    """The first start is on another host and redirects to that of the second."""
    for folder in ("/a/", "/b/"):
        small.reply(folder, links(*(f"{folder}{number}" for number in range(5))))
        for number in range(5):
            small.reply(f"{folder}{number}", links())
    (tmp_path / "more").mkdir()
    with serve_site(tmp_path / "more") as second:
        second.reply("/", status=301, Location=small.address + "/a/")
        starts = [second.address.replace("127.0.0.1", "localhost") + "/", small.address + "/b/"]
        crawl_sites([site_start(f"crawl:{start}") for start in starts], options_of(delay_seconds=0.05), SILENT)
    assert {"/a/4", "/b/4"} <= set(small.paths())
    moments = [moment for moment, _, _ in small.asked]
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 0.05


def test_a_body_that_drips_is_not_waited_for(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time is up when the first bytes come; to wait for more of them ends in another error."""
    monkeypatch.setattr(visitor, "LONGEST_ANSWER_SECONDS", 0.0)
    small.reply("/", links())
    small.drip["/"] = 1.0
    with pytest.raises(NetworkError, match=r"cannot be crawled \(no answer\)"):
        crawl(small.address + "/", retries=0, timeout_seconds=0.5)


def test_a_site_without_end_that_gives_no_pages(small: Site) -> None:
    """Ten addresses for each page that is allowed; what robots.txt forbids costs nothing and does not count."""
    small.reply("/robots.txt", "User-agent: *\nDisallow: /no", Content_Type="text/plain")
    small.reply("/", links(*(f"/no{number}" for number in range(30)), *(f"/{number}" for number in range(40))))
    for number in range(40):
        small.reply(f"/{number}", links(head="<meta name=robots content=noindex>" if number < 35 else ""))
    pages, skipped = crawl(small.address + "/", max_pages=2)
    assert paths(small, pages) == ["/"]
    assert small.paths() == ["/robots.txt", "/", *(f"/{number}" for number in range(19))]
    left = "not asked, as too few of the site's addresses gave a page"
    assert skipped == {"forbidden by robots.txt": 30, "not to be indexed": 19, left: 21}
    small.asked.clear()
    assert crawl(small.address + "/", max_pages=2)[0] == pages
    assert not small.asked, "it was asked enough"
    assert paths(small, crawl(small.address + "/", max_pages=4)[0]) == ["/", "/35", "/36", "/37"]


def test_no_site_can_fill_the_disk_with_addresses(small: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontier, "MOST_WAITING", 5)
    small.reply("/", links(*(f"/{number}" for number in range(20))))
    small.reply("/sitemap.xml", "\n".join(f"{small.address}/s{number}" for number in range(20)))
    for number in range(20):
        small.reply(f"/{number}", links())
        small.reply(f"/s{number}", links())
    found = paths(small, crawl(small.address + "/")[0])
    assert found == ["/", *(f"/{number}" for number in range(5)), *(f"/s{number}" for number in range(5))]


def test_sitemaps_that_gave_no_answer_are_asked_again(small: Site) -> None:
    small.reply("/", links())
    small.reply("/lone", links())
    small.reply("/sitemap.xml", status=503)
    assert paths(small, crawl(small.address + "/")[0]) == ["/"]
    small.replies["/sitemap.xml"] = [(200, {}, f"{small.address}/lone".encode())]
    assert paths(small, crawl(small.address + "/")[0]) == ["/", "/lone"]
    small.asked.clear()
    crawl(small.address + "/")
    assert not small.asked


def test_sitemaps_stay_where_they_may_be(small: Site, tmp_path: Path) -> None:
    """On the hosts that the start and robots.txt name, and within robots.txt, also where redirects lead."""
    a = small.address
    (tmp_path / "more").mkdir()
    with serve_site(tmp_path / "more") as second:
        other = second.address.replace("127.0.0.1", "localhost")
        small.reply(
            "/robots.txt", f"User-agent: *\nDisallow: /private/\nSitemap: {a}/index.xml", Content_Type="text/plain"
        )
        maps = (other + "/s.xml", a + "/moved.xml", a + "/away.xml", a + "/fine.xml")
        small.reply("/index.xml", "<sitemapindex>" + "".join(f"<sitemap><loc>{url}</loc></sitemap>" for url in maps))
        small.reply("/moved.xml", status=302, Location="/private/s.xml")
        small.reply("/away.xml", status=302, Location=other + "/s.xml")
        small.reply("/fine.xml", status=302, Location="/fine2.xml")
        small.reply("/fine2.xml", f"{a}/lone")
        small.reply("/", links())
        small.reply("/lone", links())
        assert paths(small, crawl(a + "/")[0]) == ["/", "/lone"]
        assert not second.asked
    assert "/private/s.xml" not in small.paths()


def test_a_copy_stays_where_its_original_is_beyond_the_limit(small: Site) -> None:
    small.reply("/", links("/copy", "/original"))
    small.reply("/copy", links(head='<link rel="canonical" href="/original">'))
    small.reply("/original", links())
    assert paths(small, crawl(small.address + "/", max_pages=3)[0]) == ["/", "/original"]
    assert paths(small, crawl(small.address + "/", max_pages=2)[0]) == ["/", "/copy"]
