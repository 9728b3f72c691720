"""The user's own package index, asked through the simple API (PEP 503 HTML, PEP 691 JSON) with pip's configuration.

`pip download` would try to build source archives, so Herdsman asks the index itself, but the way pip is set up here:
mirrors, several indexes, find-links folders and pages, proxies, certificates, trusted hosts.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit, urlunsplit

from herdsman.transfer import Client, Document, TransferError, is_local, local_path, shown

PYPI = "https://pypi.org/simple"
ACCEPT = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.1, text/html;q=0.01"
PIP_SECONDS = 60


@dataclass(frozen=True)
class Link:
    """One file that an index offers; `sha256` is empty where the index does not say."""

    url: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class PackageIndex:
    """Where packages come from on this machine.

    Attributes:
        indexes: roots of simple indexes, http(s):// or file://, in pip's order.
        find_links: folders, or pages of links, that hold files directly.
    """

    indexes: tuple[str, ...]
    find_links: tuple[str, ...]
    client: Client

    @classmethod
    def of_pip(cls) -> PackageIndex:
        """The index as pip is configured for the Python that runs."""
        return cls.from_settings(pip_settings())

    @classmethod
    def from_settings(cls, settings: dict[str, str]) -> PackageIndex:
        """The index for pip's settings, named as in `pip config` (`index-url`, `find-links`, ...)."""
        offline = settings.get("no-index", "").lower() in ("1", "true", "yes", "on")
        indexes = [settings.get("index-url") or PYPI, *settings.get("extra-index-url", "").split()]
        proxy = settings.get("proxy")
        return cls(
            indexes=() if offline else tuple(dict.fromkeys(indexes)),
            find_links=tuple(dict.fromkeys(settings.get("find-links", "").split())),
            client=Client(
                proxy=proxy if not proxy or "://" in proxy else f"http://{proxy}",
                ca_bundle=settings.get("cert"),
                client_cert=settings.get("client-cert"),
                trusted_hosts=frozenset(settings.get("trusted-host", "").split()),
                timeout_seconds=float(settings.get("timeout") or settings.get("default-timeout") or 15),
                retries=int(settings.get("retries") or 5),
            ),
        )

    def urls(self, project: str, filename: str, sha256: str, problems: list[str]) -> Iterator[str]:
        """Addresses that offer the file with this hash (or tell no hash), those on this machine first.

        Addresses are looked up one by one as they are drawn; what went wrong is added to `problems`.
        """
        places = [(place, place) for place in self.find_links]
        places += [(index, f"{index.rstrip('/')}/{project}/") for index in self.indexes]
        for place, page in sorted(places, key=lambda pair: not is_local(pair[1])):
            try:
                links = [link for link in self._links(page) if link.filename == filename]
            except TransferError as error:
                problems.append(f"{shown(place)}: {error}")
                continue
            right = [link.url for link in links if link.sha256 in ("", sha256)]
            if links and not right:
                problems.append(f"{shown(place)}: its file has another SHA-256")
            elif not links:
                problems.append(f"{shown(place)}: not there")
            yield from right

    def _links(self, page: str) -> list[Link]:
        if is_local(page):
            folder = local_path(page)
            if folder.is_dir() and not (folder / "index.html").is_file():
                return [Link(path.absolute().as_uri(), path.name, "") for path in folder.iterdir()]
            file = folder / "index.html" if folder.is_dir() else folder
            return read_links(self.client.read(file.absolute().as_uri()))
        links = read_links(self.client.read(page, ACCEPT))
        return [Link(_with_credentials(link.url, page), link.filename, link.sha256) for link in links]


def read_links(document: Document) -> list[Link]:
    """The files a project page lists, in its order.

    Raises:
        TransferError: it says to be JSON but is not an index page.
    """
    if "json" in document.content_type.lower():
        try:
            files = json.loads(document.content)["files"]
            named = [(file["url"], file["filename"], file.get("hashes", {}).get("sha256", "")) for file in files]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TransferError("the answer is not a package index page") from error
        return [Link(urljoin(document.url, url), name, sha256) for url, name, sha256 in named]
    parser = _Anchors()
    parser.feed(document.content.decode("utf-8", "replace"))
    base = urljoin(document.url, parser.base)
    links = []
    for href in parser.hrefs:
        url, _, fragment = urljoin(base, href).partition("#")
        sha256 = fragment.removeprefix("sha256=") if fragment.startswith("sha256=") else ""
        links.append(Link(url, unquote(urlsplit(url).path.rpartition("/")[2]), sha256))
    return links


def pip_settings() -> dict[str, str]:
    """pip's settings: from pip itself, which knows its files; where there is no pip, from its environment variables.

    As in pip, the environment overrides the section of a command, which overrides the global section.
    """
    command = [sys.executable, "-m", "pip", "config", "list"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=PIP_SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        answer = None
    if answer is None or answer.returncode != 0:
        names = (name for name in os.environ if name.startswith("PIP_"))
        return {name[4:].lower().replace("_", "-"): os.environ[name] for name in names}
    return parse_pip_config(answer.stdout)


def parse_pip_config(text: str) -> dict[str, str]:
    """Reads the lines of `pip config list`: `section.name='value as a Python literal'`."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, "download": {}, ":env:": {}}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        section, _, name = key.strip().partition(".")
        if section in sections and name:
            sections[section][name] = _literal(value)
    return {name: value for section in sections.values() for name, value in section.items()}


def _literal(text: str) -> str:
    try:
        value: Any = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError):
        value = text.strip()
    return str(value)


def _with_credentials(url: str, page: str) -> str:
    """A link to the index's own host carries the index's user and password, as in pip."""
    link, index = urlsplit(url), urlsplit(page)
    _, at, host = index.netloc.rpartition("@")
    return urlunsplit(link._replace(netloc=index.netloc)) if at and link.netloc == host else url


class _Anchors(HTMLParser):
    """Collects the addresses of a page's links, and its base address if it names one."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.hrefs = "", list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        href = dict(attrs).get("href")
        if tag == "a" and href:
            self.hrefs.append(href)
        elif tag == "base" and href and not self.base:
            self.base = href
