"""The documents stage as a whole on pages made by hand: nothing vanishes, twins are found, and kills do no harm."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from herdsman.documents import refine as refine_module
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.quality import rubric as quality
from herdsman.documents.refine import refine
from herdsman.documents.steps import NEAR_DUPLICATE, REPEATED_LINES, SEMANTIC_DUPLICATE, URL_DUPLICATE
from herdsman.documents.store import FACTS, KEPT, read_documents, read_dropped, read_facts
from herdsman.errors import InputError
from herdsman.files import read_json, sha256_file
from herdsman.pages.page import Page
from herdsman.pages.shards import write_shards
from herdsman.progress import SILENT
from herdsman.workspace import Work

OPTIONS = DocumentsOptions(held_out_share=0.2)
NOTICE = "Readers of this site may also want to subscribe to the letter that we send out every month."
_TOPICS = (
    "river mill baker harbour garden winter school market engine forest letter island castle mirror window bridge"
    " planet cellar violin copper"
)
_COMMON = "the of and to that have with in a is was for on as by from at which this his her their "
_OTHERS = (
    "carries follows leaves reaches guards measures repairs describes remembers crosses people country water morning"
    " children silver narrow early distant careful stone paper summer road open quiet heavy story number question"
    " answer before after between against always never often perhaps together slowly evening mountain shadow table"
)
TOPICS = _TOPICS.split()
WORDS = [*TOPICS, *(_COMMON * 4).split(), *_OTHERS.split()]
CODE = "<pre>def {0}(value):\n    if value:\n        return {0}(value - 1)\n    return 'the {0} is done'\n</pre>"
GERMAN = (
    "<p>Die Mühle steht seit vielen Jahren an dem kleinen Fluss, und der Müller hat sie von seinem Vater übernommen. Im"
    " Winter ist das Wasser gefroren, und dann wird nicht gemahlen. Im Frühjahr kommen die Bauern aus den Dörfern mit"
    " ihrem Korn, und bis in die Nacht hinein dreht sich das Rad. Wer die Mühle sehen will, geht am besten am Morgen,"
    " wenn es noch still ist und die Kinder in der Schule sind.</p>"
)


def prose(topic: str, paragraphs: int = 4) -> str:
    rng = random.Random(topic)
    sentences = [" ".join(rng.choice(WORDS) for _ in range(rng.randint(9, 16))) for _ in range(4 * paragraphs)]
    whole = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in sentences]
    return "".join(f"<p>{' '.join(whole[at : at + 4])}</p>" for at in range(0, len(whole), 4))


def page(path: str, body: str, day: int = 1) -> Page:
    html = f"<html><head><title>{path}</title></head><body><main><h1>{path}</h1>{body}</main></body></html>"
    return Page(f"https://example.org/{path}", f"2024-05-{day:02d}T00:00:00Z", html.encode())


def pages() -> list[Page]:
    made = [page(topic, prose(topic) + f"<p>{NOTICE}</p>", 2) for topic in TOPICS]
    made += [page(f"code/{topic}", prose(f"{topic} code", 3) + CODE.format(topic) * 9) for topic in TOPICS[:5]]
    made += [page("muehle", GERMAN)]
    made += [page(f"copy/{topic}", prose(topic) + "<p>It was copied.</p>") for topic in TOPICS[:4]]
    made += [page("news", prose("news of March"), 3), page("news?utm_source=letter", prose("news of May"), 5)]
    made += [page("news#top", prose("news of April"), 4)]
    made += [Page("https://example.org/empty", "", b"<html><body><nav>Home</nav></body></html>")]
    made += [page("short", "<p>Nothing to see here.</p>"), page("deep", "<div>" * 9000)]
    made += [page("notices", f"<p>{NOTICE}</p>" + f"<p>{prose('notices', 1)[3:60]}</p>")]
    made += [page("same", prose("same")), page("same", prose("same"))]
    return made


@pytest.fixture(scope="module")
def pages_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pages")
    list(write_shards(iter(pages()), "by hand", "CC0", folder, "pages", 14_000))
    assert len(list(folder.iterdir())) >= 3
    return folder


def work_in(out: Path, pages_folder: Path, workers: int = 1) -> Work:
    out.mkdir(parents=True, exist_ok=True)
    return Work("documents", out, {"pages": pages_folder}, 1, workers, SILENT)


def digests(out: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(out.iterdir()) if path.is_file()}


@pytest.fixture(scope="module")
def refined(pages_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("documents")
    refine(OPTIONS, work_in(out, pages_folder))
    return out


@pytest.fixture(scope="module")
def summary(refined: Path) -> dict[str, Any]:
    found: dict[str, Any] = read_json(refined / "summary.json")
    return found


def test_every_page_is_kept_or_dropped(refined: Path, summary: dict[str, Any]) -> None:
    found = Counter(row["url"] for row in (*read_documents(refined), *read_dropped(refined)))
    assert found == Counter(page.url for page in pages())
    funnel = {step["step"]: step["documents"] for step in summary["funnel"]}
    assert funnel["pages"] == summary["pages"] == len(pages())
    assert list(funnel.values()) == sorted(funnel.values(), reverse=True)
    kept = list(read_documents(refined))
    assert funnel["kept"] == len(kept) == funnel["pages"] - sum(e["documents"] for e in summary["dropped"].values())
    dropped = Counter(row["dropped_by"] for row in read_dropped(refined))
    assert dropped == {name: entry["documents"] for name, entry in summary["dropped"].items()}
    assert summary["funnel"][-1]["characters"] == sum(len(row["text"]) for row in kept)
    for name, columns in (("languages", ["language"]), ("categories", ["category", "tier"])):
        counts = Counter(tuple(row[column] for column in columns) for row in kept)
        assert counts == {tuple(row[column] for column in columns): row["documents"] for row in summary[name]}
    assert sum(summary["quality"]["histogram"]) == len(kept)


def test_each_page_meets_its_fate(refined: Path) -> None:
    kept = {row["url"].removeprefix("https://example.org/"): row for row in read_documents(refined)}
    dropped = {row["url"].removeprefix("https://example.org/"): row for row in read_dropped(refined)}
    assert {*TOPICS, *(f"code/{topic}" for topic in TOPICS[:5]), "muehle", "same"} <= set(kept)
    for topic in TOPICS[:4]:
        copy = dropped[f"copy/{topic}"]
        assert (copy["dropped_by"], copy["twin"]) == (NEAR_DUPLICATE, kept[topic]["id"])
        assert "%" in copy["reason"]
    newest = kept["news?utm_source=letter"]
    for path in ("news", "news#top"):
        assert (dropped[path]["dropped_by"], dropped[path]["twin"]) == (URL_DUPLICATE, newest["id"])
        assert "2024-05-05" in dropped[path]["reason"]
    assert dropped["same"]["dropped_by"] == URL_DUPLICATE
    assert {dropped[path]["dropped_by"] for path in ("empty", "short", "deep")} == {
        "no text", "too short", "hostile markup",
    }  # fmt: skip
    assert kept["muehle"]["category"] == "multilingual"
    assert kept["code/river"]["category"] == "code"
    assert "    if value:\n" in kept["code/river"]["text"]
    assert all(len(row["id"]) == 32 for row in (*kept.values(), *dropped.values()))


def test_lines_that_many_pages_repeat_are_gone(refined: Path, summary: dict[str, Any]) -> None:
    assert not any(NOTICE in row["text"] for row in read_documents(refined))
    top = summary["lines"]["top"][0]
    assert top["line"] == NOTICE
    assert top["count"] >= len(TOPICS)
    assert summary["lines"]["removed"] >= top["count"]


def test_a_document_of_which_too_little_is_left_is_dropped(pages_folder: Path, tmp_path: Path) -> None:
    options = DocumentsOptions(duplicates={"lines_left_share": 0.99}, held_out_share=0.2)
    refine(options, work_in(tmp_path, pages_folder))
    dropped = {
        row["url"].rpartition("/")[2]: row for row in read_dropped(tmp_path) if row["dropped_by"] == REPEATED_LINES
    }
    assert set(dropped) >= set(TOPICS)
    assert NOTICE in dropped["river"]["text"]


def test_splits_tiers_and_mix(refined: Path, summary: dict[str, Any]) -> None:
    rows = list(read_documents(refined))
    assert list(rows[0]) == KEPT.names
    held_out = sum(row["split"] == "held_out" for row in rows)
    assert 0 < held_out == summary["held_out"]["documents"] < len(rows) / 2
    best = [row["quality"] for row in rows if row["tier"] == "best"]
    rest = [row["quality"] for row in rows if row["tier"] == "rest"]
    assert min(best) > max(rest)
    assert len(best) / len(rows) == pytest.approx(OPTIONS.quality.best_share, abs=0.1)
    mix = read_json(refined / "mix.json")
    trained = {f"{row['category']}.{row['tier']}" for row in rows if row["split"] == "train"}
    for name in ("pretrain", "anneal"):
        assert set(mix[name]) <= trained
        assert sum(mix[name].values()) == pytest.approx(1)
    assert mix == summary["mix"]


def test_two_workers_write_the_same_bytes(
    refined: Path, pages_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refine_module, "ROWS_PER_WORKER", 1)
    refine(OPTIONS, work_in(tmp_path, pages_folder, workers=2))
    assert digests(tmp_path) == digests(refined)


KILLED = """
import os, signal, sys
from pathlib import Path
from herdsman import files
from herdsman.documents.quality import rubric as quality
from herdsman.documents import refine as refine_module
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.refine import refine
from herdsman.progress import SILENT
from herdsman.workspace import Work

quality.MIN_LABELLED = 5
left, fsync = int(sys.argv[3]), os.fsync

def dying(descriptor):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(descriptor)

files.os.fsync = dying
work = Work("documents", Path(sys.argv[1]), {"pages": Path(sys.argv[2])}, 1, 1, SILENT)
refine(DocumentsOptions(held_out_share=0.2), work)
"""


def test_killed_again_and_again_it_ends_in_the_same_bytes(
    pages_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run is killed with SIGKILL while it writes its n-th file; the last one is left to finish."""
    kills = 0
    for writes in (5, 20, 33, 9, 50, 30, 21, 40):
        command = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), str(pages_folder), str(writes)]
        (tmp_path / "killed").mkdir(exist_ok=True)
        kills += subprocess.run(command, env=os.environ, timeout=120).returncode == -signal.SIGKILL
    assert kills >= 6
    monkeypatch.setattr(quality, "MIN_LABELLED", 5)
    for name in ("killed", "straight"):
        refine(OPTIONS, work_in(tmp_path / name, pages_folder))
    assert digests(tmp_path / "killed") == digests(tmp_path / "straight")
    assert read_json(tmp_path / "straight" / "summary.json")["quality"]["models"]["quality"]["models"]


def test_buckets_of_documents_count_lines_by_themselves(pages_folder: Path, tmp_path: Path) -> None:
    options = DocumentsOptions(duplicates={"line_bucket_documents": 6}, held_out_share=0.2)
    refine(options, work_in(tmp_path, pages_folder))
    assert any(NOTICE in row["text"] for row in read_documents(tmp_path))  # never more than six times in a bucket


def test_the_first_of_repeated_lines_can_stay(pages_folder: Path, tmp_path: Path) -> None:
    refine(
        DocumentsOptions(duplicates={"line_mode": "keep_first"}, held_out_share=0.2), work_in(tmp_path, pages_folder)
    )
    assert sum(NOTICE in row["text"] for row in read_documents(tmp_path)) == 1


@pytest.mark.parametrize(("keep", "stays"), [("newest", "short"), ("longest", "long"), ("best", "long")])
def test_which_of_near_duplicates_stays(keep: str, stays: str, tmp_path: Path) -> None:
    more = "<p>Nobody knows what became of the mill in the years after that, and nobody ever asked.</p>"
    both = [page("long", prose("twice", 6) + more, 1), page("short", prose("twice", 6), 3)]
    (tmp_path / "pages").mkdir()
    list(write_shards(iter(both), "by hand", "CC0", tmp_path / "pages", "pages", 1_000_000))
    options = DocumentsOptions(duplicates={"keep": keep}, held_out_share=0.2)
    refine(options, work_in(tmp_path / "out", tmp_path / "pages"))
    assert [row["url"].rpartition("/")[2] for row in read_documents(tmp_path / "out")] == [stays]


def test_semantic_duplicates_go_if_asked_for(pages_folder: Path, tmp_path: Path) -> None:
    options = DocumentsOptions(
        duplicates={"semantic": True, "semantic_similarity": 0.97, "similarity": 1.0}, held_out_share=0.2
    )
    refine(options, work_in(tmp_path, pages_folder))
    kept = {row["id"]: row["url"] for row in read_documents(tmp_path)}
    gone = {row["url"]: row for row in read_dropped(tmp_path) if row["dropped_by"] == SEMANTIC_DUPLICATE}
    for topic in TOPICS[:4]:
        found = gone[f"https://example.org/copy/{topic}"]
        assert kept[found["twin"]].startswith("https://example.org/")
        assert "cosine" in found["reason"]


def test_facts_of_every_page(refined: Path) -> None:
    rows = [row for batch in read_facts(refined) for row in batch.to_pylist()]
    assert list(rows[0]) == FACTS.names
    assert Counter(row["url"] for row in rows) == Counter(page.url for page in pages())
    assert {row["id"]: row["dropped_by"] for row in rows if row["dropped_by"]} == {
        row["id"]: row["dropped_by"] for row in read_dropped(refined)
    }
    texts = {row["id"]: row["text"] for row in read_documents(refined)}
    for row in rows:
        if not row["dropped_by"]:
            assert row["characters_left"] == len(texts[row["id"]])
            assert row["characters"] >= row["characters_left"]
            assert (row["lines_removed"] > 0) == (row["characters"] > row["characters_left"])
        assert (row["similarity"] is not None) == (row["dropped_by"] == NEAR_DUPLICATE)
        assert row["bytes"] > 0


def test_no_pages_and_no_documents_are_said(tmp_path: Path) -> None:
    (tmp_path / "pages").mkdir()
    with pytest.raises(InputError, match="no pages are here"):
        refine(OPTIONS, work_in(tmp_path / "one", tmp_path / "pages"))
    list(write_shards(iter([page("empty", "")]), "by hand", "CC0", tmp_path / "pages", "pages", 1000))
    with pytest.raises(InputError, match="no document was kept"):
        refine(OPTIONS, work_in(tmp_path / "two", tmp_path / "pages"))
