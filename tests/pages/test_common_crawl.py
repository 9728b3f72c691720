"""Common Crawl paths, fetched from a server on this machine that behaves like the real one on a bad day."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from herdsman.errors import InputError, NetworkError
from herdsman.pages import common_crawl, remote
from herdsman.pages.gather import gather
from herdsman.pages.options import PagesOptions
from herdsman.pages.shards import read_pages
from herdsman.pages.sources import resolve, source_identity
from herdsman.progress import SILENT
from herdsman.workspace import Workspace
from tests.pages.test_warc import html, sound
from tests.web import Web, serve

CRAWL = "crawl-data/CC-MAIN-2024-18"
LIST = f"{CRAWL}/warc.paths.gz"
FILES = [f"{CRAWL}/segments/17{number}/warc/CC-MAIN-{number}.warc.gz" for number in range(3)]


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(remote, "CLIENT", replace(remote.CLIENT, retries=2, backoff_seconds=0.001))
    with serve() as web:
        web.files["/" + LIST] = ("application/gzip", gzip.compress("\n".join(FILES).encode()))
        for number, path in enumerate(FILES):
            web.files["/" + path] = ("application/octet-stream", sound(True, number + 1))
        yield web


def options(web: Web, *sources: str, files: int = 1) -> PagesOptions:
    return PagesOptions(sources=list(sources), common_crawl_url=web.address + "/", common_crawl_files=files)


def stage(root: Path, options: PagesOptions, workers: int = 1) -> list[dict]:
    space = Workspace(root)
    with space.locked(), space.stage("pages", "f", (), 1, workers, SILENT) as work:
        gather(options, work)
    return list(read_pages(space.folder("pages")))


def test_the_first_files_of_a_list(web: Web, tmp_path: Path) -> None:
    pages = stage(tmp_path / "herd", options(web, LIST, files=2))
    assert [page["html"] for page in pages] == [html(0), html(0), html(1)]
    assert [page["source"] for page in pages] == ["CC-MAIN-0.warc.gz", "CC-MAIN-1.warc.gz", "CC-MAIN-1.warc.gz"]
    assert {page["licence"] for page in pages} == {common_crawl.LICENCE}
    assert web.times("/" + FILES[2]) == 0
    asked = len(web.asked)
    assert stage(tmp_path / "again", options(web, LIST, files=2), workers=2) == pages
    assert len(web.asked) == asked, "the cache holds them"


def test_a_single_file_through_a_bad_connection(web: Web, tmp_path: Path) -> None:
    web.faults["/" + FILES[2]] = [0, -1500, 503]  # the first request asks for the size
    pages = stage(tmp_path / "herd", options(web, FILES[2]))
    assert [page["html"] for page in pages] == [html(0), html(1), html(2)]
    assert [wanted for _, wanted in web.asked] == ["", "", "bytes=1500-", "bytes=1500-"]


def test_a_mirror_on_this_machine(web: Web, tmp_path: Path) -> None:
    mirror = tmp_path / "the mirror"
    for path in (LIST, FILES[0]):
        (mirror / path).parent.mkdir(parents=True, exist_ok=True)
        (mirror / path).write_bytes(web.files["/" + path][1])
    pages = stage(tmp_path / "herd", PagesOptions(sources=[LIST], common_crawl_url=mirror.as_uri()))
    assert [page["html"] for page in pages] == [html(0)]
    assert web.asked == []


def test_a_missing_file_is_one_sentence(web: Web, tmp_path: Path) -> None:
    path = FILES[0].replace("-0.", "-9.")
    with pytest.raises(NetworkError, match=r"CC-MAIN-9.*404.*: cannot be fetched; check the path") as caught:
        stage(tmp_path / "herd", options(web, path))
    assert "\n" not in str(caught.value)


def test_a_list_in_several_gzip_members(web: Web) -> None:
    web.files["/" + LIST] = ("application/gzip", b"".join(gzip.compress(f"{path}\n".encode()) for path in FILES))
    assert [unit.path for unit in resolve(options(web, LIST, files=3), SILENT)] == FILES


@pytest.mark.parametrize(
    "content",
    [
        b"no gzip",
        gzip.compress(FILES[0].encode())[:-9],
        gzip.compress(b"<html>sorry"),
        gzip.compress(b"crawl-data/../x.warc.gz"),
    ],
    # Names that stay the same from one second to the next, as those made of compressed bytes do not.
    ids=["no gzip", "cut short", "a page", "a path that climbs"],
)
def test_a_list_that_is_none(web: Web, content: bytes) -> None:
    web.files["/" + LIST] = ("application/gzip", content)
    with pytest.raises(InputError, match="holds no paths of WARC files; check common_crawl_url"):
        resolve(options(web, LIST), SILENT)
    web.files["/" + LIST] = ("application/gzip", gzip.compress(FILES[0].encode()))
    assert len(resolve(options(web, LIST), SILENT)) == 1, "the wrong list is not kept in the cache"


@pytest.mark.parametrize(
    "path",
    ["crawl-data/x.txt", "crawl-data/../../etc/x.warc.gz", "crawl-data/CC/wet.paths.gz", "crawl-data/a//b.warc.gz"],
)
def test_other_paths_are_refused_before_any_request(web: Web, path: str) -> None:
    with pytest.raises(InputError, match="not a Common Crawl path of WARC files"):
        source_identity(options(web, path))
    assert web.asked == []


def test_identity_needs_no_network(web: Web) -> None:
    one, two = (source_identity(options(web, LIST, files=files)) for files in (1, 2))
    assert one != two
    assert web.asked == []
