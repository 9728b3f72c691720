"""The crawler on a real documentation site, served on this machine with all that real servers do."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator as FastIterator
from warcio.archiveiterator import ArchiveIterator
from warcio.checker import Checker

from herdsman import __version__
from herdsman.errors import HerdsmanError, InputError, NetworkError
from herdsman.pages.crawler import crawl_sites, read_site, site_folder, site_start
from herdsman.pages.options import CrawlOptions, PagesOptions
from herdsman.pages.page import Page
from herdsman.progress import SILENT
from tests.pages.site import Site, serve_site

DOCS = "/alembic/docs/"
KILL = """
import os, signal, sys
from herdsman.pages import visitor
from herdsman.pages.frontier import Frontier
from herdsman.pages.warc_writer import WarcFile
visitor.FIRST_PAUSE_SECONDS = 0.001
how, left, address = sys.argv[1], int(sys.argv[2]), sys.argv[3]
append, keep = WarcFile._append, Frontier.keep
def killed(): os.kill(os.getpid(), signal.SIGKILL)
def _append(self, records):
    global left
    left -= 1
    if left == 0 and how == "amid":
        self.file.write(records[:-300])
        self.file.flush()
        killed()
    end = append(self, records)
    if left == 0 and how == "after":
        killed()
    return end
def _keep(self, *arguments):
    keep(self, *arguments)
    if left <= 0 and how == "noted":
        killed()
WarcFile._append, Frontier.keep = _append, _keep
from tests.pages.test_crawler import crawl
crawl(address)
"""


@pytest.fixture
def site(html_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    """The folder is read before the cache moves, because it comes from packages in the cache."""
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    with serve_site(html_folder) as site:
        yield site


def options_of(**crawl: object) -> PagesOptions:
    return PagesOptions(crawl=CrawlOptions(**{"delay_seconds": 0.0, "retries": 1} | crawl))


def crawl(address: str, **more: object) -> tuple[list[Page], Counter[str]]:
    options, start = options_of(**more), site_start("crawl:" + address)
    crawl_sites([start], options, SILENT)
    skipped: Counter[str] = Counter()
    folder = site_folder(start, options)
    return list(read_site(folder, skipped, options.max_page_bytes, options.crawl.max_pages)), skipped


def paths(site: Site, pages: list[Page]) -> list[str]:
    return [page.url.removeprefix(site.address) for page in pages]


def warc_of(address: str, **more: object) -> Path:
    return site_folder(site_start("crawl:" + address), options_of(**more)) / "pages.warc.gz"


def links(*targets: str, head: str = "", title: str = "") -> str:
    anchors = "".join(f'<p><a href="{target}">to</a>' for target in targets)
    return f"<html><head><title>{title}</title>{head}</head><body>{random.random()}{anchors}</body></html>"


def test_a_real_manual_in_the_order_of_its_contents(site: Site, html_folder: Path) -> None:
    pages, skipped = crawl(site.address + DOCS + "index.html")
    found = paths(site, pages)
    there = [*html_folder.glob("alembic/docs/*.html"), *html_folder.glob("alembic/docs/api/*.html")]
    assert set(found) == {f"/{path.relative_to(html_folder).as_posix()}" for path in there}
    chapters = [
        "index",
        "front",
        "tutorial",
        "autogenerate",
        "offline",
        "naming",
        "batch",
        "branches",
        "ops",
        "cookbook",
    ]
    assert found[:10] == [f"{DOCS}{name}.html" for name in chapters]
    assert (
        found.index(DOCS + "api/index.html") < found.index(DOCS + "api/ddl.html") < found.index(DOCS + "changelog.html")
    )
    assert all(
        page.html == (html_folder / path.lstrip("/")).read_bytes() for page, path in zip(pages, found, strict=True)
    )
    assert set(skipped) == {"HTTP status not 200"}, "links to pages that the archive does not have"
    assert max(Counter(site.paths()).values()) == 1, "nothing is asked for twice"
    assert not any(path.startswith("/mako") for path in site.paths()), "nothing outside the start's folder"
    asked = len(site.asked)
    assert crawl(site.address + DOCS + "index.html")[0] == pages
    assert len(site.asked) == asked, "the cache holds the crawl"


def test_what_it_writes_is_standard_warc(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    pages, _ = crawl(site.address + DOCS + "index.html", contact="mailto:owner@example.org")
    path = warc_of(site.address + DOCS + "index.html")
    with open(path, "rb") as file:
        records = [(r.rec_type, r.rec_headers, r.content_stream().read()) for r in ArchiveIterator(file)]
    kinds = Counter(kind for kind, _, _ in records)
    assert kinds == {"warcinfo": 1, "response": len(pages), "metadata": len(pages)}
    bodies = {h.get_header("WARC-Target-URI"): body for kind, h, body in records if kind == "response"}
    assert bodies == {page.url: page.html for page in pages}
    with open(path, "rb") as file:
        fast = [record.record_id for record in FastIterator(file, verify_digests=True)]
    assert len(fast) == len(records)
    checker = Checker(type("Command", (), {"inputs": [str(path)], "verbose": False})())
    checker.process_one(str(path))
    assert checker.exit_value == 0
    tutorial = site.address + DOCS + "api/ddl.html"
    metadata = next(b for kind, h, b in records if kind == "metadata" and h.get_header("WARC-Target-URI") == tutorial)
    fields = dict(line.split(": ", 1) for line in metadata.decode().splitlines())
    assert fields["via"] == site.address + DOCS + "index.html"
    assert fields["hopsFromSeed"] == "L"
    assert fields["section"].startswith("Welcome to Alembic’s documentation!")
    assert {agent for _, _, agent in site.asked} == {f"herdsman/{__version__} (+mailto:owner@example.org)"}


@pytest.mark.parametrize("how", ["amid", "after", "noted"])
def test_killed_again_and_again_it_finds_the_same(site: Site, how: str, monkeypatch, tmp_path: Path) -> None:
    address = site.address + DOCS + "index.html"
    undisturbed = [(page.url, page.html, page.content_type) for page in crawl(address)[0]]
    once = Counter(site.paths())
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "other"))
    site.asked.clear()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    codes = []
    while len(codes) < 30 and 0 not in codes:
        command = [sys.executable, "-c", KILL, how, str(4 + 3 * len(codes)), address]
        result = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
        assert result.returncode in (0, -9), result.stderr
        codes.append(result.returncode)
    assert codes == [-9] * (len(codes) - 1) + [0]
    assert len(codes) > 2
    assert [(page.url, page.html, page.content_type) for page in crawl(address)[0]] == undisturbed
    again = Counter(site.paths()) - once
    again.pop("/robots.txt")
    assert again.total() < len(codes), "at most the page in work is asked for again"
    with open(warc_of(address), "rb") as file:
        kinds = Counter(record.rec_type for record in ArchiveIterator(file))
    assert kinds["response"] == kinds["metadata"] == len(undisturbed)


def test_robots_txt_is_obeyed(site: Site) -> None:
    rules = f"""
User-agent: *
Disallow: /

User-agent: Herdsman
Disallow: {DOCS}api/
Allow: {DOCS}api/ddl
Disallow: /*.html?
Crawl-delay: 0.05
"""
    site.reply("/robots.txt", b"\xef\xbb\xbf" + rules.encode(), Content_Type="text/plain")
    pages, skipped = crawl(site.address + DOCS + "index.html")
    found = paths(site, pages)
    assert [path for path in found if "/api/" in path] == [DOCS + "api/ddl.html"], "the longest rule holds"
    assert DOCS + "tutorial.html" in found
    assert skipped["forbidden by robots.txt"] > 5
    assert not [path for path in site.paths() if "/api/" in path and "ddl" not in path]
    moments = [moment for moment, _, _ in site.asked]
    assert min(later - earlier for earlier, later in pairwise(moments)) >= 0.05


@pytest.mark.parametrize(("status", "pages"), [(404, 1), (403, 1), (301, 1), (500, 0), (503, 0), (429, 0)])
def test_robots_txt_that_does_not_come(small: Site, status: int, pages: int) -> None:
    small.reply("/robots.txt", "User-agent: *\nDisallow: /", status, Location="/robots.txt")
    small.reply("/", links())
    if pages:
        assert len(crawl(small.address + "/")[0]) == pages
        return
    with pytest.raises(
        NetworkError, match=rf"robots\.txt: cannot be read \(the server answered {status}\); it says"
    ) as e:
        crawl(small.address + "/")
    assert "\n" not in str(e.value)
    assert set(small.paths()) == {"/robots.txt"}, "nothing else is asked for"
    small.replies["/robots.txt"] = [(200, {}, b"")]
    assert len(crawl(small.address + "/")[0]) == 1, "the next run asks again"


def test_a_site_that_forbids_everything_is_one_sentence(small: Site) -> None:
    small.reply("/robots.txt", "User-agent: *\nDisallow: /")
    with pytest.raises(
        InputError, match=r"^crawl:http.*: has no page that may be kept \(forbidden by robots.txt\); check"
    ):
        crawl(small.address + "/")
    small.replies["/robots.txt"] = [(200, {}, b"")]
    small.reply("/", links())
    assert len(crawl(small.address + "/")[0]) == 1


def test_sitemaps_name_what_no_page_links_to(small: Site) -> None:
    a = small.address
    small.reply("/robots.txt", f"Sitemap: {a}/index.xml\n", Content_Type="text/plain")
    maps = [f"{a}/one.xml.gz", f"{a}/two.txt", f"{a}/index.xml", f"{a}/gone.xml"]
    small.reply("/index.xml", "<sitemapindex>" + "".join(f"<sitemap><loc>{m}</loc></sitemap>" for m in maps))
    one = f"<urlset><url><loc>\n {a}/lone?a=1&amp;b=2 </loc></url><url><loc><![CDATA[{a}/cdata]]></loc></url>"
    small.reply("/one.xml.gz", gzip.compress((one + "<url><loc>http://other.example/</loc></url></urlset>").encode()))
    small.reply("/two.txt", f"{a}/text\n{a}/b\n", Content_Type="text/plain")
    small.reply("/", links("/b", "/a"))
    for path in ("/a", "/b", "/lone?a=1&b=2", "/cdata", "/text"):
        small.reply(path, links("/"))
    assert paths(small, crawl(a + "/")[0]) == ["/", "/b", "/a", "/lone?a=1&b=2", "/cdata", "/text"]
    assert small.paths().count("/index.xml") == 1


def test_limits_of_pages_and_depth(small: Site) -> None:
    for number in range(20):
        small.reply(f"/{number or ''}", links(f"/{number + 1}"))
    assert paths(small, crawl(small.address + "/", max_depth=3)[0]) == ["/", "/1", "/2", "/3"]
    assert paths(small, crawl(small.address + "/", max_pages=5)[0]) == ["/", "/1", "/2", "/3", "/4"]
    small.asked.clear()
    assert paths(small, crawl(small.address + "/", max_pages=7)[0])[-1] == "/6"
    assert small.paths() == ["/robots.txt", "/5", "/6"], "a higher limit goes on where the lower one ended"
    assert len(crawl(small.address + "/", max_pages=2)[0]) == 2
    small.asked.clear()
    assert len(crawl(small.address + "/", max_pages=2, edition="next year")[0]) == 2
    assert len(small.asked) == 3, "another edition is another crawl"


def test_redirects_loops_and_odd_answers(small: Site) -> None:
    small.reply("/docs", status=302, Location="/docs/")
    small.reply("/robots.txt", status=404)
    targets = [
        "old",
        "loop",
        "circle1",
        "away",
        "same",
        "same2",
        "a/a/a/a/a",
        "big",
        "pdf",
        "file.pdf",
        "empty",
        "noise",
        "gone",
    ]
    targets += [
        "broken",
        "cut",
        "chunked",
        "//other.example/",
        "mailto:a@b",
        "javascript:x",
        "http://[",
        "gzip",
        "#top",
    ]
    small.reply("/docs/", links(*targets, "/outside", "spaced name?q=a b", "ü"))
    small.reply("/docs/old", status=301, Location="new")
    small.reply("/docs/%C3%BC", status=301, Location="ö".encode().decode("latin-1"))
    small.reply("/docs/new", links("deeper/"))
    small.reply("/docs/deeper/", links())
    small.reply("/docs/loop", status=302, Location="loop")
    for number in range(9):
        small.reply(f"/docs/circle{number}", status=307, Location=f"circle{number + 1}")
    small.reply("/docs/away", status=302, Location="http://other.example/")
    same = links()
    small.reply("/docs/same", same)
    small.reply("/docs/same2", same)
    small.reply("/docs/big", b"<html>" + b"x" * (9 << 20))
    small.reply("/docs/pdf", b"%PDF-1.4", Content_Type="application/pdf")
    small.reply("/docs/empty", b" ")
    small.reply("/docs/noise", b"<html>\0\1\2")
    small.reply("/docs/broken", links(), status=500)
    small.reply("/docs/cut", b"<html>cut", status=-1)
    small.reply("/docs/cut", whole := links())
    small.reply("/docs/chunked", links(), Transfer_Encoding="chunked")
    small.reply("/docs/gzip", gzip.compress(b"<html>zipped"), Content_Encoding="gzip")
    small.reply("/docs/spaced%20name?q=a%20b", links())
    small.reply("/docs/%C3%B6", links())
    pages, skipped = crawl(small.address + "/docs")
    assert paths(small, pages) == [
        "/docs/", "/docs/new", "/docs/deeper/", "/docs/same", "/docs/cut", "/docs/chunked", "/docs/gzip",
        "/docs/spaced%20name?q=a%20b", "/docs/%C3%B6",
    ]  # fmt: skip
    assert next(page.html for page in pages if page.url.endswith("cut")) == whole.encode()
    assert next(page.html for page in pages if page.url.endswith("gzip")) == b"<html>zipped"
    assert skipped == {
        "redirect": 9, "too many redirects": 1, "redirect to outside the site": 1, "not HTML": 1, "empty page": 1,
        "same bytes as another page of the site": 1, "larger than max_page_bytes": 1, "binary noise": 1,
        "HTTP status not 200": 1, "no answer": 1,
    }  # fmt: skip
    assert "/outside" not in small.paths()
    assert "/docs/file.pdf" not in small.paths()


def test_what_a_page_asks_of_crawlers(small: Site) -> None:
    targets = ["kept", "hidden", "closed", "header", "named", "copy", "template", "twin1", "based"]
    small.reply("/", links(*targets) + '<a rel="external nofollow" href="/never">x</a><!-- <a href="/never2">y</a> -->')
    small.reply("/kept", links("/original", head='<link rel="canonical" href="/kept">'))
    small.reply("/hidden", links("/from-hidden", head='<META content="NOINDEX, follow" name="Robots">'))
    small.reply("/closed", links("/never3", head='<meta name="robots" content="nofollow">'))
    small.reply("/header", links("/never4"), X_Robots_Tag="none")
    small.reply("/named", links("/never5"), X_Robots_Tag="otherbot: all, Herdsman: noindex, nofollow")
    small.reply("/copy", links(head="<link href='/original?x=1&amp;y=2' rel=canonical>"))
    small.reply("/original?x=1&y=2", links())
    small.reply("/original", links())
    small.reply("/template", links(head='<link rel="canonical" href="/">'))
    small.reply("/twin1", links(head='<link rel="canonical" href="/twin2">'))
    small.reply("/twin2", links(head='<link rel="canonical" href="/twin1">'))
    small.reply("/based", links("leaf", head='<base href="/below/">'))
    for path in ("/from-hidden", "/below/leaf"):
        small.reply(path, links())
    pages, skipped = crawl(small.address + "/")
    assert paths(small, pages) == [
        "/", "/kept", "/original", "/from-hidden", "/closed", "/original?x=1&y=2", "/template", "/twin1", "/twin2",
        "/based", "/below/leaf",
    ]  # fmt: skip
    assert skipped == {"not to be indexed": 3, "another address is the canonical one": 1}
    assert not [path for path in small.paths() if "never" in path]


def test_a_busy_server_is_given_its_time(small: Site) -> None:
    small.reply("/", status=503, Retry_After="0.3")
    small.reply("/", links("/a"))
    small.reply("/a", status=429, Retry_After="0.2")
    small.reply("/a", links())
    assert len(crawl(small.address + "/")[0]) == 2
    waits = {}
    for (before, path, _), (after, next_path, _) in pairwise(small.asked):
        if path == next_path:
            waits[path] = after - before
    assert waits["/"] >= 0.3
    assert waits["/a"] >= 0.2


def test_a_server_that_falls_silent(small: Site) -> None:
    """After ten pages in a row without an answer the crawl ends with a sentence; the next run goes on with them."""
    small.reply("/", links(*(f"/{number}" for number in range(15))))
    for number in range(15):
        small.reply(f"/{number}", links())
    small.slow = {f"/{number}": 0.6 for number in range(2, 15)}
    quick = {"timeout_seconds": 0.2, "retries": 0}
    with pytest.raises(
        NetworkError, match=r"/11: cannot be crawled \(no answer\); run again later: what was fetched is"
    ):
        crawl(small.address + "/", **quick)
    small.slow = {}
    small.asked.clear()
    pages, skipped = crawl(small.address + "/", **quick)
    assert paths(small, pages) == ["/", *(f"/{number}" for number in range(15))]
    assert "/1" not in small.paths()
    assert not skipped


def test_several_hosts_at_once_each_at_its_own_pace(small: Site, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    with serve_site(tmp_path / "more") as second:
        sites = (small, second)
        for site in sites:
            site.reply("/", links(*(f"/{number}" for number in range(4))))
            for number in range(4):
                site.reply(f"/{number}", links())
        starts = [site_start(f"crawl:{second.address.replace('127.0.0.1', host)}/") for host in ("127.0.0.1",)]
        starts.append(site_start(f"crawl:{small.address.replace('127.0.0.1', 'localhost')}/"))
        crawl_sites(starts, options_of(delay_seconds=0.05), SILENT)
        spans = []
        for site in sites:
            moments = [moment for moment, _, _ in site.asked]
            assert min(later - earlier for earlier, later in pairwise(moments)) >= 0.05
            spans.append((moments[0], moments[-1]))
    assert max(first for first, _ in spans) < min(last for _, last in spans), "both were crawled at the same time"


def test_one_site_that_fails_does_not_stop_the_others(small: Site, tmp_path: Path) -> None:
    small.reply("/a/", links())
    starts = [site_start(f"crawl:{small.address}/{path}/") for path in ("none", "a", "gone")]
    with pytest.raises(HerdsmanError, match=r"2 of 3 sites cannot be crawled .*none.*; run again later, or take"):
        crawl_sites(starts, options_of(), SILENT)
    asked = len(small.asked)
    crawl_sites(starts[1:2], options_of(), SILENT)
    assert len(small.asked) == asked


@pytest.mark.parametrize("source", ["crawl:", "crawl:docs", "crawl:ftp://a.b/", "crawl:http://", "crawl:http://[/"])
def test_what_is_no_site(source: str) -> None:
    with pytest.raises(InputError, match=r"not the address of a site; write crawl:https://host/"):
        site_start(source)


def test_hostile_pages_cost_little(small: Site) -> None:
    """Shapes on which a careless pattern takes quadratic time, hours at this size."""
    shapes = [
        b"<div><a href='" * 200_000,
        b"<!--" * 200_000,
        b"<a " + b"a" * 800_000 + b">",
        b"<a href" + b" " * 800_000 + b">",
        b"<a href=/x " + b"a=b " * 200_000,
        b"<script>" * 100_000 + b"<title>" * 100_000,
    ]
    for number, shape in enumerate(shapes):
        small.reply(f"/{number}", b"<html>" + shape)
    small.reply("/", links(*(f"/{number}" for number in range(len(shapes)))))
    small.reply("/sitemap.xml", (b"<loc>" + b" " * 3000) * 300)
    assert len(crawl(small.address + "/")[0]) == 1 + len(shapes)
