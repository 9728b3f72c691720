"""The schedule against the paper's numbers; the losses against their closed forms and finite differences."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from herdsman.training.losses import cross_entropy, dpo_loss, ranking_loss, token_logprobs
from herdsman.training.options import Phase, PretrainOptions
from herdsman.training.schedule import Schedule, spread


def llama_405b() -> Schedule:
    """Initial pretraining of 405B (paper, section 3.4.1); long context and annealing left out."""
    phases = [
        Phase(name="4M", tokens=252_000_000, batch_tokens=4_000_000 // 4096 * 4096, sequence_length=4096),
        Phase(name="8M", tokens=2_869_748_000_000, batch_tokens=8_000_000 // 8192 * 8192, sequence_length=8192),
        Phase(name="16M", tokens=12_730_000_000_000, batch_tokens=16_000_000 // 8192 * 8192, sequence_length=8192),
    ]
    return Schedule(
        PretrainOptions(
            peak_learning_rate=8e-5, final_learning_rate=8e-7, warmup_steps=8000, cosine_steps=1_200_000, phases=phases
        )
    )


def test_learning_rate_oracle() -> None:
    schedule = llama_405b()
    assert schedule.cosine(8000) == pytest.approx(8e-5)
    assert schedule.cosine(4000) == pytest.approx(4e-5)
    assert schedule.cosine(1_200_000) == pytest.approx(8e-7)
    assert schedule.cosine((8000 + 1_200_000) / 2) == pytest.approx((8e-5 + 8e-7) / 2)


def test_batch_ramp_oracle() -> None:
    """63 steps at 4M; 16M begins after 2.87T tokens; the whole ends before the cosine does (traps 5 and 7)."""
    schedule = llama_405b()
    assert schedule.place(62).phase.name == "4M"
    assert schedule.place(63).phase.name == "8M"
    first_of_16m = schedule.starts[2]
    assert schedule.tokens_before(first_of_16m) == pytest.approx(2.87e12, rel=1e-3)
    assert 1_100_000 < schedule.steps < 1_200_000
    assert schedule.tokens == pytest.approx(15.6e12, rel=1e-3)
    assert schedule.learning_rate(schedule.steps - 1) > 8e-7


def test_annealing_goes_linearly_to_zero() -> None:
    phases = [
        Phase(name="main", tokens=1000, batch_tokens=10, sequence_length=10),
        Phase(
            name="anneal",
            tokens=200,
            batch_tokens=10,
            sequence_length=10,
            learning_rate="linear_to_zero",
            mix="anneal",
            average_checkpoints=4,
        ),
    ]
    schedule = Schedule(
        PretrainOptions(peak_learning_rate=1.0, final_learning_rate=0.2, warmup_steps=10, phases=phases)
    )
    rates = [schedule.learning_rate(step) for step in range(schedule.steps)]
    assert schedule.cosine_steps == 100
    assert rates[99] == pytest.approx(0.2)
    assert rates[-1] == 0
    falls = {round(a - b, 9) for a, b in pairwise(rates[100:])}
    assert falls == {0.01}
    assert schedule.averaged_steps() == [112, 114, 117, 119]


def test_sequences_must_fill_the_batch() -> None:
    with pytest.raises(ValidationError, match="multiple of sequence_length"):
        Phase(name="odd", tokens=100, batch_tokens=100, sequence_length=33)


def test_spread_ends_with_the_last_step() -> None:
    assert spread(100, 4) == {24, 49, 74, 99}
    assert max(spread(7, 3)) == 6
    assert spread(100, 0) == set()


def test_token_logprobs_are_log_softmax() -> None:
    logits, targets = torch.randn(3, 5, 11), torch.randint(0, 11, (3, 5))
    expected = torch.log_softmax(logits, -1).gather(-1, targets[..., None])[..., 0]
    assert torch.allclose(token_logprobs(logits, targets), expected, atol=1e-6)
    weights = torch.rand(3, 5)
    loss = cross_entropy(logits, targets, weights)
    assert loss.total.item() == pytest.approx(-(expected * weights).sum().item(), rel=1e-5)
    assert loss.weight == pytest.approx(weights.sum().item())


def test_ranking_loss_closed_form() -> None:
    chosen, rejected = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    loss = ranking_loss(chosen, rejected)
    assert loss.total.item() == pytest.approx(math.log1p(math.exp(-1.5)) + math.log1p(math.exp(1.0)), rel=1e-6)
    assert (loss.weight, loss.sums["accuracy"]) == (2.0, 1.0)


def test_dpo_loss_and_gradient() -> None:
    """At the reference the loss is log 2 and the gradient of the chosen log-probability is -beta / 2."""
    chosen, rejected = torch.tensor([-5.0], requires_grad=True), torch.tensor([-7.0], requires_grad=True)
    loss = dpo_loss(chosen, rejected, chosen.detach(), rejected.detach(), beta=0.1)
    loss.sum().backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert chosen.grad is not None
    assert rejected.grad is not None
    assert chosen.grad.item() == pytest.approx(-0.05)
    assert rejected.grad.item() == pytest.approx(0.05)
    moved = dpo_loss(torch.tensor([-4.0]), torch.tensor([-9.0]), torch.tensor([-5.0]), torch.tensor([-7.0]), 0.1)
    assert moved.item() == pytest.approx(-math.log(1 / (1 + math.exp(-0.1 * 3))), rel=1e-6)
