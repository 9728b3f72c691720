"""Bits per byte against full logits, and every token exactly once."""

from __future__ import annotations

import math
import random

import pytest
import torch

from herdsman.evaluation.benchmarks import stable_hash
from herdsman.evaluation.perplexity import (
    MAX_DOCUMENT_BYTES,
    HeldOut,
    beginning,
    choose_held_out,
    surprise,
    windows,
)
from herdsman.evaluation.statistics import bits_per_byte
from herdsman.generation.local import LocalEngine
from herdsman.model.llama import Llama
from herdsman.tokens.tokenizer import Tokenizer
from tests.evaluation.herd import random_model, real_documents


def held_out(*sizes: int) -> list[HeldOut]:
    rows = real_documents()
    return [HeldOut(rows[n]["id"], "general", rows[n]["text"][:size]) for n, size in enumerate(sizes)]


def full_logits_nats(model: Llama, tokenizer: Tokenizer, text: str) -> float:
    """-log p of a text that fits into one window, from the whole matrix of logits in double precision."""
    ids = [tokenizer.bos, *tokenizer.encode(text)]
    with torch.no_grad():
        probabilities = model.logits(model(torch.tensor([ids[:-1]])))[0].double().softmax(-1)
    return -sum(math.log(probabilities[place, token]) for place, token in enumerate(ids[1:]))


def test_it_equals_full_logits(engine: LocalEngine, tokenizer: Tokenizer) -> None:
    documents = [*held_out(1, 40, 100, 90), HeldOut("x", "general", "Größe 漢字 😀")]
    assert max(len(tokenizer.encode(document.text)) for document in documents) <= engine.context_length
    found = surprise(engine, tokenizer, documents)
    for document, row in zip(documents, found, strict=True):
        assert row.nats == pytest.approx(full_logits_nats(engine.model, tokenizer, document.text), rel=1e-5)
        assert (row.id, row.bytes) == (document.id, len(document.text.encode()))


def test_long_documents_are_the_sum_of_their_windows(engine: LocalEngine, tokenizer: Tokenizer) -> None:
    """A document of many windows scores what its windows score as documents of their own."""
    (whole,) = held_out(3000)
    ids = tokenizer.encode(whole.text)
    pieces = [tokenizer.decode(ids[start : start + 64]) for start in range(0, len(ids), 64)]
    assert [tokenizer.encode(piece) for piece in pieces] == [ids[s : s + 64] for s in range(0, len(ids), 64)]
    (row,) = surprise(engine, tokenizer, [whole])
    naive = sum(full_logits_nats(engine.model, tokenizer, piece) for piece in pieces)
    assert row.nats == pytest.approx(naive, rel=1e-5)
    assert row.tokens == len(ids)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 17, 100])
def test_windows_predict_each_token_once_and_read_no_more_than_the_context(length: int) -> None:
    ids = list(range(length))
    cut = windows(ids, bos=999, context_length=8)
    assert [token for _, continuation in cut for token in continuation] == ids
    assert all(context == [999] and len(context) + len(continuation) - 1 <= 8 for context, continuation in cut)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(tokenizer: Tokenizer) -> None:
    model = random_model(tokenizer)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    rows = surprise(LocalEngine(model, tokenizer), tokenizer, held_out(5000, 333))
    for row in rows:
        assert row.nats == pytest.approx(row.tokens * math.log(tokenizer.vocab_size), rel=1e-6)
    tokens, size = sum(row.tokens for row in rows), sum(row.bytes for row in rows)
    expected = tokens * math.log2(tokenizer.vocab_size) / size
    assert bits_per_byte([row.nats for row in rows], [row.bytes for row in rows]) == pytest.approx(expected, rel=1e-6)


def test_progress_counts_the_bytes(engine: LocalEngine, tokenizer: Tokenizer) -> None:
    told: list[int] = []
    documents = held_out(9000, 10, 7000, 1)
    surprise(engine, tokenizer, documents, told.append)
    assert told == [document.size for document in documents]


@pytest.mark.parametrize("limit", [1, 5_000, 60_000, 10**9])
def test_the_same_documents_are_chosen_in_any_order(limit: int) -> None:
    rows = real_documents()
    expected, size = [], 0
    for row in sorted(rows, key=lambda row: stable_hash(row["id"])):
        if size < limit:
            expected.append(row["id"])
            size += min(len(row["text"].encode()), MAX_DOCUMENT_BYTES)
    random.Random(limit).shuffle(rows)
    assert [document.id for document in choose_held_out(rows, limit)] == expected


def test_a_long_document_counts_by_its_beginning_and_an_empty_one_not_at_all() -> None:
    chosen = choose_held_out(
        [{"id": "a", "category": "code", "text": "é" * 40_000}, {"id": "b", "category": "code", "text": ""}], 10**9
    )
    assert [(document.id, document.size) for document in chosen] == [("a", MAX_DOCUMENT_BYTES)]


def test_a_beginning_ends_between_two_characters() -> None:
    for text, limit in (("aé漢😀", limit) for limit in range(11)):
        cut = beginning(text, limit)
        assert text.startswith(cut)
        assert limit - 4 < len(cut.encode()) <= limit
