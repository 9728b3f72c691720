"""The pages stage: every source in one order, resumed to the same bytes, every mistake one sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import tracemalloc
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from warcio.warcwriter import WARCWriter

from herdsman.artifacts import ARTIFACTS, fetch_all
from herdsman.errors import InputError
from herdsman.files import digest_of
from herdsman.pages import gather as gather_module
from herdsman.pages.gather import Job, gather, write_unit
from herdsman.pages.options import PagesOptions
from herdsman.pages.sample import SAMPLE, read_package
from herdsman.pages.shards import SCHEMA, read_pages
from herdsman.pages.sources import Unit, source_identity
from herdsman.parallel import map_ordered
from herdsman.progress import SILENT
from herdsman.workspace import Workspace
from tests.pages.test_warc import html, record, sound

KILL = """
import json, os, signal, sys
from pathlib import Path
left, real = int(sys.argv[1]), Path.replace
def replace(self, target):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, target)
Path.replace = replace
from herdsman.pages.options import PagesOptions
from tests.pages.test_gather import stage
stage(Path(sys.argv[2]), PagesOptions(**json.loads(sys.argv[3])))
"""


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Two WARC files, one of them broken, and a folder of HTML with an empty file."""
    folder = tmp_path / "sources"
    site = folder / "manual"
    site.mkdir(parents=True)
    (folder / "b.warc.gz").write_bytes(sound(True, 12))
    (folder / "a.warc").write_bytes(sound(False, 3)[:-900])
    for number in range(9):
        (site / f"{number}.html").write_bytes(html(100 + number))
    (site / "empty.html").write_bytes(b"")
    return folder


def options_of(folder: Path, **more: object) -> PagesOptions:
    return PagesOptions(sources=[str(folder / "*.warc*"), str(folder / "manual")], **more)


def stage(root: Path, options: PagesOptions, workers: int = 1) -> Workspace:
    space = Workspace(root)
    fingerprint = digest_of([options.model_dump(), source_identity(options)])
    with space.locked(), space.stage("pages", fingerprint, (), 1, workers, SILENT) as work:
        gather(options, work)
    return space


def outputs(space: Workspace) -> dict[str, dict]:
    return space.manifest("pages")["outputs"]


def test_pages_come_by_source_in_their_own_order(sources: Path, tmp_path: Path) -> None:
    space = stage(tmp_path / "herd", options_of(sources))
    pages = list(read_pages(space.folder("pages")))
    expected = [html(n) for n in range(2)] + [html(n) for n in range(12)] + [html(100 + n) for n in range(9)]
    assert [page["html"] for page in pages] == expected
    assert list(dict.fromkeys(page["source"] for page in pages)) == ["a.warc", "b.warc.gz", "manual"]
    assert [page["domain"] for page in pages] == ["example.org"] * 14 + ["manual"] * 9
    assert pq.read_schema(space.folder("pages") / "pages-00000.parquet").equals(SCHEMA)
    assert list(read_pages(space.folder("pages"), ["url"]))[-1] == {"url": "html:///manual/8.html"}


def test_counts_and_summary(sources: Path, tmp_path: Path) -> None:
    space = stage(tmp_path / "herd", options_of(sources))
    assert space.manifest("pages")["counts"] == {
        "sources": 3,
        "pages": 23,
        "html_bytes": sum(len(page["html"]) for page in read_pages(space.folder("pages"))),
        "files": 3,
        "skipped": 2,
        "skipped: broken record": 1,
        "skipped: empty page": 1,
    }
    summary = space.summary("pages")
    assert summary["skipped"] == {"broken record": 1, "empty page": 1}
    assert [row["source"] for row in summary["sources"]] == ["b.warc.gz", "manual", "a.warc"]
    assert summary["sources"][1]["examples"] == [f"html:///manual/{number}.html" for number in (0, 3, 6)]
    assert str(tmp_path) not in json.dumps([summary, *outputs(space)])
    assert not (space.folder("pages") / "scratch").exists()


def test_small_shards_hold_the_same_pages(sources: Path, tmp_path: Path) -> None:
    large, small = (stage(tmp_path / str(size), options_of(sources, shard_bytes=size)) for size in (1 << 20, 4096))
    pages = [list(read_pages(space.folder("pages"))) for space in (large, small)]
    assert pages[0] == pages[1]
    cuts = [pq.read_metadata(path).num_rows for path in sorted(small.folder("pages").glob("pages-*.parquet"))]
    assert cuts == [2, 3, 3, 3, 3, 3, 3, 3], "the page that reaches 4096 bytes closes its file, a new source its own"


def test_workers_do_not_change_a_byte(sources: Path, tmp_path: Path) -> None:
    options = options_of(sources, shard_bytes=6000)
    assert outputs(stage(tmp_path / "one", options, 1)) == outputs(stage(tmp_path / "two", options, 2))


def test_killed_again_and_again_it_ends_in_the_same_bytes(sources: Path, tmp_path: Path) -> None:
    options = options_of(sources, shard_bytes=6000)
    undisturbed = stage(tmp_path / "straight", options)
    root = tmp_path / "killed"
    settings = [str(root), options.model_dump_json()]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    codes = []
    while len(codes) < 20 and 0 not in codes:
        command = [sys.executable, "-c", KILL, str(5 + len(codes) % 3), *settings]
        result = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
        codes.append(result.returncode)
        assert result.returncode in (0, -9), result.stderr
        assert (Workspace(root).manifest("pages") is None) == (result.returncode == -9)
    assert codes == [-9] * (len(codes) - 1) + [0]
    assert len(codes) > 4
    space = Workspace(root)
    assert outputs(space) == outputs(undisturbed)
    assert space.manifest("pages")["counts"] == undisturbed.manifest("pages")["counts"]


def test_finished_files_are_not_read_again(sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, real = list[str](), gather_module._read

    def interrupted(unit: Unit, *arguments):
        read.append(unit.source)
        if len(read) == 2:
            raise KeyboardInterrupt
        return real(unit, *arguments)

    monkeypatch.setattr(gather_module, "_read", interrupted)
    options = options_of(sources)
    with pytest.raises(KeyboardInterrupt):
        stage(tmp_path / "herd", options)
    stage(tmp_path / "herd", options)
    assert read == ["a.warc", "b.warc.gz", "b.warc.gz", "manual"]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", "nowhere: no such file or folder; correct pages.sources in the recipe"),
        ("*.none", "*.none: no file matches; correct pages.sources in the recipe"),
        (
            "https://example.org/",
            "https://example.org/: not the address of a WARC file; addresses end in .warc or .warc.gz",
        ),
        ("file.txt", "file.txt: not a WARC file; sources are .warc and .warc.gz files, lists of them"),
        ("bare", "bare: no .html or .htm file in this folder; name WARC files by a pattern"),
        ("crawl-data/x", "crawl-data/x: not a Common Crawl path of WARC files; name a crawl, such as"),
        ("empty.warc", "pages.sources: no page in any source (1 empty file)"),
        ("noise.warc.gz", "pages.sources: no page in any source (1 broken record)"),
    ],
)
def test_mistakes_are_one_sentence(source: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "file.txt").write_text("text")
    (tmp_path / "empty.warc").write_bytes(b"")
    (tmp_path / "noise.warc.gz").write_bytes(b"noise")
    with pytest.raises(InputError) as caught:
        stage(tmp_path / "herd", PagesOptions(sources=[source]))
    message = str(caught.value)
    assert sentence in message
    assert "\n" not in message


def test_a_file_that_cannot_be_read_is_one_sentence_from_any_process(tmp_path: Path) -> None:
    jobs = [Job(str(n), Unit("warc", "gone", str(tmp_path / "gone.warc")), tmp_path, 1024, 1024) for n in range(2)]
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"gone\.warc: cannot be read \(No such file or directory\)$"):
            list(map_ordered(write_unit, jobs, workers))


def test_identity_follows_what_the_sources_hold(sources: Path) -> None:
    options = options_of(sources)
    before = source_identity(options)
    assert source_identity(options) == before
    assert str(sources) not in json.dumps(before)
    (sources / "manual" / "5.html").write_text("changed")
    changed = source_identity(options)
    assert changed != before
    (sources / "a.warc").write_bytes(b"")
    assert source_identity(options) != changed


def test_two_folders_of_one_name_stay_apart(tmp_path: Path) -> None:
    for parent in ("one", "two"):
        (tmp_path / parent / "html").mkdir(parents=True)
        (tmp_path / parent / "html" / "index.html").write_text(f"<p>{parent}")
    options = PagesOptions(sources=[str(tmp_path / parent / "html") for parent in ("one", "two", "one")])
    pages = list(read_pages(stage(tmp_path / "herd", options).folder("pages")))
    assert [(page["url"], page["html"]) for page in pages] == [
        ("html:///html/index.html", b"<p>one"),
        ("html:///html-2/index.html", b"<p>two"),
    ]


def test_the_order_of_the_list_does_not_matter(tmp_path: Path) -> None:
    """Not even for folders and files of one name, named in the recipe or in a list."""
    for number, parent in enumerate(("one", "two")):
        (tmp_path / parent / "html").mkdir(parents=True)
        (tmp_path / parent / "html" / "index.html").write_text(f"<p>{parent}")
        (tmp_path / parent / "a.warc").write_bytes(sound(False, 2 + number))
    named = [str(tmp_path / parent / name) for parent in ("one", "two") for name in ("html", "a.warc")]
    results = []
    for turn in (1, -1):
        (tmp_path / f"{turn}.paths").write_text("\n".join(named[::turn]))
        for sources in (named[::turn], [str(tmp_path / f"{turn}.paths")]):
            options = PagesOptions(sources=sources)
            space = stage(tmp_path / f"herd{len(results)}", options)
            results.append((outputs(space), source_identity(options)))
    assert all(result == results[0] for result in results)


def test_examples_are_spread_over_a_source_and_cost_no_memory(tmp_path: Path) -> None:
    """Of a file whose addresses alone are 20 MB."""
    with open(tmp_path / "long.warc", "wb") as file:
        writer = WARCWriter(file, gzip=False)
        for number in range(2000):
            record(writer, f"http://example.org/{number}/{'x' * 10_000}", html(number))
    job = Job("a", Unit("warc", "long", str(tmp_path / "long.warc")), tmp_path, 1 << 20, 20_000)
    tracemalloc.start()
    report = write_unit(job)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert report["pages"] == 2000
    assert [int(url.split("/")[3]) // 100 for url in report["examples"]] == [0, 6, 13]
    assert peak < 10 << 20


def test_two_pages_are_two_examples(tmp_path: Path) -> None:
    (tmp_path / "two.warc").write_bytes(sound(False, 2))
    report = write_unit(Job("a", Unit("warc", "two", str(tmp_path / "two.warc")), tmp_path, 1 << 20, 1 << 20))
    assert report["examples"] == ["http://example.org/0", "http://example.org/1"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    """As Linux allows them: bytes of other encodings, line breaks, signs that mean something in addresses."""
    folder = tmp_path / os.fsdecode(b"caf\xe9 #1")
    folder.mkdir()
    names = [
        b"\xe9t\xe9.html",
        b"a\nb.html",
        b"50%.html",
        b"what?#.HTM",
        "日本.html".encode("shift_jis"),
        "ü".encode() + b".html",
    ]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"<p>" + name)
    options = PagesOptions(sources=[os.fsdecode(os.fsencode(folder))])
    for workers in (1, 2):
        pages = list(read_pages(stage(tmp_path / f"herd{workers}", options, workers).folder("pages")))
        assert sorted(page["html"] for page in pages) == sorted(b"<p>" + name for name in names)
        assert {page["domain"] for page in pages} == {"caf%EF%BF%BD%20%231"}, "a name shown as text"
        assert len({page["url"] for page in pages}) == len(names)


def test_pages_of_a_real_package() -> None:
    package = next(package for package in SAMPLE if package.artifact == "mako")
    path = fetch_all(["mako"])["mako"]
    with tarfile.open(path) as archive:
        names = [info.name.partition("/")[2] for info in archive if info.name.endswith(".html")]
        index = archive.extractfile(f"mako-{ARTIFACTS['mako'].version}/doc/index.html").read()
    documented = [name for name in names if name.startswith("doc/") and "/_static/" not in name]
    skipped: Counter[str] = Counter()
    pages = list(read_package(package, path, skipped, 1 << 23))
    assert [page.url for page in pages] == sorted(f"pypi://mako/{ARTIFACTS['mako'].version}/{n}" for n in documented)
    assert next(page.html for page in pages if page.url.endswith("/doc/index.html")) == index
    assert all(page.crawled_at > "2020" for page in pages)
    assert skipped == {"not a page of the documentation": len(names) - len(documented)}
