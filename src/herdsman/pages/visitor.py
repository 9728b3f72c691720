"""A polite visitor of one host: keeps to robots.txt (RFC 9309), pauses between requests, waits when asked to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import requests
import urllib3
from protego import Protego

from herdsman import __version__
from herdsman.errors import NetworkError
from herdsman.pages.links import joined, web_address
from herdsman.pages.options import CrawlOptions
from herdsman.pages.warc import decoded
from herdsman.transfer import CHUNK_BYTES, LONGEST_ASKED_PAUSE_SECONDS, TRANSIENT_STATUSES, retry_after

AGENT = "herdsman"  # the name that robots.txt addresses us by
MOST_REDIRECTS = 5
ROBOTS_BYTES = 500 << 10  # RFC 9309, section 2.5
LONGEST_ANSWER_SECONDS = 300.0  # of a server that never falls silent and never ends
FIRST_PAUSE_SECONDS = 1.0  # before a second try; doubles from one to the next
LONGEST_DELAY_SECONDS = 3600.0  # between two requests; a site that wants longer ones is not crawled


class NoAnswer(Exception):
    """A server did not answer, or said to the last that it cannot now; the message is a clause."""


class Stopped(Exception):
    """Herdsman is told to stop."""


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes:
        body: without transfer encoding, with content encoding; one byte longer than was allowed if it was too long;
            empty if it was not wanted.
    """

    status: int
    headers: requests.structures.CaseInsensitiveDict[str]
    body: bytes = b""

    @property
    def location(self) -> str:
        """Where a redirect leads, or ""."""
        raw = self.headers.get("Location", "") if self.status in (301, 302, 303, 307, 308) else ""
        return raw.encode("latin-1", "replace").decode(errors="replace")  # servers send UTF-8, HTTP knows Latin-1

    def content(self, limit: int) -> bytes:
        return decoded(self.body, self.headers.get("Content-Encoding"), limit)


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def host_of(url: str) -> str:
    return (urlsplit(url).hostname or "").removeprefix("www.")


@dataclass
class Pace:
    """When a host may be asked again. Whoever asks holds `turn`: a redirect can lead to the host of another start."""

    delay: float
    free_at: float = 0.0
    turn: threading.Lock = field(default_factory=threading.Lock)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None, or requests would parse the target and read the whole body, to have the next request ready."""


class Visitor:
    """Asks each host one thing at a time. Belongs to one thread; `stop` may be set by another.

    Args:
        paces: of hosts, by name; shared by the visitors of a run.
    """

    def __init__(self, options: CrawlOptions, stop: threading.Event, paces: dict[str, Pace]):
        self.options, self.stop, self.paces = options, stop, paces
        self.session = _Session()
        self.session.auth = lambda request: request  # or requests would send passwords from a .netrc
        contact = f" (+{options.contact})" if options.contact else ""
        self.session.headers["User-Agent"] = f"{AGENT}/{__version__}{contact}"
        self.session.headers["Accept"] = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"
        self.session.headers["Accept-Encoding"] = "gzip, deflate"
        self.rules_by_origin: dict[str, Protego] = {}

    def may_ask(self, url: str) -> bool:
        """Whether robots.txt of the address's host allows it, fetched at the first question.

        Raises:
            NetworkError: it cannot be known, so nothing may be asked.
        """
        return self.rules(origin_of(url)).can_fetch(url, AGENT)

    def rules(self, origin: str) -> Protego:
        if origin not in self.rules_by_origin:
            rules, pace = self._read_rules(origin), self._pace(origin)
            rate = rules.request_rate(AGENT)
            each = min(rate.seconds, 1 << 60) / rate.requests if rate and rate.requests else 0.0  # may not fit a float
            delay = max(rules.crawl_delay(AGENT) or 0.0, each)
            if delay > LONGEST_DELAY_SECONDS:
                what = f"asks for more than {LONGEST_DELAY_SECONDS:,.0f} seconds between two requests"
                raise NetworkError(what, where=origin + "/robots.txt", do="take the site out of pages.sources")
            pace.delay = max(pace.delay, delay)
            pace.free_at = max(pace.free_at, time.monotonic() + pace.delay)
            self.rules_by_origin[origin] = rules
        return self.rules_by_origin[origin]

    def ask(self, url: str, limit: int, wanted: Callable[[Answer], bool] = lambda answer: True) -> Answer:
        """One page, or what the server answers at last in its place. Redirects are the caller's to follow.

        Args:
            limit: bytes of the body after which reading ends.
            wanted: says by status and headers whether to read the body.

        Raises:
            NoAnswer: none came, also after some more tries.
            Stopped: `stop` is set.
        """
        pace = self._pace(url)
        for attempt in range(self.options.retries + 1):
            with pace.turn:
                self._wait(pace.free_at - time.monotonic())
                pause = 0.0
                try:
                    answer = self._ask_once(url, limit, wanted)
                    if answer.status not in TRANSIENT_STATUSES:
                        return answer
                    problem = f"the server answered {answer.status}"
                    pause = min(retry_after(answer.headers.get("Retry-After")), LONGEST_ASKED_PAUSE_SECONDS)
                except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
                    problem = "no answer" if isinstance(error, requests.Timeout) else type(error).__name__
                finally:
                    pace.free_at = time.monotonic() + max(pace.delay, pause)
            if attempt < self.options.retries:
                self._wait(FIRST_PAUSE_SECONDS * 2**attempt)
        raise NoAnswer(problem)

    def follow(self, url: str, limit: int, allowed: Callable[[str], bool] = lambda url: True) -> Answer:
        """Like `ask`, but goes where redirects lead, as far as that is allowed, for files that are no pages."""
        answer = self.ask(url, limit)
        for _ in range(MOST_REDIRECTS):
            url = web_address(joined(url, answer.location)) if answer.location else ""
            if not url or not allowed(url):
                break
            answer = self.ask(url, limit)
        return answer

    def _pace(self, url: str) -> Pace:
        return self.paces.setdefault(host_of(url), Pace(self.options.delay_seconds))

    def _ask_once(self, url: str, limit: int, wanted: Callable[[Answer], bool]) -> Answer:
        began = time.monotonic()
        timeout = self.options.timeout_seconds
        with self.session.get(url, allow_redirects=False, stream=True, timeout=timeout) as response:
            answer = Answer(response.status_code, response.headers)
            if response.status_code != 200 or not wanted(answer):
                return answer
            body = bytearray()
            # What has come so far, not a whole chunk: of a server that drips, that would be waited for without end.
            while chunk := response.raw.read1(CHUNK_BYTES, decode_content=False):
                body += chunk
                if len(body) > limit:
                    break
                if time.monotonic() - began > LONGEST_ANSWER_SECONDS or self.stop.is_set():
                    raise requests.Timeout
            return replace(answer, body=bytes(body[: limit + 1]))

    def _read_rules(self, origin: str) -> Protego:
        try:
            answer = self.follow(origin + "/robots.txt", ROBOTS_BYTES)
            if answer.status >= 500:
                raise NoAnswer(f"the server answered {answer.status}")
        except NoAnswer as error:
            do = "it says what may be crawled, so nothing was; run again later"
            raise NetworkError(f"cannot be read ({error})", where=origin + "/robots.txt", do=do) from error
        # RFC 9309, section 2.3.1.3: where there is none (4xx, redirects without end), everything may be asked.
        text = answer.content(ROBOTS_BYTES).decode("utf-8-sig", "replace") if answer.status == 200 else ""
        return Protego.parse(text)

    def _wait(self, seconds: float) -> None:
        if self.stop.wait(max(0.0, seconds)):
            raise Stopped
