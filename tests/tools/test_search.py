"""Search over documents and over Brave's API, the latter against a server on this machine that speaks its protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from herdsman.tools.index import Index, build_index
from herdsman.tools.search import BraveSearch, DocumentSearch
from herdsman.tools.tool import Source
from tests.local_server import running

KEY = "BSA-secret-key"
FOUND = [
    {"title": f"Page {number}", "url": f"https://example.org/{number}", "description": "Tom &amp; Jerry&#x27;s"}
    for number in range(9)
]


class Brave:
    """Answers as Brave's API does: a token is asked for, and no more than 400 characters and 50 words."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.times: list[float] = []
        self.answers: list[tuple[int, bytes]] = []
        self.address = ""

    def answer(self, path: str, headers: Any) -> tuple[int, bytes]:
        self.times.append(time.monotonic())
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.asked.append(query)
        if parts.path != "/res/v1/web/search":
            return 404, b"{}"
        if headers.get("X-Subscription-Token") != KEY:
            return 422, _error("SUBSCRIPTION_TOKEN_INVALID", "The provided subscription token is invalid.")
        if len(query["q"]) > 400 or len(query["q"].split()) > 50:
            return 422, _error("VALIDATION", "Unable to validate request parameter(s)")
        if self.answers:
            return self.answers.pop(0)
        found = FOUND[: int(query["count"])]
        return 200, json.dumps({"type": "search", "web": {"type": "search", "results": found}}).encode()


def _error(code: str, detail: str) -> bytes:
    return json.dumps({"type": "ErrorResponse", "error": {"code": code, "detail": detail, "status": 422}}).encode()


@pytest.fixture
def brave() -> Iterator[Brave]:
    api = Brave()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = api.answer(self.path, self.headers)
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        api.address = f"{address}/res/v1/web/search"
        yield api


def test_brave_finds_and_gives_titles_addresses_and_descriptions(brave: Brave) -> None:
    tool = BraveSearch(KEY, brave.address, seconds_apart=0)
    result = tool.call({"query": "tom\nand  jerry"})
    assert not result.failed
    assert len(result.sources) == 5
    assert result.sources[0] == Source("Page 0", "https://example.org/0", "Tom & Jerry's")
    told = json.loads(result.text)
    assert told["query"] == "tom\nand  jerry"
    assert told["top_k"][4] == {"title": "Page 4", "url": "https://example.org/4", "description": "Tom & Jerry's"}
    assert brave.asked == [{"q": "tom and jerry", "count": "5", "text_decorations": "false"}]


def test_brave_is_asked_no_more_often_than_allowed_and_never_with_more_than_it_takes(brave: Brave) -> None:
    tool = BraveSearch(KEY, brave.address, seconds_apart=0.15)
    assert not any(tool.call({"query": query}).failed for query in ("word " * 90, "x" * 900, "ü" * 900))
    assert all(later - earlier > 0.14 for earlier, later in zip(brave.times, brave.times[1:], strict=False))


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((429, b"{}"), "too many questions were asked, ask again later"),
        ((500, b"<html>oops</html>"), "it answered with status 500"),
        ((301, b""), "it answered with status 301"),
        ((200, b"no json"), "its answer cannot be read"),
        ((200, b"[1]"), "its answer cannot be read"),
        ((200, b'{"web": {"results": ["x"]}}'), "its answer cannot be read"),
    ],
)
def test_what_goes_wrong_at_brave_is_one_sentence(brave: Brave, answer: tuple[int, bytes], sentence: str) -> None:
    brave.answers = [answer]
    result = BraveSearch(KEY, brave.address, 0).call({"query": "q"})
    assert result.failed
    assert result.text == f"Brave Search failed: {sentence}."


def test_a_wrong_key_and_no_network_are_said_without_the_key(brave: Brave) -> None:
    wrong = BraveSearch("BSA-wrong", brave.address, 0).call({"query": "q"})
    assert wrong.text == (
        "Brave Search failed: it answered with status 422, The provided subscription token is invalid."
    )
    gone = BraveSearch(KEY, "http://127.0.0.1:9/res", 0).call({"query": "q"})
    assert gone.text == "Brave Search failed: it cannot be reached."
    assert BraveSearch(KEY, brave.address, 0).call({"query": " \n"}).failed


def test_nothing_found_is_an_answer_too(brave: Brave, tmp_path: Path) -> None:
    brave.answers = [(200, b'{"type": "search"}')]
    build_index([], tmp_path / "i", 800)
    for tool in (BraveSearch(KEY, brave.address, 0), DocumentSearch(Index(tmp_path / "i"))):
        result = tool.call({"query": "gibberish"})
        assert (result.text, result.failed, result.sources) == ("Nothing was found for 'gibberish'.", False, ())


def test_documents_are_found_with_their_addresses(tmp_path: Path) -> None:
    row = {
        "id": "1",
        "title": "Llamas",
        "url": "https://a.org/ll",
        "crawled_at": "",
        "licence": "",
        "text": "Flüstern.",
    }
    build_index([row], tmp_path / "i", 800)
    tool = DocumentSearch(Index(tmp_path / "i"))
    result = tool.call({"query": "flustern?"})
    assert result.sources == (Source("Llamas", "https://a.org/ll", "Flüstern."),)
    assert json.loads(result.text)["top_k"][0]["description"] == "Flüstern."
    assert "ü" in result.text
    (tmp_path / "i").write_bytes((tmp_path / "i").read_bytes()[:4096])
    broken = tool.call({"query": "llamas"})
    assert broken.failed
    assert broken.text.startswith("The search index cannot be read: ")
    tool.close()
