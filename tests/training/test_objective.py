"""Objectives against their formulas, written out over the whole vocabulary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from herdsman.model.llama import Llama
from herdsman.training.objective import Batch, Greedy, NextToken
from herdsman.training.parallel.build import alone
from tests.training.parallel.reference import OPTIONS, VOCAB, rows_of


def model() -> Llama:
    return Llama(OPTIONS, VOCAB).initialise(3)


def with_streams(batch: Batch) -> Batch:
    streams = torch.arange(batch.tokens.numel()).view(batch.tokens.shape) % 3
    return Batch(batch.tokens, batch.documents, {**batch.by_token, "streams": streams})


def gradients(llama: Llama) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in llama.named_parameters() if p.grad is not None}


def test_z_loss_and_streams_are_their_formulas() -> None:
    llama, batch = model(), with_streams(rows_of(0))
    logits = llama.logits(llama(batch.tokens, documents=batch.documents)).flatten(0, 1)
    weights, streams = (batch.by_token[name].flatten() for name in ("weights", "streams"))
    each = cross_entropy(logits, batch.by_token["targets"].flatten(), reduction="none") * weights
    z = 0.01 * (logits.logsumexp(-1).square() * weights).sum()
    (each.sum() + z).backward()
    expected = gradients(llama)
    sums = alone(llama).train_step([batch], NextToken(0.01, streams=("a", "b", "c")))
    assert sums.total == pytest.approx((each.sum() + z).item(), rel=1e-6)
    assert sums.weight == pytest.approx(weights.sum().item(), rel=1e-6)
    assert sums.figures["z_loss"] == pytest.approx(z.item(), rel=1e-6)
    for number, name in enumerate("abc"):
        assert sums.figures[f"loss.{name}"] == pytest.approx(each[streams == number].sum().item(), rel=1e-5)
        assert sums.figures[f"weight.{name}"] == pytest.approx(weights[streams == number].sum().item(), rel=1e-5)
    found = gradients(llama)
    assert all((found[name] - expected[name]).abs().max() < 1e-4 for name in expected)


def test_picking_few_tokens_out_changes_nothing() -> None:
    batch = with_streams(rows_of(1))
    found = []
    for few in (False, True):
        llama = model()
        sums = alone(llama).train_step([batch], NextToken(0.01, few=few, streams=("a", "b", "c")))
        found.append(({"total": sums.total, "weight": sums.weight} | sums.figures, gradients(llama)))
    (sums, expected), (few_sums, few_gradients) = found
    assert few_sums == pytest.approx(sums, rel=1e-6)
    assert all((few_gradients[name] - expected[name]).abs().max() < 1e-4 for name in expected)


def test_greedy_counts_rows_whose_asked_tokens_are_all_the_likeliest() -> None:
    llama, batch = model(), rows_of(2)
    with torch.no_grad():
        likeliest = llama.logits(llama(batch.tokens)).argmax(-1)
    weights = torch.zeros(batch.tokens.shape)
    weights[:, -3:] = 1
    weights[7] = 0  # a row that asks nothing is no row
    targets = likeliest.clone()
    targets[0, -2] += 1  # wrong where asked
    targets[1, 0] += 1  # wrong where not asked
    asked = Batch(batch.tokens, None, {"targets": targets % VOCAB, "weights": weights})
    sums = alone(llama).evaluate([asked], Greedy())
    assert (sums.total, sums.weight) == (6.0, 7.0)


def test_batches_are_lengthened_by_what_does_not_count_and_cut_by_places() -> None:
    batch = rows_of(0)
    assert batch.documents is not None
    longer = batch.lengthened(40)
    assert longer.documents is not None
    assert torch.equal(longer.tokens[:, :32], batch.tokens)
    assert torch.equal(longer.documents[:, :32], batch.documents)
    assert not longer.by_token["weights"][:, 32:].any()
    assert not set(longer.documents[:, 32:].unique().tolist()) & set(batch.documents.unique().tolist())
    assert longer.lengthened(40) is longer
    some = batch.at(torch.tensor([0, 5]))
    assert torch.equal(some.tokens, batch.tokens[:, [0, 5]])
    assert torch.equal(some.by_token["targets"], batch.by_token["targets"][:, [0, 5]])
    assert some.documents is batch.documents
