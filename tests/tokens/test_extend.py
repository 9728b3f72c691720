"""An extended vocabulary keeps its base: ids stay, and a text is cut at fewer of the places where the base cuts it."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from herdsman.errors import InputError
from herdsman.files import read_json
from herdsman.progress import SILENT
from herdsman.tokens.learn import learn_tokenizer, train
from herdsman.tokens.options import TokenizerOptions
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import extend, last_merge, read_ranks, write_ranks
from herdsman.workspace import Work
from tests.tokens.material import ADVERSARIAL, document, foreign, random_texts, real_texts, write_documents

TEXTS = [*ADVERSARIAL.values(), *real_texts()[:20], *map(foreign, real_texts()[20:40]), *random_texts(300)]


def test_new_tokens_come_after_the_base_in_the_order_they_were_learned(small_ranks: dict[bytes, int]) -> None:
    learned = train([foreign(text) for text in real_texts()], 1000)
    ranks = extend(small_ranks, learned, 300)
    assert len(ranks) == len(small_ranks) + 300
    assert {token: ranks[token] for token in small_ranks} == small_ranks
    new = [token for token in learned if token not in small_ranks]
    assert [token for token in ranks if ranks[token] >= len(small_ranks)] == sorted(new, key=learned.__getitem__)[:300]
    assert extend(small_ranks, small_ranks, 300) == small_ranks


def cuts(tokenizer: Tokenizer, ids: list[int]) -> set[int]:
    return set(accumulate(len(tokenizer.decode_bytes([id])) for id in ids))


def test_a_text_is_cut_where_the_base_cuts_it(extended: Tokenizer, small: Tokenizer) -> None:
    changed = 0
    for text in TEXTS:
        before, after = small.encode(text), extended.encode(text)
        assert cuts(extended, after) <= cuts(small, before)
        new = any(id >= small.bpe_tokens for id in after)
        assert new or after == before
        changed += new
    assert 0 < changed < len(TEXTS)


def test_llama_3_was_put_together_like_this(meta_ranks: dict[bytes, int], extended_ranks: dict[bytes, int]) -> None:
    """Tokens that are no merge of earlier ones can only come from another training: in Llama 3, and here."""
    for ranks, base_tokens in ((meta_ranks, 100_256), (extended_ranks, 2048)):
        apart = [rank for token, rank in ranks.items() if len(token) > 1 and last_merge(token, ranks) is None]
        assert apart
        assert min(apart) >= base_tokens


# The stage.


def documents() -> list[dict[str, Any]]:
    """Half of them English, the others in two languages of which one has little."""
    texts = [text[:3000] for text in real_texts()]
    rows = [document(text, number, language="en") for number, text in enumerate(texts[:40])]
    rows += [document(foreign(text), 100 + number, language="uk") for number, text in enumerate(texts[40:])]
    few = "\u0e40\u0e01\u0e48\u0e32 "
    return rows + [document(few * number, 200 + number, language="th") for number in range(1, 10)]


def learn(root: Path, rows: list[dict[str, Any]] | None = None, **options: Any) -> Work:
    folder = write_documents(root / "documents", rows or documents(), 2)
    (root / "tokenizer").mkdir()
    work = Work("tokenizer", root / "tokenizer", {"documents": folder}, 1, 1, SILENT)
    learn_tokenizer(TokenizerOptions(**options), work)
    return work


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory) -> Work:
    return learn(tmp_path_factory.mktemp("extended"), vocab_size=900, extension_tokens=300)


def test_the_base_is_learned_from_its_languages_and_the_rest_from_all_others(raised: Work) -> None:
    ranks = read_ranks(raised.out / "tokenizer.model")
    base = train([row["text"] for row in documents() if row["language"] == "en" and row["split"] == "train"], 600)
    assert len(ranks) == 900
    assert {token: rank for token, rank in ranks.items() if rank < 600} == base
    new = b"".join(token for token, rank in ranks.items() if rank >= 600).decode("utf-8", errors="ignore")
    assert any("\u0e00" <= letter <= "\u0e7f" for letter in new)  # the language with little text, too
    assert any("\u0430" <= letter <= "\u044f" for letter in new)
    assert Tokenizer.load(raised.out).special["<|begin_of_text|>"] == 900


def test_compression_is_measured_before_and_after(raised: Work) -> None:
    summary = read_json(raised.out / "summary.json")
    ranks = read_ranks(raised.out / "tokenizer.model")
    before = Tokenizer({token: rank for token, rank in ranks.items() if rank < 600})
    by_language = {row["language"]: row for row in summary["by_language"]}
    held_out = [row["text"] for row in documents() if row["split"] == "held_out" and row["language"] == "uk"]
    assert by_language["uk"]["base_tokens"] == sum(len(before.encode(text)) for text in held_out)
    assert by_language["uk"]["bytes_per_token"] > 1.3 * by_language["uk"]["base_bytes_per_token"]
    assert by_language["en"]["base_tokens"] >= by_language["en"]["tokens"] > 0.99 * by_language["en"]["base_tokens"]
    assert summary["extension"]["new_tokens"] == 300 == raised.counts["new_tokens"]
    read = {row["language"]: row for row in summary["extension"]["languages"]}
    assert set(read) == {"uk", "th"}
    assert read["th"]["bytes_read"] > read["th"]["bytes"]  # little text counts for more than it is


def test_what_no_extension_was_asked_for_is_not_reported(tmp_path: Path) -> None:
    summary = read_json(learn(tmp_path, vocab_size=400).out / "summary.json")
    assert "extension" not in summary
    assert all("base_tokens" not in row for row in [summary["held_out"], *summary["by_language"]])


def test_an_existing_vocabulary_is_extended(tmp_path: Path, small_ranks: dict[bytes, int]) -> None:
    write_ranks(tmp_path / "base.model", small_ranks)
    options = {"base": str(tmp_path / "base.model"), "extension_tokens": 100}
    ranks = read_ranks(learn(tmp_path / "whole", vocab_size=2148, **options).out / "tokenizer.model")
    assert len(ranks) == 2148
    assert {token: rank for token, rank in ranks.items() if rank < 2048} == small_ranks
    ranks = read_ranks(learn(tmp_path / "first", vocab_size=1100, **options).out / "tokenizer.model")
    assert {token: rank for token, rank in ranks.items() if rank < 1000} == {
        token: rank for token, rank in small_ranks.items() if rank < 1000
    }
    options["extension_tokens"] = 0
    unchanged = learn(tmp_path / "as it is", vocab_size=2048, **options)
    assert (unchanged.out / "tokenizer.model").read_bytes() == (tmp_path / "base.model").read_bytes()
    with pytest.raises(InputError, match=r"holds 2,048 tokens, fewer than the 3,000 .*; lower tokenizer.vocab_size"):
        learn(tmp_path / "too small", vocab_size=3000, **options)


def test_a_stage_killed_after_the_base_learns_only_the_extension(tmp_path: Path, raised: Work) -> None:
    folder = write_documents(tmp_path / "documents", documents(), 2)
    (tmp_path / "tokenizer").mkdir()
    work = Work("tokenizer", tmp_path / "tokenizer", {"documents": folder}, 1, 1, SILENT)
    base = {token: rank for token, rank in read_ranks(raised.out / "tokenizer.model").items() if rank < 600}
    del base[next(token for token, rank in base.items() if rank == 599)]  # a mark that it was not learned again
    write_ranks(work.scratch / "tokenizer.model", base)
    learn_tokenizer(TokenizerOptions(vocab_size=900, extension_tokens=300), work)
    ranks = read_ranks(work.out / "tokenizer.model")
    assert len(ranks) == 899
    assert {token: rank for token, rank in ranks.items() if rank < 599} == base


@pytest.mark.parametrize("languages", [("fr",), ("en", "uk", "th")])
def test_no_text_in_the_languages_is_one_sentence(tmp_path: Path, languages: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"no text to learn from.*; gather pages in these .*base_languages"):
        learn(tmp_path, vocab_size=900, extension_tokens=300, base_languages=languages)


def test_an_extension_that_leaves_no_room_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValidationError, match="leave the base 200 tokens; it needs at least 256"):
        TokenizerOptions(vocab_size=1000, extension_tokens=800)
