"""Pinned files come whole and right through every kind of package index, or one sentence says why not."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from herdsman import artifacts
from herdsman.artifacts import ARTIFACTS, Artifact, cached, fetch, fetch_all, iter_members, read_member
from herdsman.download import download
from herdsman.errors import InputError, MachineError, NetworkError
from herdsman.package_index import PYPI, PackageIndex, parse_pip_config, read_links
from herdsman.transfer import Client, Document, TransferError
from tests.web import Web, serve

CONTENT = bytes(range(256)) * 4096  # 1 MiB
WHEEL = Artifact("some-project", "1.0", "some_project-1.0.tar.gz", hashlib.sha256(CONTENT).hexdigest(), 1 << 20, "MIT")
FILE = f"/files/{WHEEL.filename}"
PROJECT = "/simple/some-project/"
QUICK = Client(timeout_seconds=5, retries=2, backoff_seconds=0.001)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "cache"


@pytest.fixture
def web() -> Iterator[Web]:
    with serve() as web:
        web.files[FILE] = ("application/octet-stream", CONTENT)
        offer(web)
        yield web


def offer(web: Web, sha256: str = WHEEL.sha256) -> None:
    link = f'<a href="../../files/{WHEEL.filename}#sha256={sha256}">{WHEEL.filename}</a>'
    web.files[PROJECT] = ("text/html", f"<!DOCTYPE html><html><body>{link}</body></html>".encode())


def index_of(*addresses: str, find_links: tuple[str, ...] = ()) -> PackageIndex:
    return PackageIndex(tuple(f"{address}/simple" for address in addresses), find_links, QUICK)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_html_index(web: Web, cache: Path) -> None:
    path = fetch(WHEEL, index=index_of(web.address))
    assert path.read_bytes() == CONTENT
    assert cached(WHEEL)
    assert names(cache) == [WHEEL.filename]
    fetch(WHEEL, index=index_of(web.address))
    assert web.times(FILE) == 1, "what is in the cache is not fetched again"
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetch(WHEEL, index=index_of(web.address)).read_bytes() == CONTENT, "a damaged copy is replaced"


def test_json_index(web: Web) -> None:
    files = [
        {"url": "gone.whl", "filename": "some_project-0.9.tar.gz", "hashes": {}},
        {"url": f"../../files/{WHEEL.filename}", "filename": WHEEL.filename, "hashes": {"sha256": WHEEL.sha256}},
    ]
    page = {"meta": {"api-version": "1.0"}, "name": "some-project", "files": files}
    web.files[PROJECT] = ("application/vnd.pypi.simple.v1+json", json.dumps(page).encode())
    assert fetch(WHEEL, index=index_of(web.address)).read_bytes() == CONTENT
    assert "application/vnd.pypi.simple.v1+json" in web.headers[0]["Accept"]


def test_both_kinds_of_page_say_the_same() -> None:
    html = b'<base href="https://files.example/a/"><a href="x%2B1.whl#sha256=ab">x</a><a>none</a><a href="/y.zip">y</a>'
    links = read_links(Document("https://example/simple/x/", "text/html", html))
    assert [(link.url, link.filename, link.sha256) for link in links] == [
        ("https://files.example/a/x%2B1.whl", "x+1.whl", "ab"),
        ("https://files.example/y.zip", "y.zip", ""),
    ]
    files = [{"url": "https://files.example/a/x%2B1.whl", "filename": "x+1.whl", "hashes": {"sha256": "ab"}}]
    document = Document("https://example/simple/x/", "application/json", json.dumps({"files": files}).encode())
    assert read_links(document) == links[:1]
    with pytest.raises(TransferError, match="not a package index page"):
        read_links(Document("https://example/", "application/json", b'{"files": [{}]}'))


def test_an_interrupted_download_goes_on_where_it_broke_off(web: Web) -> None:
    web.faults[FILE] = [-300_000, 503, -400_000]
    seen: list[int] = []
    index = index_of(web.address)
    target = artifacts.cache_folder() / "packages" / WHEEL.filename
    urls = index.urls(WHEEL.project, WHEEL.filename, WHEEL.sha256, [])
    assert download(QUICK, urls, target, [], advance=seen.append, sha256=WHEEL.sha256)
    assert target.read_bytes() == CONTENT
    starts = [wanted.removeprefix("bytes=") for path, wanted in web.asked if path == FILE]
    assert starts == ["", "300000-", "300000-", "700000-"]
    assert sum(seen) == len(CONTENT)
    assert min(seen) >= 0, "nothing was thrown away"


def test_a_download_resumes_in_the_next_run(web: Web, cache: Path) -> None:
    web.faults[FILE] = [-500_000, 500, 500, 500]
    with pytest.raises(NetworkError, match="500"):
        fetch(WHEEL, index=index_of(web.address))
    assert names(cache) == [WHEEL.filename + ".partial"]
    assert fetch(WHEEL, index=index_of(web.address)).read_bytes() == CONTENT
    assert web.asked[-1] == (FILE, "bytes=500000-")


def test_a_server_that_cannot_resume(web: Web) -> None:
    web.resumes = False
    web.faults[FILE] = [-500_000]
    assert fetch(WHEEL, index=index_of(web.address)).read_bytes() == CONTENT


def test_a_server_that_always_breaks_off_is_given_up(web: Web) -> None:
    web.resumes = False
    web.faults[FILE] = [-500_000] * 50
    with pytest.raises(NetworkError):
        fetch(WHEEL, index=index_of(web.address))
    assert web.times(FILE) <= 2 * (QUICK.retries + 1)


@pytest.mark.parametrize("left", [b"garbage", CONTENT + b"more"])
def test_a_wrong_partial_file_is_begun_anew(web: Web, cache: Path, left: bytes) -> None:
    partial = cache / "packages" / f"{WHEEL.filename}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(left)
    assert fetch(WHEEL, index=index_of(web.address)).read_bytes() == CONTENT
    assert names(cache) == [WHEEL.filename]


def test_an_error_of_the_server_is_tried_again(web: Web) -> None:
    web.faults[PROJECT], web.faults[FILE] = [500, 503], [502, 429]
    assert fetch(WHEEL, index=index_of(web.address)).read_bytes() == CONTENT


def test_a_refusal_is_not_tried_again(web: Web) -> None:
    web.faults[FILE] = [403]
    with pytest.raises(NetworkError, match="403"):
        fetch(WHEEL, index=index_of(web.address))
    assert web.times(FILE) == 1


def test_wrong_bytes_are_refused_and_the_next_index_is_asked(web: Web, cache: Path) -> None:
    with serve() as other:
        offer(other)
        other.files[FILE] = ("application/octet-stream", CONTENT[::-1])
        with pytest.raises(NetworkError, match=f"^{WHEEL.filename}: .*do not have the pinned SHA-256"):
            fetch(WHEEL, index=index_of(other.address))
        assert names(cache) == []
        assert fetch(WHEEL, index=index_of(other.address, web.address)).read_bytes() == CONTENT


def test_an_index_that_states_another_hash_is_not_fetched_from(web: Web) -> None:
    offer(web, sha256="0" * 64)
    with pytest.raises(NetworkError, match="its file has another SHA-256"):
        fetch(WHEEL, index=index_of(web.address))
    assert web.times(FILE) == 0


def test_every_reason_is_in_one_sentence(web: Web, tmp_path: Path) -> None:
    del web.files[PROJECT]
    with serve() as gone:
        dead = gone.address
    index = index_of(web.address.replace("//", "//user:secret@"), dead, find_links=(str(tmp_path),))
    with pytest.raises(NetworkError) as caught:
        fetch(WHEEL, index=index)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert "secret" not in sentence
    for reason in (f"{tmp_path}: not there", "/simple: the server answered 404", "refused", "PIP_FIND_LINKS"):
        assert reason in sentence


def test_without_a_network() -> None:
    index = PackageIndex(("http://index.invalid/simple",), (), QUICK)
    with pytest.raises(NetworkError, match=r"^some_project-1\.0\.tar\.gz: no source of packages gave it \(http"):
        fetch(WHEEL, index=index)
    with pytest.raises(NetworkError, match="no index and no find-links"):
        fetch(WHEEL, index=PackageIndex.from_settings({"no-index": "true"}))


def test_a_folder_of_files_comes_before_the_network(web: Web, tmp_path: Path) -> None:
    folder = tmp_path / "wheels here"
    folder.mkdir()
    (folder / WHEEL.filename).write_bytes(CONTENT)
    for place in (str(folder), folder.as_uri()):
        index = index_of(web.address, find_links=(place,))
        fetch(WHEEL, index=index).unlink()
    assert web.asked == []
    (folder / WHEEL.filename).write_bytes(b"other")
    assert fetch(WHEEL, index=index_of(web.address, find_links=(str(folder),))).read_bytes() == CONTENT


def test_a_local_index_in_folders(tmp_path: Path) -> None:
    project = tmp_path / "simple" / "some-project"
    project.mkdir(parents=True)
    (project / WHEEL.filename).write_bytes(CONTENT)
    (project / "index.html").write_text(f'<a href="{WHEEL.filename}#sha256={WHEEL.sha256}">it</a>')
    assert fetch(WHEEL, index=index_of(tmp_path.as_uri())).read_bytes() == CONTENT


def test_several_at_once(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(artifacts, "ARTIFACTS", {"one": WHEEL, "two": replace(WHEEL, version="again")})
    paths = fetch_all(["two", "one"], index=index_of(web.address))
    assert list(paths) == ["two", "one"]
    assert all(path.read_bytes() == CONTENT for path in paths.values())


def test_two_who_want_the_same_file_fetch_it_once(web: Web) -> None:
    threads = [threading.Thread(target=fetch, args=(WHEEL,), kwargs={"index": index_of(web.address)}) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cached(WHEEL)
    assert web.times(FILE) == 1


def test_a_full_disk(web: Web) -> None:
    with open("/dev/full", "ab", buffering=0) as full, pytest.raises(MachineError, match="no space left"):
        QUICK.fetch_into(web.address + FILE, full, lambda amount: None)


def test_gzip_that_a_server_declares_stays(web: Web, tmp_path: Path) -> None:
    """Some servers declare an archive's own compression as that of the transfer; undone, the hash would be wrong."""
    web.files["/a.gz"] = ("application/gzip\r\nContent-Encoding: gzip", packed := gzip.compress(b"text" * 999))
    assert download(QUICK, [web.address + "/a.gz"], tmp_path / "a.gz", [])
    assert (tmp_path / "a.gz").read_bytes() == packed


def test_settings_of_pip() -> None:
    text = (
        "global.index-url='https://mirror/simple'\nglobal.trusted-host='a b:8080'\nglobal.timeout='180'\n"
        "install.extra-index-url='\\nhttps://one/simple\\nhttps://two/simple'\nwheel.find-links='/not/for/us'\n"
        ":env:.find-links='/opt/wheels https://links/page.html'\n:env:.proxy='proxy:3128'\n:env:.retries='2'\n"
    )
    index = PackageIndex.from_settings(parse_pip_config(text))
    assert index.indexes == ("https://mirror/simple", "https://one/simple", "https://two/simple")
    assert index.find_links == ("/opt/wheels", "https://links/page.html")
    assert index.client == Client("http://proxy:3128", None, None, frozenset({"a", "b:8080"}), 180.0, 2)
    assert PackageIndex.from_settings({}).indexes == (PYPI,)
    assert PackageIndex.from_settings({"no-index": "1", "index-url": "https://x"}).indexes == ()


def test_pip_itself_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://from.environment/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/some/folder")
    index = PackageIndex.of_pip()
    assert index.indexes[0] == "https://from.environment/simple"
    assert index.find_links == ("/some/folder",)


def test_members_of_archives(tmp_path: Path) -> None:
    wheel, source = tmp_path / "a.whl", tmp_path / "a.tar.gz"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in ("b.txt", "a.txt"):
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 2, 3, 4, 6)), name * 2)
    with tarfile.open(source, "w:gz") as archive:
        for name in ("top/b.txt", "top/a.txt"):
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(name), 1_577_934_246
            archive.addfile(info, io.BytesIO(name.encode()))
        archive.addfile(link := tarfile.TarInfo("top/link"))
        assert link.size == 0
    assert [(m.name, m.size_bytes, m.modified) for m in iter_members(wheel)] == [
        ("a.txt", 10, 1_577_934_246),
        ("b.txt", 10, 1_577_934_246),
    ]
    contents = {}
    for member in iter_members(source):
        with member.open() as file:
            contents[member.name] = file.read()
    assert contents == {"top/b.txt": b"top/b.txt", "top/a.txt": b"top/a.txt", "top/link": b""}
    assert read_member(source, "top/a.txt") == b"top/a.txt"
    with pytest.raises(InputError, match="has no member top/c"):
        read_member(source, "top/c.txt")
    source.write_bytes(source.read_bytes()[:60])
    with pytest.raises(InputError, match="not a readable archive"):
        list(iter_members(source))


def test_pins_are_complete() -> None:
    assert len({artifact.filename for artifact in ARTIFACTS.values()}) == len(ARTIFACTS)
    for artifact in ARTIFACTS.values():
        assert len(bytes.fromhex(artifact.sha256)) == 32
        assert artifact.version in artifact.filename
        assert artifact.bytes > 0
        assert artifact.licence


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert artifacts.cache_folder() == Path(os.environ["HERDSMAN_CACHE"])
    monkeypatch.delenv("HERDSMAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert artifacts.cache_folder() == tmp_path / "herdsman"
