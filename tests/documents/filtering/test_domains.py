"""Block lists: domains, those below them, and addresses; and domains full of private data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from herdsman.artifacts import cache_folder
from herdsman.documents.filtering.domains import UT1, BlockList, adult_words, dense_domains
from herdsman.documents.filtering.filter_options import FilterOptions
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.page_to_document import BLOCKED, Dropped, document_of
from herdsman.errors import InputError


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilterOptions:
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path / "cache"))
    gambling = tmp_path / "gambling"
    gambling.mkdir()
    (gambling / "domains").write_text("# a comment\nbets.example\n10.2.3.4\nwww.Dice.example\n\n")
    (gambling / "urls").write_text("http://www.mixed.example/Casino/\n")
    (tmp_path / "mine.txt").write_text("bad.example\nuk.bets.example\n")
    lists = (str(gambling), str(tmp_path / "mine.txt"))
    return FilterOptions(block_lists=lists, allow_list=("Fair.bets.example",))


@pytest.mark.parametrize(
    ("url", "category"),
    [
        ("https://bets.example/a?b", "gambling"),
        ("http://BETS.example:8080", "gambling"),
        ("https://a.b.bets.example./", "gambling"),
        ("https://dice.example/", "gambling"),
        ("https://www.dice.example/", "gambling"),
        ("https://10.2.3.4/x", "gambling"),
        ("https://mixed.example/casino", "gambling"),
        ("https://www.mixed.example/casino/?page=2", "gambling"),
        ("https://bad.example/", "mine"),
        ("https://fair.bets.example/", ""),
        ("https://more.fair.bets.example/", ""),
        ("https://mixed.example/casinos", ""),
        ("https://mybets.example/", ""),
        ("https://bets.example.org/", ""),
        ("https://example/", ""),
        ("https://3.4/", ""),
        ("pypi://bets.example/", ""),
        ("https://[broken/", ""),
        ("", ""),
    ],
)
def test_domains_below_a_listed_one_and_listed_addresses_are_blocked(
    url: str, category: str, options: FilterOptions
) -> None:
    assert BlockList.open(options).category(url) == category


def test_a_list_is_made_once_and_anew_when_it_changes(options: FilterOptions) -> None:
    BlockList.open(options)
    made = sorted((cache_folder() / "block-lists").iterdir())
    times = [path.stat().st_mtime_ns for path in made]
    BlockList.open(options)
    assert [path.stat().st_mtime_ns for path in made] == times
    Path(options.block_lists[1]).write_text("other.example\n")
    changed = BlockList.open(options)
    assert changed.category("https://other.example/") == "mine"
    assert changed.category("https://bad.example/") == ""


def test_a_list_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="there is no block list lists/none"):
        BlockList.open(FilterOptions(block_lists=("lists/none",)))


def test_the_default_list_knows_millions_and_no_site_of_reference() -> None:
    blocks = BlockList.open(FilterOptions())
    assert FilterOptions().block_lists == (UT1,)
    (listed,) = (cache_folder() / "block-lists").glob("b0846fc2*.npy")
    assert len(np.load(listed, mmap_mode="r")) > 4_500_000
    assert blocks.category("https://www.xxxmatureass.com/index.html") == UT1
    good = ["python.org", "docs.python.org", "github.com", "en.wikipedia.org", "debian.org", "arxiv.org", "nih.gov"]
    assert [domain for domain in good if blocks.category(f"https://{domain}/")] == []


def test_a_blocked_page_is_dropped_unread(options: FilterOptions) -> None:
    page = {"url": "https://bets.example/", "html": b"<div>" * 5_000, "content_type": "", "domain": "bets.example",
            "crawled_at": "", "source": "test", "licence": ""}  # fmt: skip
    found = document_of(page, DocumentsOptions(filters=options))
    assert isinstance(found, Dropped)
    assert (found.dropped_by, found.text) == (BLOCKED, "")
    assert found.reason == "the block list gambling has the address or its domain"


def test_adult_words_are_whole_and_different() -> None:
    assert adult_words("https://free-porn.example/XXX/milf_1.html") == 3
    assert adult_words("https://sussex.example/essex/adult-education/adult") == 1


def test_domains_full_of_private_data() -> None:
    domains = ["people.example"] * 3 + ["news.example"] * 3 + ["tiny.example"]
    masked, words = [20, 0, 25, 1, 0, 30, 30], [400, 300, 400, 5_000, 4_000, 3_000, 90]
    assert dense_domains(domains, masked, words, FilterOptions()) == {"people.example"}
    assert dense_domains(domains, masked, words, FilterOptions(max_domain_private=50)) == set()
    assert dense_domains([], [], [], FilterOptions()) == set()
