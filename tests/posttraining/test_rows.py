"""Which tokens count where, and that batches hold every item of an epoch exactly once."""

from __future__ import annotations

import random

import pytest
import torch

from herdsman.posttraining.rows import (
    DPO_KINDS,
    SFT_KINDS,
    are,
    cut,
    dialog_row,
    length_batches,
    pad,
    plan_batches,
    response_row,
)
from herdsman.tokens.chat import Message
from herdsman.tokens.tokenizer import Tokenizer

CPU = torch.device("cpu")
DIALOG = [
    Message("system", "Be kind."),
    Message("user", "Hello?"),
    Message("assistant", "Hello!"),
    Message("user", "Who is there?"),
]


def trained_text(tokenizer: Tokenizer, row, kinds) -> list[str]:  # type: ignore[no-untyped-def]
    batch = pad([row], tokenizer.pad, CPU)
    targets, found = batch.by_token["targets"], batch.by_token["kinds"]
    return [tokenizer.decode([token]) for token in targets[are(found, kinds)].tolist()]


def test_dpo_masks_exactly_header_and_terminator(tokenizer: Tokenizer) -> None:
    row = response_row(tokenizer, DIALOG, "A lamb.")
    assert "".join(trained_text(tokenizer, row, DPO_KINDS)) == "A lamb."
    assert "".join(trained_text(tokenizer, row, SFT_KINDS)) == "A lamb.<|eot_id|>"


def test_sft_trains_all_the_assistant_says_and_that_it_stops(tokenizer: Tokenizer) -> None:
    row = dialog_row(tokenizer, [*DIALOG, Message("assistant", "A lamb.")])
    assert "".join(trained_text(tokenizer, row, SFT_KINDS)) == "Hello!<|eot_id|>A lamb.<|eot_id|>"


def test_a_response_to_the_same_prompt_begins_alike(tokenizer: Tokenizer) -> None:
    one, two = response_row(tokenizer, DIALOG, "A lamb."), response_row(tokenizer, DIALOG, "Two sheep.")
    start = next(place for place, kind in enumerate(one.kinds) if kind in DPO_KINDS)
    assert one.ids[:start] == two.ids[:start]
    assert one.ids == dialog_row(tokenizer, [*DIALOG, Message("assistant", "A lamb.")]).ids


def test_padding(tokenizer: Tokenizer) -> None:
    rows = [response_row(tokenizer, DIALOG, text) for text in ("Yes.", "It is a very large flock of sheep.")]
    batch = pad(rows, tokenizer.pad, CPU)
    targets, weights = batch.by_token["targets"], batch.by_token["weights"]
    assert batch.tokens.shape == targets.shape == weights.shape == (2, len(rows[1].ids) - 1)
    ended = len(rows[0].ids) - 1
    assert weights[0, :ended].any()
    assert not weights[0, ended:].any()
    assert torch.equal(batch.tokens[:, 1:], targets[:, :-1])


@pytest.mark.parametrize("batch_tokens", [1, 50, 300, 10_000])
def test_an_epoch_holds_every_item_once(batch_tokens: int) -> None:
    rng = random.Random(batch_tokens)
    lengths = [rng.randint(3, 90) for _ in range(200)]
    plan = plan_batches(lengths, batch_tokens, 2, 1, "x")
    assert sorted(item for batch in plan[: len(plan) // 2] for item in batch) == list(range(200))
    assert sorted(item for batch in plan for item in batch) == sorted([*range(200), *range(200)])
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(lengths[item] for item in batch) <= batch_tokens
        parts = cut(batch, lengths, 60)
        assert [item for part in parts for item in part] == batch
        assert all(len(part) == 1 or len(part) * max(lengths[item] for item in part) <= 60 for part in parts)


def test_orders_differ_by_epoch_and_name_and_broken_epochs_are_cut() -> None:
    lengths = [5] * 64
    plan = plan_batches(lengths, 20, 2, 1, "sft", 0)
    assert plan == plan_batches(lengths, 20, 2, 1, "sft", 0)
    assert plan[:16] != plan[16:]
    assert plan != plan_batches(lengths, 20, 2, 1, "sft", 1)
    assert plan != plan_batches(lengths, 20, 2, 2, "sft", 0)
    assert plan_batches(lengths, 20, 1.5, 1, "sft", 0) == plan[:24]
    assert len(plan_batches(lengths, 20, 0.01, 1, "sft", 0)) == 1


def test_batches_of_like_length_hold_everything() -> None:
    lengths = [7, 3, 90, 3, 8]
    assert length_batches(lengths, 16) == [[1, 3], [0, 4], [2]]
    assert length_batches([], 16) == []
