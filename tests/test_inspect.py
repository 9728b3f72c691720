"""Inspection: journeys are complete, differences are marked right, and a what-if equals a run with that threshold."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from herdsman.documents.filtering import filters
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.refine import refine
from herdsman.documents.steps import NEAR_DUPLICATE, REPEATED_LINES, URL_DUPLICATE
from herdsman.documents.store import read_documents, read_dropped, read_facts
from herdsman.errors import InputError, WorkspaceError
from herdsman.files import read_json, write_json
from herdsman.inspection import Wanted, look
from herdsman.pages.page import Page
from herdsman.pages.shards import write_shards
from herdsman.progress import SILENT
from herdsman.what_if import changed
from herdsman.workspace import Workspace
from tests.conftest import Herdsman

OPTIONS = DocumentsOptions.model_validate({"held_out_share": 0.2, "filters": {"block_lists": []}})
SITE = "https://example.org/"
RULES = {rule.name for rule in filters.RULES}
FRENCH = (
    "<p>Le moulin se trouve depuis longtemps au bord de la rivière, et le meunier l'a repris de son père. En hiver"
    " l'eau est gelée et on ne moud pas le grain. Au printemps les paysans viennent des villages avec leur blé, et la"
    " roue tourne jusque dans la nuit. Qui veut voir le moulin vient le matin, quand les enfants sont à l'école.</p>"
)


def pages(html_folder: Path) -> list[Page]:
    """Real pages of documentation, copies of some with a word changed, versions of one, and pages that rules drop."""
    real = [path for path in sorted(html_folder.rglob("*.html")) if path.stat().st_size < 100_000]
    made = [Page(f"{SITE}{path.parent.name}/{path.name}", "2024-05-02T00:00:00Z", path.read_bytes()) for path in real]
    copied = [page for page in made if len(page.html) > 20_000][:5]
    for page in copied:
        html = page.html.replace(b" the ", b" thine ", 1)
        made.append(Page(page.url.replace(SITE, f"{SITE}copy/"), "2024-05-01T00:00:00Z", html))
    made += [Page(f"{copied[0].url}#older", "2023-01-01T00:00:00Z", copied[0].html)]
    made += [Page(f"{SITE}moulin", "2024-05-02T00:00:00Z", f"<main><h1>Moulin</h1>{FRENCH * 2}</main>".encode())]
    made += [Page(f"{SITE}short", "", b"<main><p>Write to ann@firma.de, that is all.</p></main>")]
    return [*made, Page(f"{SITE}empty", "", b"<nav>Home</nav>"), Page(f"{SITE}deep", "", b"<div>" * 9000)]


def raised(root: Path, pages: list[Page], options: DocumentsOptions) -> Workspace:
    """A workspace whose first two stages are done."""
    workspace = Workspace(root)
    with workspace.stage("pages", "pages", (), 1, 1, SILENT) as work:
        list(write_shards(iter(pages[:12]), "one site", "CC0", work.out, "pages", 400_000))
        list(write_shards(iter(pages[12:]), "another site", "CC0", work.out, "pages-b", 400_000))
    write_json(root / "recipe.json", {"documents": options.model_dump(mode="json")})
    with workspace.stage("documents", "documents", ("pages",), 1, 1, SILENT) as work:
        refine(options, work)
    return workspace


@pytest.fixture(scope="module")
def site(html_folder: Path) -> list[Page]:
    return pages(html_folder)


@pytest.fixture(scope="module")
def herd(site: list[Page], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return raised(tmp_path_factory.mktemp("herd"), site, OPTIONS)


def fates(workspace: Workspace) -> Counter[str]:
    facts = (batch.to_pylist() for batch in read_facts(workspace.folder("documents"), ["dropped_by"]))
    return Counter(row["dropped_by"] for rows in facts for row in rows)


def test_facts_tell_of_every_page(herd: Workspace, site: list[Page]) -> None:
    folder = herd.folder("documents")
    rows = [row for batch in read_facts(folder) for row in batch.to_pylist()]
    assert Counter(row["url"] for row in rows) == Counter(page.url for page in site)
    assert Counter((row["id"], row["dropped_by"]) for row in rows if row["dropped_by"]) == Counter(
        (row["id"], row["dropped_by"]) for row in read_dropped(folder)
    )
    kept = {row["id"]: row for row in read_documents(folder)}
    for row in rows:
        if row["dropped_by"] == "":
            assert row["characters_left"] == len(kept[row["id"]]["text"]) <= row["characters"]
            assert (row["language"], row["source"]) == (kept[row["id"]]["language"], kept[row["id"]]["source"])
        judged = filters.first_broken(row, OPTIONS.filters) if row["words"] is not None else None
        if row["words"] is not None:
            assert (judged[0] if judged else "") == (row["dropped_by"] if row["dropped_by"] in RULES else "")


def test_the_funnels_of_sources_and_languages_add_up(herd: Workspace, site: list[Page]) -> None:
    summary = read_json(herd.folder("documents") / "summary.json")
    for part in ("source", "language"):
        for measure in ("documents", "characters"):
            sums = [sum(values) for values in zip(*(row[measure] for row in summary["funnels"][part]), strict=True)]
            assert sums == [step[measure] for step in summary["funnel"]]
    counts = {step["step"]: step["documents"] for step in summary["funnel"]}
    assert counts["pages"] == len(site) > counts["extracted"] > counts["filters"] > counts["url dedup"] > counts["kept"]
    assert counts["extracted"] == len(site) - fates(herd)["no text"] - fates(herd)["hostile markup"]
    assert {row["name"] for row in summary["funnels"]["source"]} == {"one site", "another site"}
    pair = summary["duplicates"]["pairs"][0]
    assert pair["left"]["url"] != pair["right"]["url"]
    assert pair["left"]["text"] != pair["right"]["text"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("filters.min_words", 300),
        ("filters.min_words", 5),
        ("filters.max_words", 2_000),
        ("filters.max_link_share", 0.2),
        ("filters.max_duplicate_10", 0.02),
        ("filters.max_undecodable", 0.0),
        ("filters.min_language_score", 0.9),
        ("duplicates.lines_left_share", 0.97),
    ],
)
def test_a_what_if_equals_a_run(herd: Workspace, site: list[Page], tmp_path: Path, key: str, value: float) -> None:
    told = look(herd, "threshold", Wanted(key, value))
    again = raised(tmp_path, site, changed(OPTIONS, f"documents.{key}", value))
    names = RULES if key.startswith("filters") else {REPEATED_LINES}
    now, then = fates(herd), fates(again)
    expected = {name: (now[name], then[name]) for name in names if now[name] != then[name]}
    assert {
        row["filter"]: (row["drops now"], row["then"]) for row in told["filters"] if row["filter"] in names
    } == expected
    more = told["kept documents that would be dropped"] - told["dropped documents that would be let through"]
    assert sum(row["change"] for row in told["sources"]) == sum(row["change"] for row in told["languages"]) == more
    assert told["examples"] or not expected


def test_what_if_moves_real_documents(herd: Workspace) -> None:
    told = look(herd, "threshold", Wanted("too short", 1000))
    assert told["threshold"] == "documents.filters.min_words"
    assert told["kept documents that would be dropped"] > 3
    assert {row["source"] for row in told["sources"]} == {"one site", "another site"}
    assert all(50 <= example["measure"] < 1000 for example in told["examples"])


def test_a_share_of_the_best_equals_a_run(herd: Workspace, site: list[Page], tmp_path: Path) -> None:
    told = look(herd, "threshold", Wanted("best_share", 0.6))
    again = raised(tmp_path, site, changed(OPTIONS, "documents.quality.best_share", 0.6))
    best = {
        space: sum(row["tier"] == "best" for row in read_documents(space.folder("documents")))
        for space in (herd, again)
    }
    assert [row["documents"] for row in told["thresholds"]] == [*best.values()]
    assert sum(row["change"] for row in told["languages"]) == best[again] - best[herd] > 0


def test_a_higher_similarity_lets_unlike_copies_through(herd: Workspace) -> None:
    alike = [row["similarity"] for row in look(herd, "duplicates", Wanted(by="near"))]
    told = look(herd, "threshold", Wanted("duplicates.similarity", 1.0))
    assert told["dropped documents that would be let through"] == sum(similarity < 1 for similarity in alike) > 0
    with pytest.raises(InputError, match="run the documents again with --set documents"):
        look(herd, "threshold", Wanted("duplicates.similarity", 0.5))


def test_the_journey_of_a_kept_document(herd: Workspace) -> None:
    row = max(read_documents(herd.folder("documents")), key=lambda row: (row["split"] == "train", len(row["text"])))
    (journey,) = look(herd, "document", Wanted(row["url"]))
    assert [journey] == look(herd, "document", Wanted(row["id"][:12]))
    assert journey["fate"] == "kept"
    assert journey["page"]["source"] in ("one site", "another site")
    assert journey["page"]["crawled"] == row["crawled_at"]
    assert journey["language"]["language"] == row["language"]
    assert {rule["verdict"] for rule in journey["rules"]} == {"passed"}
    assert {rule["rule"] for rule in journey["rules"]} >= {"too short", "link list", "language unclear"}
    assert journey["scores"]["quality"] == round(row["quality"], 4)
    assert journey["sorted"]["split"] == "train"
    assert 0 < journey["mix"]["its share in pretrain"] <= 1
    assert row["text"].startswith(journey["text"][:500])


def test_the_journeys_of_dropped_documents(herd: Workspace) -> None:
    (short,) = look(herd, "document", Wanted(f"{SITE}short"))
    assert short["fate"].startswith("dropped by too short: ")
    broken = next(rule for rule in short["rules"] if rule["verdict"] == "broken")
    assert (broken["rule"], broken["limit"]) == ("too short", 50)
    assert broken["value"] < 10
    copy = next(row for row in read_dropped(herd.folder("documents")) if row["dropped_by"] == NEAR_DUPLICATE)
    (journey,) = look(herd, "document", Wanted(copy["url"]))
    assert journey["duplicates"]["its id"] == copy["twin"]
    assert 0.75 <= journey["duplicates"]["similarity"] <= 1
    (twin,) = look(herd, "document", Wanted(journey["duplicates"]["kept in its place"]))
    assert copy["url"] in {gone["url"] for gone in twin["duplicates gone in its favour"]}
    (deep,) = look(herd, "document", Wanted(f"{SITE}deep"))
    assert deep["fate"].startswith("dropped by hostile markup: ")
    assert "rules" not in deep


def test_dropped_documents_by_filter_language_and_source(herd: Workspace) -> None:
    rows = look(herd, "dropped", Wanted(limit=1000))
    assert len(rows) == sum(fates(herd).values()) - fates(herd)[""]
    for wanted in (Wanted(by="too short"), Wanted(language="en"), Wanted(source="another site")):
        found = look(herd, "dropped", wanted)
        asked = [(name, getattr(wanted, name)) for name in ("language", "source") if getattr(wanted, name)]
        assert found
        assert all(row[name] == value for row in found for name, value in asked)
        assert wanted.by is None or all(row["dropped_by"] == wanted.by for row in found)


def test_duplicates_show_what_differs(herd: Workspace) -> None:
    rows = look(herd, "duplicates", Wanted(by="near"))
    assert len(rows) == fates(herd)[NEAR_DUPLICATE] >= 3
    shown = " ".join(row["differences"] for row in rows)
    assert "[-thine-]{+the+}" in shown
    assert look(herd, "duplicates", Wanted(by="url"))[0]["dropped_by"] == URL_DUPLICATE
    with pytest.raises(InputError, match=r"choose from near-duplicates \(\d+\), url dedup \(1\)"):
        look(herd, "duplicates", Wanted(by="semantic"))


def test_a_duplicate_is_found_by_name_language_and_source(herd: Workspace) -> None:
    every = look(herd, "duplicates", Wanted(limit=1000))
    last = every[-1]
    for name in (last["url"], last["id"][:12]):
        assert last in look(herd, "duplicates", Wanted(name))
    assert len(look(herd, "duplicates", Wanted(language="en", limit=1000))) == len(every)
    with pytest.raises(InputError, match="nothing is of this kind"):
        look(herd, "duplicates", Wanted(language="xx"))
    (journey,) = look(herd, "document", Wanted(last["id"]))
    assert journey["duplicates"].get("differences") == last.get("differences")


@pytest.mark.parametrize(
    ("what", "wanted", "sentence"),
    [
        ("everything", Wanted(), "cannot inspect everything; choose from dropped, document, duplicates"),
        ("dropped", Wanted(by="magic"), r"choose from .*too short \(\d+\)"),
        ("document", Wanted(), "no document is named"),
        ("document", Wanted("nowhere"), "no page has the address or id nowhere"),
        ("document", Wanted("example.org/cop"), f"it is part of {SITE}copy/"),
        ("threshold", Wanted("min_wrods"), "there is no threshold min_wrods; did you mean min_words"),
        ("threshold", Wanted("duplicate n-grams"), "several thresholds; choose from documents.filters.max_duplicate_5"),
        ("threshold", Wanted("min_words", 1.5), "min_words: 1.5: input should be a valid integer"),
        ("threshold", Wanted("min_words", language="en"), "threshold cannot be chosen by language; use name, value"),
        ("threshold", Wanted("best_share", 2), "best_share: 2: input should be less than 1"),
    ],
)
def test_mistakes(herd: Workspace, what: str, wanted: Wanted, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        look(herd, what, wanted)


def test_ambiguous_beginnings_name_some(herd: Workspace) -> None:
    letters = Counter(row["id"][0] for row in read_documents(herd.folder("documents")))
    letter, count = letters.most_common(1)[0]
    assert count > 1
    with pytest.raises(InputError, match=f"ids begin with {letter}; choose from {letter}"):
        look(herd, "document", Wanted(letter))


def test_another_recipe_is_noticed(herd: Workspace, tmp_path: Path) -> None:
    (tmp_path / "documents").symlink_to(herd.folder("documents"))
    other = changed(OPTIONS, "documents.filters.min_words", 200)
    write_json(tmp_path / "recipe.json", {"documents": other.model_dump(mode="json")})
    with pytest.raises(InputError, match="but by the recipe too short; raise the herd again"):
        look(Workspace(tmp_path), "threshold", Wanted("min_words", 100))
    write_json(tmp_path / "recipe.json", {"documents": {"never": 1}})
    with pytest.raises(WorkspaceError, match="cannot be read as a recipe of this version"):
        look(Workspace(tmp_path), "threshold", Wanted("min_words"))


def test_the_command_prints_tables_and_json(herdsman: Herdsman, herd: Workspace) -> None:
    told = herdsman("inspect", herd.root, "threshold", "min_words", "300").stdout
    assert "threshold: documents.filters.min_words\n" in told
    assert "drops now" in told
    found: list[dict[str, Any]] = json.loads(
        herdsman("inspect", herd.root, "document", f"{SITE}short", "--json").stdout
    )
    assert found[0]["page"]["address"] == f"{SITE}short"
    marked = herdsman("inspect", herd.root, "duplicates", "--by", "near", "--limit", "3")
    assert "[-thine-]{+the+}" in marked.stdout
    coloured = herdsman("inspect", herd.root, "duplicates", "--limit", "3", FORCE_COLOR="1").stdout
    assert "\x1b[31m[-thine-]\x1b[0m\x1b[32m{+the+}" in coloured
    assert herdsman("inspect", herd.root, "dropped", "--by", "magic").returncode == 2
