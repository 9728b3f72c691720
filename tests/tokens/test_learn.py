"""The vocabulary is the one that plain BPE gives, whatever the order of the documents."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import regex
import rustbpe

from herdsman.errors import InputError
from herdsman.files import read_json
from herdsman.progress import SILENT
from herdsman.tokens.learn import learn_tokenizer, train
from herdsman.tokens.options import TokenizerOptions
from herdsman.tokens.tokenizer import Tokenizer, readable
from herdsman.tokens.vocabulary import SPLIT_PATTERN, last_merge, read_ranks
from herdsman.workspace import Work, Workspace
from tests.tokens.material import ADVERSARIAL, document, raise_tokens, real_documents, real_texts, write_documents


def plain_bpe(texts: list[str], vocab_size: int) -> dict[bytes, int]:
    """BPE as it is told: count all pairs, merge the most frequent one (of equals the lowest ids), begin again."""
    words = Counter(tuple(piece.encode()) for text in texts for piece in regex.findall(SPLIT_PATTERN, text))
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < vocab_size:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, count in words.items():
            for pair in pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merged: Counter[tuple[int, ...]] = Counter()
        for word, count in words.items():
            parts: list[int] = []
            for part in word:
                if parts and (parts[-1], part) == best:
                    parts[-1] = len(tokens)
                else:
                    parts.append(part)
            merged[tuple(parts)] += count
        words = merged
        tokens.append(tokens[best[0]] + tokens[best[1]])
    return {token: rank for rank, token in enumerate(tokens)}


def test_learns_what_plain_bpe_learns() -> None:
    assert train(real_texts()[:6], 400) == plain_bpe(real_texts()[:6], 400)
    assert train(list(ADVERSARIAL.values()), 600) == plain_bpe(list(ADVERSARIAL.values()), 600)


def test_a_vocabulary_too_large_for_the_text_takes_every_merge() -> None:
    texts = ["the shepherd and the sheep", "the herd"]
    assert train(texts, 100_000) == plain_bpe(texts, 100_000)
    assert len(train([""], 1000)) == len(train([], 1000)) == 256


def test_order_of_the_texts_does_not_matter() -> None:
    texts = real_texts()
    expected = train(texts, 1500)
    for seed in range(3):
        random.Random(seed).shuffle(texts)
        assert train(texts, 1500) == expected


def test_every_token_is_a_merge_of_earlier_ones(small_ranks: dict[bytes, int]) -> None:
    for token, rank in small_ranks.items():
        if len(token) > 1:
            parts = last_merge(token, small_ranks)
            assert parts is not None
            assert b"".join(parts) == token
            assert max(map(small_ranks.__getitem__, parts)) < rank
    assert last_merge(b"a", small_ranks) is None


def test_every_token_of_a_piece_is_written_as_itself(small: Tokenizer, small_ranks: dict[bytes, int]) -> None:
    for token, rank in small_ranks.items():
        if len(token) > 1 and token.decode("utf-8", errors="ignore").encode() == token:
            assert small.encode(token.decode()) == [rank]


# The stage.


def learn(root: Path, documents: list[dict], shards: int = 1, **options: int) -> Work:
    """Runs the stage outside a workspace, so that its scratch folder stays."""
    folder = write_documents(root / "documents", documents, shards)
    (root / "tokenizer").mkdir()
    work = Work("tokenizer", root / "tokenizer", {"documents": folder}, 1, 1, SILENT)
    learn_tokenizer(TokenizerOptions(**options), work)
    return work


def test_the_stage_equals_rustbpe_on_the_training_texts(herd: Workspace) -> None:
    trainer = rustbpe.Tokenizer()
    texts = [row["text"] for row in real_documents() if row["split"] == "train"]
    trainer.train_from_iterator(iter(texts), 512, pattern=SPLIT_PATTERN)
    expected = {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}
    assert read_ranks(herd.folder("tokenizer") / "tokenizer.model") == expected


def test_the_result_depends_neither_on_shards_nor_on_their_order(tmp_path: Path) -> None:
    results = []
    for number, shards in enumerate((1, 4)):
        documents = real_documents()
        random.Random(number).shuffle(documents)
        work = learn(tmp_path / str(number), documents, shards, vocab_size=512, training_bytes=200_000)
        files = {path.name: path.read_bytes() for path in work.out.iterdir() if path.name != "summary.json"}
        assert sorted(files) == ["special_tokens.json", "tokenizer.json", "tokenizer.model"]
        results.append(files)
    assert results[0] == results[1]


def test_a_stage_killed_after_learning_ends_the_same(tmp_path: Path, herd: Workspace) -> None:
    """The vocabulary, the only long work, is not learned twice."""
    folder = write_documents(tmp_path / "documents", real_documents(), shards=3)
    (tmp_path / "tokenizer").mkdir()
    model = (herd.folder("tokenizer") / "tokenizer.model").read_bytes()
    (tmp_path / "tokenizer" / "tokenizer.model").write_bytes(model)
    work = Work("tokenizer", tmp_path / "tokenizer", {"documents": folder}, 1, 1, SILENT)
    learn_tokenizer(TokenizerOptions(vocab_size=512), work)
    for name in ("tokenizer.model", "tokenizer.json", "special_tokens.json", "summary.json"):
        assert (work.out / name).read_bytes() == (herd.folder("tokenizer") / name).read_bytes()


def test_a_vocabulary_too_large_is_reported(tmp_path: Path) -> None:
    work = learn(tmp_path, [document("the herd", 0), document("the flock", 9)], vocab_size=50_000)
    reached = len(plain_bpe(["the herd"], 50_000))
    assert work.counts["bpe_tokens"] == reached < 270
    assert work.counts["rows"] == reached + 256
    summary = read_json(work.out / "summary.json")
    expected = {"asked": 50_000, "bpe_tokens": reached, "special_tokens": 256, "rows": reached + 256}
    assert summary["vocabulary"] == expected
    assert Tokenizer.load(work.out).decode(Tokenizer.load(work.out).encode("the herd")) == "the herd"


def test_figures_of_the_summary_are_measured_on_held_out_documents(herd: Workspace) -> None:
    summary = read_json(herd.folder("tokenizer") / "summary.json")
    tokenizer = Tokenizer.load(herd.folder("tokenizer"))
    held_out = [row for row in real_documents() if row["split"] == "held_out"]
    size = sum(len(row["text"].encode()) for row in held_out)
    tokens = sum(len(tokenizer.encode(row["text"])) for row in held_out)
    assert summary["held_out"]["bytes_per_token"] == round(size / tokens, 4)
    assert sum(row["tokens"] for row in summary["by_category"]) == summary["held_out"]["tokens"] == tokens
    code = [row for row in held_out if row["category"] == "code"]
    measured = next(row for row in summary["by_category"] if row["category"] == "code")
    assert measured["documents"] == len(code)
    assert measured["characters"] == sum(len(row["text"]) for row in code)
    assert "".join(summary["example"]) == held_out[0]["text"][:400]
    ranks = read_ranks(herd.folder("tokenizer") / "tokenizer.model")
    assert summary["first_merges"][0]["token"] == readable(next(token for token in ranks if ranks[token] == 256))
    assert len(summary["longest_tokens"][0]) == max(map(len, ranks))


def test_only_training_documents_within_the_limit_are_learned_from(tmp_path: Path) -> None:
    documents = [document("aa" * 50, 0), document("bb" * 50, 1), document("cc" * 50, 2), document("dd" * 50, 9)]
    work = learn(tmp_path / "all", documents, vocab_size=300)
    letters = {token[:1] for token in read_ranks(work.out / "tokenizer.model") if len(token) > 1}
    assert letters == {b"a", b"b", b"c"}
    work = learn(tmp_path / "some", documents, vocab_size=300, training_bytes=250)
    assert (work.counts["documents"], work.counts["training_bytes"]) == (2, 200)
    assert len({token[:1] for token in read_ranks(work.out / "tokenizer.model") if len(token) > 1}) == 2


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_no_training_text_is_one_sentence(tmp_path: Path, texts: list[str]) -> None:
    documents = [document("held out", 9), *(document(text, number) for number, text in enumerate(texts))]
    with pytest.raises(InputError, match="no training documents"):
        learn(tmp_path, documents)


def test_no_documents_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    with pytest.raises(InputError, match="no kept documents are here; run the documents stage first"):
        raise_on(tmp_path)


def raise_on(root: Path) -> None:
    learn_tokenizer(TokenizerOptions(), Work("tokenizer", root, {"documents": root / "documents"}, 1, 1, SILENT))


def test_without_held_out_documents_nothing_is_measured(tmp_path: Path) -> None:
    workspace = raise_tokens(tmp_path, [document("a herd of sheep", 0)])
    held_out = workspace.manifest("tokenizer")["metrics"]["held_out"]
    assert (held_out["documents"], held_out["bytes_per_token"]) == (0, None)
