"""WARC files on web servers and in object stores, and lists of them, with real WARC files of a web crawl."""

from __future__ import annotations

import gzip
import io
import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from herdsman import transfer
from herdsman.artifacts import fetch_all, iter_members
from herdsman.errors import InputError, NetworkError
from herdsman.pages import remote
from herdsman.pages.options import PagesOptions
from herdsman.pages.shards import read_pages
from herdsman.pages.sources import source_identity
from herdsman.pages.warc import read_warc
from tests.pages.store import Store, serve_store
from tests.pages.test_gather import stage
from tests.pages.test_warc import html, sound
from tests.web import Web, serve


@pytest.fixture(scope="session")
def crawl() -> list[bytes]:
    """Two real WARC files, of 37 pages together."""
    files = []
    for member in iter_members(fetch_all(["dolma"])["dolma"]):
        if member.name.endswith(".warc.gz"):
            with member.open() as file:
                files.append(file.read())
    assert len(files) == 2
    return files


@pytest.fixture(autouse=True)
def _settings(crawl: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A cache of its own, and no credentials of whoever runs the tests."""
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(remote, "CLIENT", replace(remote.CLIENT, retries=2, backoff_seconds=0.001))
    transfer.store_of.cache_clear()
    yield
    transfer.store_of.cache_clear()


@pytest.fixture
def web(crawl: list[bytes]) -> Iterator[Web]:
    with serve() as web:
        for number, content in enumerate(crawl):
            web.files[f"/crawl/{number}.warc.gz"] = ("application/octet-stream", content)
        yield web


@pytest.fixture
def store(crawl: list[bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    s3fs = pytest.importorskip("s3fs")
    with serve_store() as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.address)
        store.objects = {f"web/crawl/part-{number}.warc.gz": content for number, content in enumerate(crawl)}
        store.objects |= {"web/crawl/part-1.txt": b"no WARC", "web/other/part-2.warc.gz": sound(True)}
        yield store
        s3fs.S3FileSystem.clear_instance_cache()


def gathered(root: Path, *sources: str, **more: object) -> list[dict]:
    return list(read_pages(stage(root, PagesOptions(sources=list(sources), **more)).folder("pages")))


def bodies(*files: bytes) -> list[bytes]:
    return [page.html for content in files for page in read_warc(io.BytesIO(content), Counter(), 1 << 23)]


def test_a_file_on_a_web_server(web: Web, crawl: list[bytes], tmp_path: Path) -> None:
    url = f"{web.address}/crawl/0.warc.gz"
    pages = gathered(tmp_path / "herd", url)
    assert [page["html"] for page in pages] == bodies(crawl[0])
    assert {(page["source"], page["licence"]) for page in pages} == {("0.warc.gz", "")}
    asked = len(web.asked)
    assert gathered(tmp_path / "again", url) == pages
    assert len(web.asked) == asked, "the cache holds it"


def test_a_server_on_a_bad_day(web: Web, crawl: list[bytes], tmp_path: Path) -> None:
    path = "/crawl/1.warc.gz"
    web.faults[path] = [0, -1000, 503, -300_000, 500]  # the first request asks for the size
    assert [page["html"] for page in gathered(tmp_path / "herd", web.address + path)] == bodies(crawl[1])
    assert [wanted for _, wanted in web.asked][1:4] == ["", "bytes=1000-", "bytes=1000-"]


def test_a_server_that_is_slow_to_answer(web: Web, crawl: list[bytes], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(remote, "CLIENT", replace(remote.CLIENT, timeout_seconds=0.3))
    path = "/crawl/0.warc.gz"
    web.slow = 0.6
    assert [page["html"] for page in gathered(tmp_path / "herd", web.address + path)] == bodies(crawl[0])


def test_a_server_that_answers_with_another_range(web: Web, crawl: list[bytes], tmp_path: Path) -> None:
    path = "/crawl/1.warc.gz"
    web.faults[path] = [0, -1000]
    web.shift = 7
    assert [page["html"] for page in gathered(tmp_path / "herd", web.address + path)] == bodies(crawl[1])
    assert web.times(path) > 2


def test_retry_after_is_kept_to(web: Web, crawl: list[bytes], tmp_path: Path, monkeypatch) -> None:
    path, pauses = "/crawl/0.warc.gz", list[float]()
    monkeypatch.setattr(transfer.time, "sleep", pauses.append)
    web.faults[path] = [0, 503, 429]
    web.retry_after = "7"
    assert [page["html"] for page in gathered(tmp_path / "herd", web.address + path)] == bodies(crawl[0])
    assert [pause for pause in pauses if pause >= 1] == [7, 7]


@pytest.mark.parametrize(
    ("header", "seconds"),
    [(None, 0), ("12", 12), ("-3", 0), ("soon", 0), ("Mon, 06 May 2024 07:08:09 GMT", 0), ("Tue, 99 May 2024", 0)],
)
def test_what_retry_after_says(header: str | None, seconds: float) -> None:
    assert transfer.retry_after(header) == seconds
    assert transfer.retry_after("Wed, 06 May 2099 07:08:09 GMT") > 1e9


def test_a_pattern_in_an_object_store(store: Store, crawl: list[bytes], tmp_path: Path) -> None:
    pages = gathered(tmp_path / "herd", "s3://web/crawl/part-*.warc.gz")
    assert [page["html"] for page in pages] == bodies(*crawl)
    assert list(dict.fromkeys(page["source"] for page in pages)) == ["part-0.warc.gz", "part-1.warc.gz"]
    assert not store.signed, "without credentials the bucket is read as anybody may"
    read = len(store.asked)
    assert gathered(tmp_path / "again", "s3://web/crawl/part-0.warc.gz", "s3://web/crawl/part-1.warc.gz") == pages
    assert len(store.asked) == read


def test_a_store_on_a_bad_day(store: Store, crawl: list[bytes], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(transfer, "STORE_CHUNK_BYTES", 100_000)
    key = "web/crawl/part-1.warc.gz"
    store.faults[key] = [0, 503, -50_000, 500]
    assert [page["html"] for page in gathered(tmp_path / "herd", "s3://" + key)] == bodies(crawl[1])
    ranges = [wanted for method, path, wanted in store.asked if method == "GET" and path == key]
    assert ranges[0] == "bytes=0-99999"
    assert ranges.count("bytes=100000-199999") >= 2


def test_credentials_are_used_where_there_are_some(store: Store, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    assert len(gathered(tmp_path / "herd", "s3://web/other/*.warc.gz")) == 5
    assert store.signed


def test_common_crawl_from_an_object_store(store: Store, crawl: list[bytes], tmp_path: Path) -> None:
    paths = [f"crawl-data/CC-MAIN-2024-18/segments/1/warc/{number}.warc.gz" for number in range(4)]
    listing = gzip.compress("\n".join(paths).encode())
    store.objects = {"commoncrawl/crawl-data/CC-MAIN-2024-18/warc.paths.gz": listing}
    store.objects |= {f"commoncrawl/{path}": crawl[number % 2] for number, path in enumerate(paths)}
    more = {"common_crawl_url": "s3://commoncrawl/", "common_crawl_from": 1, "common_crawl_files": 2}
    pages = gathered(tmp_path / "herd", "CC-MAIN-2024-18", **more)
    assert [page["html"] for page in pages] == bodies(crawl[1], crawl[0])
    assert list(dict.fromkeys(page["source"] for page in pages)) == ["1.warc.gz", "2.warc.gz"]


def test_any_other_store_that_fsspec_reads(crawl: list[bytes], tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for number, content in enumerate(crawl):
        memory.pipe(f"/web/{number}.warc.gz", content)
    try:
        assert [p["html"] for p in gathered(tmp_path / "herd", "memory://web/?.warc.gz")] == bodies(*crawl)
        assert [p["html"] for p in gathered(tmp_path / "one", "memory://web/1.warc.gz")] == bodies(crawl[1])
    finally:
        memory.rm("/web", recursive=True)


def test_a_list_of_files_here_and_elsewhere(web: Web, crawl: list[bytes], tmp_path: Path) -> None:
    folder = tmp_path / "lists"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "own.warc.gz").write_bytes(sound(True, 2))
    text = f"# my crawls\n{web.address}/crawl/1.warc.gz\n\nbelow/*.warc.gz\n{folder}/below/own.warc.gz\n"
    (folder / "my.paths").write_text(text)
    halves = text.encode()[:30], text.encode()[30:]
    (folder / "my.paths.gz").write_bytes(b"".join(map(gzip.compress, halves)))  # two members are one file
    for name in ("my.paths", "my.paths.gz"):
        pages = gathered(tmp_path / name, str(folder / name))
        assert [page["html"] for page in pages] == [*bodies(crawl[1]), html(0), html(1)]
    options = PagesOptions(sources=[str(folder / "my.paths")])
    before = source_identity(options)
    (folder / "my.paths").write_text("below/*.warc.gz\n")
    assert source_identity(options) != before


def test_fetched_files_can_be_let_go(web: Web, crawl: list[bytes], tmp_path: Path) -> None:
    urls = [f"{web.address}/crawl/{number}.warc.gz" for number in range(2)]
    pages = gathered(tmp_path / "herd", *urls, keep_fetched=False)
    assert [page["html"] for page in pages] == bodies(*crawl)
    assert not list((tmp_path / "cache").rglob("*.warc.gz"))


def test_a_killed_run_goes_on_with_the_files_it_listed(
    store: Store, crawl: list[bytes], tmp_path: Path, monkeypatch
) -> None:
    """Whatever the store lists by then: its units keep their numbers."""
    options = PagesOptions(sources=["s3://web/crawl/*.warc.gz"])
    real, fetched = remote.download, list[str]()

    def breaks(client, urls, target, *arguments, **more):
        fetched.append(target.name)
        if len(fetched) == 2:
            raise KeyboardInterrupt
        return real(client, urls, target, *arguments, **more)

    monkeypatch.setattr(remote, "download", breaks)
    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "herd", options)
    store.objects["web/crawl/part-00.warc.gz"] = sound(True)
    transfer.store_of("s3").invalidate_cache()
    pages = list(read_pages(stage(tmp_path / "herd", options).folder("pages")))
    assert [page["html"] for page in pages] == bodies(*crawl)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (
            "https://example.org/page.html",
            "not the address of a WARC file; addresses end in .warc or .warc.gz; to crawl",
        ),
        ("https://[bad/x.warc.gz", "https://[bad/x.warc.gz: not the address of a WARC file"),
        ("s3://web/crawl", "s3://web/crawl: not the address of a WARC file"),
        ("nowhere://a/b.warc", "nowhere://: no such protocol; check the address"),
        ("memory://none/*.warc", "memory://none/*.warc: no file matches; correct pages.sources in the recipe"),
        ("CC-MAIN-24", "CC-MAIN-24: not a Common Crawl path of WARC files; name a crawl, such as CC-MAIN-2024-18"),
        ("list.paths", "lists another list (more.paths); name that one in pages.sources"),
        ("noise.paths.gz", "noise.paths.gz: cannot be read as a list of WARC files"),
        ("cut.paths.gz", "cut.paths.gz: cannot be read as a list of WARC files"),
    ],
)
def test_mistakes_are_one_sentence(source: str, sentence: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.paths").write_text("more.paths\n")
    (tmp_path / "noise.paths.gz").write_bytes(b"noise")
    (tmp_path / "cut.paths.gz").write_bytes(gzip.compress(b"a.warc\n" * 9)[:-9])
    with pytest.raises(InputError) as caught:
        gathered(tmp_path / "herd", source)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_the_package_for_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.registry import _registry

    monkeypatch.setitem(sys.modules, "s3fs", None)
    for name in ("s3", "s3a"):
        _registry.pop(name, None)
    with pytest.raises(InputError, match=r"^s3://: needs a package that is not installed; pip install s3fs$"):
        gathered(tmp_path / "herd", "s3://web/a.warc.gz")


def test_what_is_not_there(store: Store, web: Web, tmp_path: Path) -> None:
    for url in ("s3://web/crawl/gone.warc.gz", f"{web.address}/gone.warc.gz"):
        with pytest.raises(
            NetworkError, match=r"gone.warc.gz: .*: cannot be fetched; check the address and the network"
        ):
            gathered(tmp_path / "herd", url)


def test_identity_needs_no_network(web: Web) -> None:
    sources = ["CC-MAIN-2024-18", f"{web.address}/a.warc.gz", "s3://web/*.warc.gz", f"crawl:{web.address}/docs/"]
    one, two = (source_identity(PagesOptions(sources=sources, common_crawl_from=first)) for first in (0, 1))
    assert one != two
    assert json.loads(json.dumps(one)) == one
    assert web.asked == []
