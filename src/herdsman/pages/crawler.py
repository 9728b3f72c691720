"""Crawls sites: each below its start, breadth first, into a WARC file and a frontier from which a killed crawl goes on.

A site's folder in the cache holds `pages.warc.gz` and `frontier.sqlite`. A page counts once the frontier says so, which
it does after the WARC file has it; whatever lies behind the last page that counts is cut off when the crawl goes on.
"""

from __future__ import annotations

import fcntl
import hashlib
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

from herdsman import __version__
from herdsman.artifacts import cache_folder
from herdsman.errors import HerdsmanError, InputError, MachineError, NetworkError, WorkspaceError
from herdsman.files import digest_of
from herdsman.pages.frontier import FORBIDDEN, KEPT, WAITING, Frontier, Place, site_order
from herdsman.pages.links import MOST_SITEMAP_BYTES, joined, outlook, ready, sitemap_addresses, web_address
from herdsman.pages.options import CrawlOptions, PagesOptions
from herdsman.pages.page import Page, iso_seconds, refusal
from herdsman.pages.visitor import MOST_REDIRECTS, Answer, NoAnswer, Pace, Stopped, Visitor, host_of, origin_of
from herdsman.pages.warc import is_html, page_at
from herdsman.pages.warc_writer import WarcFile
from herdsman.progress import Progress

PREFIX = "crawl:"
MOST_HOSTS_AT_ONCE = 32
MOST_FAILURES = 10  # in a row, after which a host is left alone
ASKED_PER_PAGE = 10  # addresses for each of `max_pages`, after which a site that gives few pages is left
MOST_SITEMAPS, MOST_SITEMAP_PAGES = 200, 100_000
NO_ANSWER, NOT_INDEXED = "no answer", "not to be indexed"


def site_start(source: str) -> str:
    """The address a crawl starts at.

    Raises:
        InputError: the source is `crawl:` and no address of a web page.
    """
    start = ready(source.removeprefix(PREFIX))
    if not start:
        raise InputError("not the address of a site", where=source, do="write crawl:https://host/ or a path below it")
    return start


def site_folder(start: str, options: PagesOptions) -> Path:
    """Where a site's crawl is kept: one for each start, edition, and limit that decides what is found."""
    name = digest_of([1, start, options.crawl.edition, options.crawl.max_depth, options.max_page_bytes])[:12]
    return cache_folder() / "crawls" / f"{urlsplit(start).hostname}-{name}"


def crawl_sites(starts: list[str], options: PagesOptions, progress: Progress) -> None:
    """Crawls all sites that are not crawled yet, several hosts at once, one request at a time to each.

    Raises:
        NetworkError: a site does not answer; the others were crawled, and what was fetched is kept.
        InputError: a site has no page that may be kept.
        WorkspaceError: another process crawls one of them.
    """
    hosts: dict[str, list[str]] = {}
    for start in starts:
        hosts.setdefault(host_of(start), []).append(start)
    waiting, stop, lock = iter(list(hosts.values())), threading.Event(), threading.Lock()
    problems, defects, paces = list[HerdsmanError](), list[BaseException](), dict[str, Pace]()
    with progress.task("crawl", unit="pages") as task:

        def tell(pages: int, known: int) -> None:
            with lock:
                task.note(f"{known:,} more known of this site")
                task.advance(pages)

        def visit_hosts() -> None:
            try:
                for own in waiting:  # each thread draws from the same iterator
                    visitor = Visitor(options.crawl, stop, paces)
                    for start in own:
                        try:
                            _crawl(start, site_folder(start, options), visitor, options, tell)
                        except HerdsmanError as error:
                            problems.append(error)
            except Stopped:
                pass
            except BaseException as error:
                defects.append(error)
                stop.set()

        # Not waited for when Herdsman stops: a crawl may be cut off at any moment.
        at_once = min(MOST_HOSTS_AT_ONCE, len(hosts))
        threads = [threading.Thread(target=visit_hosts, daemon=True) for _ in range(at_once)]
        try:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        except BaseException:
            stop.set()
            raise
    if defects:
        raise defects[0]
    if len(problems) > 1:
        sites = "; ".join(f"{error.where} {error.what}" for error in sorted(problems, key=str))
        raise NetworkError(
            f"{len(problems)} of {len(starts)} sites cannot be crawled ({sites})",
            do="run again later, or take them out of pages.sources: the other sites are kept",
        )
    if problems:
        raise problems[0]


def read_site(folder: Path, skipped: Counter[str], limit: int, max_pages: int) -> Iterator[Page]:
    """The pages of a crawled site in the site's own order: each before the pages below it, as its links list them."""
    starts, left_out = site_order(folder / "frontier.sqlite", max_pages)
    skipped.update(left_out)
    with open(folder / "pages.warc.gz", "rb") as file:
        for start in starts:
            if page := page_at(file, start, skipped, limit):
                yield page


def _crawl(start: str, folder: Path, visitor: Visitor, options: PagesOptions, tell: Callable[[int, int], None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a") as lock, ExitStack() as stack:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            do = "wait for it, or stop it first"
            raise WorkspaceError("another herdsman is crawling it", where=PREFIX + start, do=do) from error
        frontier = stack.enter_context(closing(Frontier(folder / "frontier.sqlite")))
        info = [
            ("software", f"herdsman/{__version__}"),
            ("format", "WARC File Format 1.1"),
            ("http-header-user-agent", str(visitor.session.headers["User-Agent"])),
            ("robots", "obey"),
        ]
        warc = WarcFile(folder / "pages.warc.gz", frontier.end(), iso_seconds(time.time()), info)
        stack.enter_context(closing(warc))
        try:
            _Crawl(start, frontier, warc, visitor, options).run(tell)
        except (OSError, sqlite3.OperationalError) as error:
            do = "free some space, or set HERDSMAN_CACHE to a folder that has it"
            raise MachineError(f"the crawl cannot be written ({error})", where=folder, do=do) from error


class _Crawl:
    """The crawl of one site."""

    def __init__(self, start: str, frontier: Frontier, warc: WarcFile, visitor: Visitor, options: PagesOptions):
        self.start, self.frontier, self.warc, self.visitor = start, frontier, warc, visitor
        self.options: CrawlOptions = options.crawl
        self.limit = options.max_page_bytes
        frontier.add([start], None, 0)
        # The address below which all pages lie; a redirect of the first page moves it.
        self.root = frontier.note("root") or urljoin(start, ".")

    def run(self, tell: Callable[[int, int], None]) -> None:
        kept, asked = self.frontier.count(KEPT), self.frontier.asked()
        tell(kept, self.frontier.count(WAITING))
        failed, sitemaps = list[int](), self.options.max_depth > 0 and not self.frontier.note("sitemaps")
        while kept < self.options.max_pages and asked < ASKED_PER_PAGE * self.options.max_pages:
            if not (place := self.frontier.next(self.options.max_depth)):
                if not sitemaps:
                    break
                self._read_sitemaps()
                sitemaps = False
                continue
            try:
                reason = self._visit(place)
                if reason != FORBIDDEN:
                    failed.clear()
            except NoAnswer as error:
                failed.append(place.id)
                if place.depth == 0 or len(failed) >= MOST_FAILURES:
                    self.frontier.close_with(failed, WAITING)
                    do = "run again later: what was fetched is kept"
                    raise NetworkError(f"cannot be crawled ({error})", where=place.url, do=do) from error
                reason = NO_ANSWER
            asked += reason != FORBIDDEN
            if reason:
                self.frontier.close_with([place.id], reason)
            elif (now := self.frontier.count(KEPT)) > kept:
                tell(now - kept, self.frontier.count(WAITING))
                kept = now
        if not kept:
            reasons = ", ".join(self.frontier.forget())
            do = "check the address, or take it out of pages.sources"
            raise InputError(f"has no page that may be kept ({reasons})", where=PREFIX + self.start, do=do)

    def _visit(self, place: Place) -> str | None:
        """Asks for a page and notes what came, or returns why there is none."""
        if not self.visitor.may_ask(place.url):
            return FORBIDDEN
        answer = self.visitor.ask(place.url, self.limit, _may_be_html)
        if answer.location:
            return self._redirected(place, answer.location)
        if answer.status != 200:
            return "HTTP status not 200"
        if not _may_be_html(answer):
            return "not HTML"
        html = answer.content(self.limit)
        content_type = answer.headers.get("Content-Type", "")
        if reason := refusal(html, self.limit) or ("" if is_html(content_type, html) else "not HTML"):
            return reason
        digest = hashlib.sha256(html).digest()
        if self.frontier.holds(digest):
            return "same bytes as another page of the site"
        view = outlook(html, place.url, _charset(content_type), answer.headers.get("X-Robots-Tag", ""))
        links = [own for own in map(self._own, [view.canonical, *view.links]) if own]
        values: dict[str, Any] = {
            "title": view.title,
            "canonical": self._own(view.canonical),
            "digest": digest,
            "state": NOT_INDEXED,
        }
        if view.index:
            start, end = self._write(place, answer)
            values |= {"state": KEPT, "start": start, "end": end}
        self.frontier.keep(place, values, links if place.depth < self.options.max_depth else [])
        return None

    def _write(self, place: Place, answer: Answer) -> tuple[int, int]:
        # The body is stored without the transfer encoding, so the headers must not speak of it.
        gone = ("transfer-encoding", "content-length")
        headers = [(name, value) for name, value in answer.headers.items() if name.lower() not in gone]
        trail = self.frontier.trail(place.parent)
        section = " > ".join(title for _, title in trail)
        metadata = [("via", trail[-1][0] if trail else ""), ("hopsFromSeed", "L" * place.depth), ("section", section)]
        return self.warc.write(place.url, iso_seconds(time.time()), headers, answer.body, metadata)

    def _redirected(self, place: Place, location: str) -> str | None:
        target = ready(joined(place.url, location))
        if target and place.depth == 0:
            if not _below(self.root, target) or _below(place.url + "/", target):
                self.root = urljoin(target, ".")
            else:
                self.root = urlsplit(target).scheme + self.root[self.root.index(":") :]
            self.frontier.write_note("root", self.root)
        if not (target := self._own(target)):
            return "redirect to outside the site"
        if place.hops >= MOST_REDIRECTS:
            return "too many redirects"
        self.frontier.redirect(place, target)
        return None

    def _own(self, url: str) -> str:
        """The address, with the scheme that the site itself uses, or "" if it lies outside the site."""
        return urlsplit(self.root).scheme + url[url.index(":") :] if url and _below(self.root, url) else ""

    def _read_sitemaps(self) -> None:
        """Lets the pages wait that only a sitemap knows, as if the first page linked to them."""
        origin = origin_of(self.root)
        usual = [origin + "/sitemap.xml", self.root + "sitemap.xml"]
        waiting = [web_address(url) for url in list(self.visitor.rules(origin).sitemaps) or usual]
        hosts = {host_of(url) for url in [self.start, *waiting]}
        found, seen, silent = list[str](), {""}, False

        def allowed(url: str) -> bool:
            return host_of(url) in hosts and self.visitor.may_ask(url)

        while waiting and len(seen) < MOST_SITEMAPS and len(found) < MOST_SITEMAP_PAGES:
            url = waiting.pop(0)
            if url in seen:
                continue
            seen.add(url)
            try:
                answer = self.visitor.follow(url, MOST_SITEMAP_BYTES, allowed) if allowed(url) else None
            except (NoAnswer, NetworkError):
                silent = True
                continue
            if answer and answer.status == 200:
                addresses, index = sitemap_addresses(answer.content(MOST_SITEMAP_BYTES))
                (waiting if index else found).extend(addresses)
        self.frontier.add([own for own in map(self._own, found) if own], self.frontier.first(), 1)
        if not silent:  # else all are asked again when the crawl goes on
            self.frontier.write_note("sitemaps", "read")


def _below(root: str, url: str) -> bool:
    """Whether an address lies below another, over http or https."""
    return url.partition(":")[2].startswith(root.partition(":")[2])


def _charset(content_type: str) -> str | None:
    name = content_type.lower().partition("charset=")[2].partition(";")[0].strip("\"' ")
    return name or None


def _may_be_html(answer: Answer) -> bool:
    declared = answer.headers.get("Content-Type", "")
    return not declared or is_html(declared, b"")
