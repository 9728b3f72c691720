"""Search: over the herd's own documents, or over the web through Brave's API. To a Llama both are `brave_search`."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Sequence
from html import unescape
from typing import Any

import requests

from herdsman.tokens.messages import BUILTIN_FUNCTIONS
from herdsman.tools.index import Index
from herdsman.tools.tool import Result, Source

NAME = "brave_search"
RESULTS = 5
BRAVE_ADDRESS = "https://api.search.brave.com/res/v1/web/search"
BRAVE_SECONDS_APART, BRAVE_TIMEOUT_SECONDS = 1.0, 10.0
BRAVE_QUERY_CHARACTERS, BRAVE_QUERY_WORDS = 400, 50
"""What Brave accepts of a question; the rest is cut off."""


class DocumentSearch:
    """Searches an index of the herd's own documents. May be used by several threads."""

    name, function = NAME, BUILTIN_FUNCTIONS[NAME]

    def __init__(self, index: Index):
        self.index = index

    def call(self, arguments: dict[str, Any]) -> Result:
        query = arguments["query"]
        try:
            hits = self.index.search(query, RESULTS)
        except sqlite3.DatabaseError as error:
            return Result(f"The search index cannot be read: {error}.", failed=True)
        return _result(query, [hit.source() for hit in hits])

    def close(self) -> None:
        pass


class BraveSearch:
    """Searches the web with Brave's Search API. May be used by several threads; one asks at a time.

    Args:
        key: the subscription's token.
        address: of the API.
        seconds_apart: between two questions, as the subscription allows.
    """

    name, function = NAME, BUILTIN_FUNCTIONS[NAME]

    def __init__(self, key: str, address: str = BRAVE_ADDRESS, seconds_apart: float = BRAVE_SECONDS_APART):
        self.address, self.seconds_apart = address, seconds_apart
        self._headers = {"X-Subscription-Token": key, "Accept": "application/json"}
        self._turn = threading.Lock()
        self._free_at = 0.0

    def call(self, arguments: dict[str, Any]) -> Result:
        query = arguments["query"]
        asked = " ".join(query.split()[:BRAVE_QUERY_WORDS])[:BRAVE_QUERY_CHARACTERS]
        if not asked:
            return Result("The search failed: the question is empty.", failed=True)
        with self._turn:
            time.sleep(max(0.0, self._free_at - time.monotonic()))
            try:
                # Redirects are not followed: the key would go with them.
                response = requests.get(
                    self.address,
                    {"q": asked, "count": str(RESULTS), "text_decorations": "false"},
                    headers=self._headers,
                    timeout=BRAVE_TIMEOUT_SECONDS,
                    allow_redirects=False,
                )
            except requests.RequestException as error:
                problem = "it did not answer in time" if isinstance(error, requests.Timeout) else "it cannot be reached"
                return Result(f"Brave Search failed: {problem}.", failed=True)
            finally:
                self._free_at = time.monotonic() + self.seconds_apart
        if response.status_code != 200:
            return Result(f"Brave Search failed: {_problem(response)}.", failed=True)
        try:
            found = (response.json().get("web") or {}).get("results") or []
            sources = [Source(*(_plain(each.get(key)) for key in ("title", "url", "description"))) for each in found]
        except (ValueError, AttributeError, TypeError):
            return Result("Brave Search failed: its answer cannot be read.", failed=True)
        return _result(query, sources[:RESULTS])

    def close(self) -> None:
        pass


def _problem(response: requests.Response) -> str:
    if response.status_code == 429:
        return "too many questions were asked, ask again later"
    try:
        said = str(response.json()["error"]["detail"])
    except (ValueError, KeyError, TypeError):
        said = ""
    return f"it answered with status {response.status_code}" + (f", {said:.200}".rstrip(".") if said else "")


def _plain(text: Any) -> str:
    return unescape(text) if isinstance(text, str) else ""


def _result(query: str, sources: Sequence[Source]) -> Result:
    """What was found, in the form in which Meta gave search results to Llama 3.1."""
    if not sources:
        return Result(f"Nothing was found for {query[:200]!r}.")
    found = [{"title": each.title, "url": each.url, "description": each.text} for each in sources]
    return Result(json.dumps({"query": query, "top_k": found}, ensure_ascii=False), sources=tuple(sources))
