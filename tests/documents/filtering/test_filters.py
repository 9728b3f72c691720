"""Filters: each rule drops what it is for and says why; prose, references and programs pass."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from herdsman.documents.extraction.blocks import CODE, ITEM, PROSE, ROW
from herdsman.documents.filtering.filter_options import FILTERS, FilterOptions
from herdsman.documents.filtering.filters import FEATURES, RULES, first_broken
from herdsman.documents.filtering.measures import STOP_WORDS, measure
from herdsman.documents.filtering.repetition import repeated_grams, repeated_pieces
from herdsman.documents.options import DocumentsOptions
from herdsman.documents.page_to_document import Candidate, Dropped, document_of

EXTRACTED = {"chars": 1000.0, "code_chars": 0.0, "link_chars": 20.0, "undecodable": 0.0, "blocks": 1.0}
EXTRACTED |= dict.fromkeys(("rows", "terms", "headings", "formulas"), 0.0)
OPTIONS = FilterOptions()
WHOLE = DocumentsOptions(filters=FilterOptions(block_lists=()))


NOUNS = ["river", "mill", "farmer", "bridge", "letter", "winter", "garden", "teacher", "window", "harbour", "engine"]
NOUNS += ["forest", "song", "market", "cellar", "lantern", "orchard", "quarry", "ferry", "kitchen", "tower", "meadow"]
VERBS = ["carried", "followed", "crossed", "repaired", "remembered", "painted", "measured", "sold", "opened", "watched"]
SMALL = ["in", "of", "with", "beside", "before", "behind", "near", "for", "under", "after", "without", "and", "to the"]


def prose(seed: int = 1, sentences: int = 30) -> str:
    """Sentences that repeat no more than people do."""
    drawn = random.Random(seed)

    def phrase() -> str:
        return f"{drawn.choice(('the', 'a', 'that', 'his', 'one'))} {drawn.choice(NOUNS)}"

    return " ".join(
        f"{phrase()} {drawn.choice(VERBS)} {phrase()} {drawn.choice(SMALL)} {phrase()} "
        f"{drawn.choice(SMALL)} {phrase()}."
        for _ in range(sentences)
    ).capitalize()


def verdict(
    text: str, kinds: str | None = None, language: str = "en", score: float = 0.9, options: FilterOptions = OPTIONS,
    **extracted: float,
) -> tuple[str, str] | None:  # fmt: skip
    kinds = kinds or "".join(PROSE if line else " " for line in text.split("\n"))
    facts: dict[str, Any] = measure(text, kinds, language, EXTRACTED | extracted)
    return first_broken({"language": language, "language_score": score, **facts, **extracted}, options)


def page(html: str) -> dict[str, Any]:
    return {
        "url": "https://Site.example:443/a/index.html?utm_source=x#top",
        "domain": "site.example",
        "crawled_at": "2024-05-01T00:00:00Z",
        "html": html.encode(),
        "content_type": "text/html; charset=utf-8",
        "source": "test",
        "licence": "CC0",
    }


def test_prose_passes() -> None:
    assert verdict(prose()) is None


def test_a_long_manual_passes_as_a_short_one_does() -> None:
    # Over a whole text repetition grows with its length; within windows it does not.
    assert verdict("\n".join(prose(seed) for seed in range(40))) is None


def test_a_page_of_code_with_a_few_words_passes() -> None:
    code = "\n".join(f"    total_{n} = left[{n}] + right[{n}];  // {{" for n in range(200))
    text = f"How totals are made\n\n{code}"
    kinds = f"1 {CODE * 200}"
    assert verdict(text, kinds, score=0.2, chars=len(text), code_chars=len(code)) is None


def test_a_reference_with_tables_passes() -> None:
    rows = "\n".join(f"option_{n} | yes | no | yes | no" for n in range(60))
    assert verdict(f"{prose()}\n{rows}", PROSE + ROW * 60) is None


OF_PROSE = ("few sentences", "unfinished lines", "short lines")  # which apply to ten blocks and more
DROPPED = {
    "no text": ("", "nothing is left"),
    "too short": ("The river rose in the night.", "6 words"),
    "few letters": (prose() + " 12 34 == 56 :: 78" * 60, "48%"),
    "few sentences": (prose().replace(".", ","), "0 ends"),
    "odd word length": (
        "The river and " + "of.antidisestablishmentarianism.electroencephalograph " * 50,
        "50.2 characters",
    ),
    "symbols": (prose().replace(" the ", " the## "), "number signs"),
    "unfinished lines": (prose() + "\n" + prose(2).replace(". ", "\n"), "6%"),
    "short lines": (prose().replace(" ", ".\n"), "100%"),
    "policy lines": (prose(1, 4).replace(". ", ".\n") + "\nWe use cookies. Read our cookie policy." * 3, "43%"),
    "placeholder text": (prose(1, 12).replace(". ", ".\n") + " Lorem ipsum dolor sit amet.", "8%"),
    "dirty words": (prose(1, 12) + " Fuck the cunt and the slut! Fuck!", "3 different"),
    "ellipsis lines": (prose().replace(". ", "...\n"), "97%"),
    "bullet lines": ("• " + prose().replace(". ", ".\n• "), "100%"),
    "script in the text": (prose(1, 6) + "\n" + prose(2).replace(". ", ") {\n"), "80%"),
    "outlier words": (prose(1, 6) + " QmFzZTY0IGlzIG5vdCBhIGxhbmd1YWdlIGF0IGFsbCwgbm8u1" * 3, "27%"),
    "duplicate lines": ("\n".join([prose(1, 3), prose(2, 3)] * 3), "67%"),
    "few stop words": (" ".join(f"{a}{b}" for a in NOUNS for b in ("rod", "bar", "tube", "wire", "pin")), "0 of"),
}


@pytest.mark.parametrize("name", DROPPED)
def test_each_rule_drops_what_it_is_for(name: str) -> None:
    text, number = DROPPED[name]
    result = verdict(text, blocks=12.0 if name in OF_PROSE else 1.0)
    assert result is not None
    assert result[0] == name
    assert number in result[1]
    assert "{" not in result[1]


def test_logs_are_duplicate_n_grams() -> None:
    templates = [prose(seed, 2) for seed in range(6)]
    result = verdict("\n".join(f"{n:05d} {templates[n % 6]}" for n in range(60)))
    assert result is not None
    assert result[0] == "duplicate n-grams"


def test_a_keyword_page_is_one_frequent_phrase() -> None:
    drawn = random.Random(3)
    words = [word for _ in range(120) for word in ("cheap", "watches", *drawn.sample(prose().split(), 3))]
    result = verdict(" ".join(words))
    assert result is not None
    assert result[0] == "frequent phrase"


@pytest.mark.parametrize(
    ("name", "facts"),
    [
        ("undecodable", {"undecodable": 0.02}),
        ("link list", {"link_chars": 700.0}),
        ("adult address", {"adult_url_words": 2}),
        ("private data", {"masked": 12, "private": 55.0}),
    ],
)
def test_rules_on_what_extraction_saw(name: str, facts: dict[str, float]) -> None:
    result = verdict(prose(), **facts)
    assert result is not None
    assert result[0] == name


def test_private_use_characters_are_noise() -> None:
    result = verdict(prose() + " \ue001\ue002\ufffd" * 30)
    assert result is not None
    assert result[0] == "undecodable"


def test_language_rules() -> None:
    assert verdict(prose(), score=0.3) == ("language unclear", "en with a probability of 0.30 (at least 0.40)")
    wanted = FilterOptions(languages=("de", "fr"))
    assert verdict(prose(), options=wanted) == ("language not wanted", "the language is en")
    assert verdict(prose(), options=FilterOptions(languages=("en",))) is None


def test_chinese_is_counted_by_characters() -> None:
    text = "春天来了河水在夜里涨起来农民们一早就把牛羊赶到山坡上去孩子们站在桥头看着水流带走去年的落叶和枯枝"
    text += "老人说这样的大水他只在年轻时见过一次"
    assert verdict(text, language="zh") is None
    assert measure(text, PROSE, "zh", EXTRACTED)["words"] == len(text)


def test_rules_can_be_switched_off_one_by_one_or_all() -> None:
    shop = DROPPED["few stop words"][0]
    assert verdict(shop, options=FilterOptions(off=("few stop words",))) is None
    assert verdict(shop, options=FilterOptions(off=("symbols",))) is not None
    assert verdict("One line.", options=FilterOptions(enabled=False)) is None
    assert verdict("", options=FilterOptions(enabled=False)) is not None


def test_the_options_know_every_rule_by_name() -> None:
    assert tuple(dict.fromkeys(rule.name for rule in RULES)) == ("no text", *FILTERS)
    with pytest.raises(ValidationError, match='there is no filter "too shrt"'):
        FilterOptions(off=("too shrt",))


def test_limits_are_the_published_ones() -> None:
    limits = {rule.limit: rule.limit_in(OPTIONS) for rule in RULES}
    # Rae et al. 2021, tables A1 and A2; Penedo et al. 2024, section 3.4.
    assert [limits[f"max_top_{size}"] for size in (2, 3, 4)] == [0.20, 0.18, 0.16]
    assert [limits[f"max_duplicate_{n}"] for n in ("lines", "line_chars", "paragraphs", "paragraph_chars")] == [
        0.3, 0.2, 0.3, 0.2,
    ]  # fmt: skip
    assert (limits["min_word_chars"], limits["max_word_chars"], limits["min_stop_words"]) == (3, 10, 2)
    assert (limits["min_finished_lines"], limits["max_short_lines"]) == (0.12, 0.67)
    for size, published in zip(range(5, 11), (15, 14, 13, 12, 11, 10), strict=True):
        assert limits[f"max_duplicate_{size}"] == pytest.approx(2 * published / 100)


def test_a_rule_says_nothing_about_what_was_not_measured() -> None:
    facts = dict.fromkeys(FEATURES) | {"language": None, "language_score": None}
    assert first_broken(facts, FilterOptions(languages=("en",))) is None
    assert {rule.feature for rule in RULES} <= {*FEATURES, "language", "language_score"}


def test_every_limit_moves_its_rule(html_folder: Path) -> None:
    # On real pages: from the stored measures alone, a limit beyond a page's measure turns its rule on or off.
    paths = sorted(html_folder.rglob("*.html"))[::9]
    found = [document_of(page(path.read_text(encoding="utf-8", errors="replace")), WHOLE) for path in paths]
    assert sum(isinstance(one, Candidate) for one in found) > 0.6 * len(found)
    checked = set()
    for one in found:
        facts: dict[str, Any] = {**one.features, "language": one.language, "language_score": one.language_score}
        assert set(one.features) <= set(FEATURES)
        for rule in RULES:
            limit, value = rule.limit_in(OPTIONS), facts.get(rule.feature)
            if not isinstance(limit, int | float) or not rule.limit or not value or not rule.applies(facts):
                continue
            step = 0.01 * value if isinstance(limit, float) else 1
            beyond = value - step if rule.above else value + step
            assert rule.broken(facts, OPTIONS.model_copy(update={rule.limit: beyond})), rule
            assert not rule.broken(facts, OPTIONS.model_copy(update={rule.limit: value})), rule
            checked.add(rule.limit)
    assert len(checked) > 15


def test_one_dirty_word_and_medicine_pass() -> None:
    assert verdict(prose().replace("bridge", "shit", 9)) is None
    assert verdict(prose().replace("bridge", "penis").replace("mill", "vagina").replace("river", "semen")) is None
    assert verdict(prose(1, 60) + " fuck, cunt and slut") is None  # three of many hundred words: quoted


def test_dirty_words_are_whole_words_except_without_spaces() -> None:
    assert measure("Scunthorpe assesses classics", PROSE, "en", EXTRACTED)["dirty_words"] == 0
    assert measure("(Fuck!) fuck, it", PROSE, "en", EXTRACTED)["dirty_words"] == 1
    assert measure("這是肛交的故事", PROSE, "zh", EXTRACTED)["dirty_words"] == 1
    assert "dirty_words" not in measure("tekst", PROSE, "is", EXTRACTED)


def test_languages_without_a_list_of_stop_words_are_not_judged_by_them() -> None:
    assert "is" not in STOP_WORDS
    shop = DROPPED["few stop words"][0]
    assert verdict(shop, language="is") is None


def brute_force(words: list[str], size: int) -> tuple[float, float]:
    """(share in the n-gram that takes up most, share in repeated n-grams), straight from the definitions."""
    grams = [tuple(words[at : at + size]) for at in range(len(words) - size + 1)]
    total = sum(map(len, words))
    counts = {gram: grams.count(gram) for gram in grams}
    top = max((sum(map(len, gram)) * count for gram, count in counts.items() if count > 1), default=0)
    covered = {at + part for at, gram in enumerate(grams) if gram in grams[:at] for part in range(size)}
    return min(top / total, 1), sum(len(words[at]) for at in covered) / total


def grams(words: list[str], window_words: int = 1000) -> dict[str, float]:
    numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
    ids = np.array([numbers[word] for word in words], np.int64)
    return repeated_grams(ids, np.array([len(word) for word in words], np.int64), window_words)


@pytest.mark.parametrize("seed", range(20))
def test_repetition_equals_its_definition(seed: int) -> None:
    drawn = random.Random(seed)
    words = [drawn.choice(("a", "bb", "ccc", "dddd")[: drawn.randint(1, 4)]) for _ in range(drawn.randint(1, 60))]
    measures = grams(words)
    for size in (2, 3, 4):
        assert measures[f"top_{size}"] == pytest.approx(brute_force(words, size)[0], abs=1e-4)
    for size in range(5, 11):
        assert measures[f"duplicate_{size}"] == pytest.approx(brute_force(words, size)[1], abs=1e-4)


def test_repeated_lines_by_hand() -> None:
    assert repeated_pieces(["one two", "one two", "three", "one two"]) == (0.5, pytest.approx(14 / 26))
    assert repeated_pieces(["x", "y"]) == (0, 0)
    assert repeated_pieces(["one two", "three four", "one two"], window_words=3) == (0, 0)


def test_windows_forget_what_came_long_before() -> None:
    words = [f"w{n}" for n in range(100)]
    assert grams(words * 2, window_words=100)["duplicate_5"] == pytest.approx(0.0, abs=0.05)
    assert grams(words * 2, window_words=1000)["duplicate_5"] == pytest.approx(0.5, abs=0.01)


def test_a_page_becomes_a_document_with_all_its_fields() -> None:
    html = (
        f"<title>T</title><main><h1>On mills</h1><p>{prose()}</p><p>Write to jane.doe@mill-owners.org soon.</p></main>"
    )
    found = document_of(page(html), WHOLE)
    assert isinstance(found, Candidate)
    assert found.normalised_url == "https://site.example/a/"
    assert (found.domain, found.source, found.licence) == ("site.example", "test", "CC0")
    assert found.crawled_at == "2024-05-01T00:00:00Z"
    assert found.language == "en"
    assert found.masked == {"email": 1}
    assert "jane.doe" not in found.text
    assert len(found.kinds) == len(found.text.split("\n"))
    assert set(found.features) == set(FEATURES)


def test_private_data_does_not_stay_in_a_title() -> None:
    html = f"<head><title>Write to jane.doe@mill-owners.org</title></head><p>{prose(3, 9)}</p>"
    found = document_of(page(html), WHOLE)
    assert isinstance(found, Candidate)
    assert found.title == "Write to name@example.org"


def test_without_filters_block_lists_drop_nothing(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("site.example\n")
    listed = {"block_lists": (str(tmp_path / "list"),)}
    one = page(f"<p>{prose(3, 9)}</p>")
    for enabled, kind in ((True, Dropped), (False, Candidate)):
        options = DocumentsOptions(filters=FilterOptions(enabled=enabled, **listed))
        assert isinstance(document_of(one, options), kind)


def test_private_data_does_not_get_into_what_was_dropped() -> None:
    found = document_of(page("<p>Call jane.doe@mill-owners.org today.</p>"), WHOLE)
    assert isinstance(found, Dropped)
    assert found.dropped_by == "too short"
    assert "jane.doe" not in found.text


def test_lists_read_from_a_page_are_lists() -> None:
    html = "<main><ul>" + "".join(f"<li>{prose(n, 1)}</li>" for n in range(40)) + "</ul></main>"
    found = document_of(page(html), WHOLE)
    assert isinstance(found, Dropped)
    assert found.dropped_by == "bullet lines"
    kept = document_of(page(html), DocumentsOptions(filters=FilterOptions(off=("bullet lines",), block_lists=())))
    assert isinstance(kept, Candidate)
    assert set(kept.kinds) == {ITEM}
