"""The index: what is found, in any script, by any question; passages that lose nothing; the same bytes every time."""

from __future__ import annotations

import random
import resource
import sqlite3
import string
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from herdsman.documents.store import KEPT, write_rows
from herdsman.errors import InputError, MachineError
from herdsman.files import sha256_file
from herdsman.progress import SILENT
from herdsman.tools.index import Index, build_index, passages
from herdsman.tools.make_index import make_index
from herdsman.tools.options import SearchOptions
from herdsman.workspace import Work

TEXTS = {
    "deque": "A deque is a list-like container.\n\nIt has fast appends and pops on either end.",
    "heap": "A heap is a binary tree.\n\nThe smallest element is always at the root of the heap.",
    "résumé": "Le café est ouvert. Voilà l'été.",
    "深度学习": "深度学习是机器学习的分支。卷积神经网络用于图像识别。",
    "日本語": "東京は日本の首都です。カタカナもあります。",
    "ไทย": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "हिन्दी": "हिन्दी भारत की राजभाषा है। किताब पढ़ना अच्छा है।",
}


def document(name: str, text: str, **more: Any) -> dict[str, Any]:
    return {
        "id": f"{name}-id", "title": name, "url": f"https://example.org/{name}", "crawled_at": "2026-01-01",
        "licence": None, "text": text, **more,
    }  # fmt: skip


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    path = tmp_path_factory.mktemp("index") / "index.sqlite"
    counts = build_index((document(name, text) for name, text in TEXTS.items()), path, 800)
    assert counts == {"documents": 7, "passages": 7, "bytes": path.stat().st_size}
    return Index(path)


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("fast APPENDS", "deque"),
        ("what is the smallest element?", "heap"),
        ("deque.append(x) list-like", "deque"),
        ("resume", "résumé"),
        ("CAFE ete", "résumé"),
        ("神经网络", "深度学习"),
        ("图像", "深度学习"),
        ("首都", "日本語"),
        ("เมืองหลวง", "ไทย"),
        ("किताब", "हिन्दी"),
    ],
)
def test_the_right_document_comes_first_with_its_origin(index: Index, question: str, name: str) -> None:
    hit = index.search(question, 3)[0]
    assert (hit.id, hit.title, hit.url, hit.licence) == (f"{name}-id", name, f"https://example.org/{name}", "")
    assert hit.text == TEXTS[name]


def test_words_are_whole_in_every_script(index: Index) -> None:
    """A part of a Hindi word, or the letters of a Chinese word in another order, find nothing."""
    for question in ("कित", "络网经神", "eque"):
        assert index.search(question, 3) == []


def test_no_question_is_a_query_language_and_none_raises(index: Index) -> None:
    hostile = [
        "", " ", '"', '""', "'", "heap AND", "NOT heap", "heap NEAR(", "title:heap", "{title text}: heap", "heap*",
        "^heap", "heap) OR (", "-heap", "\x00heap\x00", "\ud800 heap", "heap " * 10_000, "a" * 1_000_000, "\u200b",
        "heap'; DROP TABLE passages; --", "%s %d {}", "\\", "🦙 heap", "深" * 50_000, "_", "___heap___",
    ]  # fmt: skip
    for question in hostile:
        found = index.search(question, 2)
        assert not found or found[0].title in ("heap", "深度学习"), question
        assert ("heap" in question.replace("___heap___", "heap")) == ("heap" in [hit.title for hit in found]), question
    alphabet = string.printable + '"*^:(){}-+\x00\u0301\u200b深ไक\udfff'
    noise = random.Random(1)
    for _ in range(2_000):
        index.search("".join(noise.choices(alphabet, k=noise.randrange(40))), 2)
    assert index.search("smallest", 1)


def test_words_that_most_passages_have_are_looked_for_only_if_no_other_is_found(tmp_path: Path) -> None:
    rows = [document(f"n{number}", f"python text {number}") for number in range(20)]
    build_index(rows, tmp_path / "i", 800)
    found = Index(tmp_path / "i")
    assert [hit.id for hit in found.search("python 7", 5)] == ["n7-id"]
    assert len(found.search("python unheard", 5)) == 5


def test_one_hit_a_document_the_best_passage(tmp_path: Path) -> None:
    long = "\n\n".join(f"paragraph {number} " + "filler words here " * 20 for number in range(30))
    rows = [document("long", long + "\n\nthe okapi okapi okapi eats leaves"), document("short", "an okapi")]
    build_index(rows, tmp_path / "i", 400)
    hits = Index(tmp_path / "i").search("okapi", 5)
    assert sorted(hit.id for hit in hits) == ["long-id", "short-id"]
    assert all("okapi" in hit.text and len(hit.text) <= 400 for hit in hits)


def test_passages_lose_nothing_and_keep_to_their_length() -> None:
    noise = random.Random(2)
    for _ in range(300):
        words = ["x" * noise.randrange(1, 60) for _ in range(noise.randrange(80))]
        text = "".join(word + noise.choice([" ", "\n", "\n\n", ". ", ".\n \n"]) for word in words)
        pieces = list(passages(text, 120))
        assert all(0 < len(piece) <= 120 and piece == piece.strip() for piece in pieces)
        assert "".join("".join(pieces).split()) == "".join(text.split())
    assert list(passages("x" * 250, 100)) == ["x" * 100, "x" * 100, "x" * 50]
    assert list(passages(" \n ", 100)) == []


def test_passages_are_cut_at_the_best_break_in_their_second_half() -> None:
    def first(text: str) -> str:
        return next(passages(text, 20))

    assert first("one two three\n\nfour five six seven") == "one two three"
    assert first("one two three\nfour five six seven") == "one two three"
    assert first("One two three. Four five six.") == "One two three."
    assert first("one\n\ntwo three four five six") == "one\n\ntwo three four"


def test_the_same_documents_give_the_same_bytes_and_a_failure_leaves_the_old_ones(tmp_path: Path) -> None:
    rows = [document(f"n{number}", f"some text about {number} " * 50) for number in range(200)]
    for name in ("a", "b"):
        build_index(rows, tmp_path / name, 200)
    assert sha256_file(tmp_path / "a") == sha256_file(tmp_path / "b")

    def broken() -> Iterator[dict[str, Any]]:
        yield rows[0]
        raise KeyboardInterrupt

    before = sha256_file(tmp_path / "a")
    with pytest.raises(KeyboardInterrupt):
        build_index(broken(), tmp_path / "a", 200)
    assert sha256_file(tmp_path / "a") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_many_threads_search_at_once_and_nothing_is_written(index: Index) -> None:
    index.path.parent.chmod(0o555)
    with ThreadPoolExecutor(8) as pool:
        found = pool.map(lambda _: index.search("smallest element", 1)[0].title, range(100))
        assert set(found) == {"heap"}
    index.path.parent.chmod(0o755)
    assert [path.name for path in index.path.parent.iterdir()] == ["index.sqlite"]


def test_what_is_no_index_is_said_in_a_sentence(tmp_path: Path, index: Index) -> None:
    with pytest.raises(InputError, match="no search index is here; run the search stage first"):
        Index(tmp_path / "none")
    (tmp_path / "noise").write_bytes(b"no database" * 1000)
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE t(x)").connection.commit()
    (tmp_path / "cut").write_bytes(index.path.read_bytes()[:5000])
    for name in ("noise", "other", "cut"):
        with pytest.raises(InputError, match="is not a search index"):
            Index(tmp_path / name)


def test_a_full_disk_is_said_in_a_sentence(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(MachineError, match="disk"):
            build_index([document(f"n{number}", "some text " * 50) for number in range(500)], tmp_path / "i", 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []


def test_the_stage_indexes_the_best_documents_and_none_that_is_held_out(tmp_path: Path) -> None:
    qualities = [0.5, 0.9, 0.9, 0.1, 0.9, 0.99]
    rows = [
        document(f"n{number}", "llama " * 9, quality=quality, split="held_out" if number == 5 else "train")
        for number, quality in enumerate(qualities)
    ]
    for part, start in enumerate((0, 4)):
        write_rows(tmp_path / "documents" / f"kept-{part:05}.parquet", rows[start : start + 4 - 2 * part], KEPT)
    work = Work("search", tmp_path / "search", {"documents": tmp_path / "documents"}, 1, 1, SILENT)
    for most, expected in ((2, {"n1-id", "n2-id"}), (100, {f"n{number}-id" for number in range(5)})):
        make_index(SearchOptions(documents=most), work)
        hits = Index(tmp_path / "search" / "index.sqlite").search("llama", 10)
        assert {hit.id for hit in hits} == expected
        assert work.counts["documents"] == work.counts["passages"] == len(expected)
