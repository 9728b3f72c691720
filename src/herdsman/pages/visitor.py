"""A polite visitor of one host: keeps to robots.txt (RFC 9309), pauses between requests, waits when asked to."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from protego import Protego

from herdsman import __version__
from herdsman.errors import NetworkError
from herdsman.pages.options import CrawlOptions
from herdsman.pages.warc import decoded
from herdsman.transfer import CHUNK_BYTES, LONGEST_ASKED_PAUSE_SECONDS, TRANSIENT_STATUSES, retry_after

AGENT = "herdsman"  # the name that robots.txt addresses us by
MOST_REDIRECTS = 5
ROBOTS_BYTES = 500 << 10  # RFC 9309, section 2.5
LONGEST_ANSWER_SECONDS = 300.0  # of a server that never falls silent and never ends
FIRST_PAUSE_SECONDS = 1.0  # before a second try; doubles from one to the next


class NoAnswer(Exception):
    """A server did not answer, or said to the last that it is busy; the message is a clause."""


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


class Visitor:
    """Asks one host one thing at a time. Belongs to one thread; `stop` may be set by another."""

    def __init__(self, options: CrawlOptions, stop: threading.Event):
        self.options, self.stop = options, stop
        self.session = requests.Session()
        self.session.auth = lambda request: request  # or requests would send passwords from a .netrc
        contact = f" (+{options.contact})" if options.contact else ""
        self.session.headers["User-Agent"] = f"{AGENT}/{__version__}{contact}"
        self.session.headers["Accept"] = "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1"
        self.session.headers["Accept-Encoding"] = "gzip, deflate"
        self.delay = options.delay_seconds
        self.free_at = 0.0  # when the next request may start
        self.rules_by_origin: dict[str, Protego] = {}

    def may_ask(self, url: str) -> bool:
        """Whether robots.txt of the address's host allows it, fetched at the first question.

        Raises:
            NetworkError: it cannot be known, so nothing may be asked.
        """
        return self.rules(origin_of(url)).can_fetch(url, AGENT)

    def rules(self, origin: str) -> Protego:
        if origin not in self.rules_by_origin:
            rules = self._read_rules(origin)
            rate = rules.request_rate(AGENT)
            each = rate.seconds / rate.requests if rate and rate.requests else 0.0
            self.delay = max(self.delay, rules.crawl_delay(AGENT) or 0.0, each)
            self.free_at = time.monotonic() + self.delay
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
        for attempt in range(self.options.retries + 1):
            self._wait(self.free_at - time.monotonic())
            pause, answer = FIRST_PAUSE_SECONDS * 2**attempt, None
            try:
                answer = self._ask_once(url, limit, wanted)
                if answer.status not in TRANSIENT_STATUSES:
                    return answer
                problem = f"the server answered {answer.status}"
                pause = max(pause, min(retry_after(answer.headers.get("Retry-After")), LONGEST_ASKED_PAUSE_SECONDS))
            except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError) as error:
                problem = "no answer" if isinstance(error, requests.Timeout) else type(error).__name__
            finally:
                self.free_at = time.monotonic() + self.delay
            if attempt < self.options.retries:
                self._wait(pause)
        if answer and answer.status not in (429, 503):  # this page is broken, not the server
            return answer
        raise NoAnswer(problem)

    def follow(self, url: str, limit: int) -> Answer:
        """Like `ask`, but goes where redirects lead, for files that are no pages."""
        answer = self.ask(url, limit)
        for _ in range(MOST_REDIRECTS):
            if not answer.location:
                break
            url = urljoin(url, answer.location)
            answer = self.ask(url, limit)
        return answer

    def _ask_once(self, url: str, limit: int, wanted: Callable[[Answer], bool]) -> Answer:
        began = time.monotonic()
        timeout = self.options.timeout_seconds
        with self.session.get(url, allow_redirects=False, stream=True, timeout=timeout) as response:
            answer = Answer(response.status_code, response.headers)
            if response.status_code != 200 or not wanted(answer):
                return answer
            body = bytearray()
            for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
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
