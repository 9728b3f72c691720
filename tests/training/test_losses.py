"""The losses against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from herdsman.training.losses import cross_entropy, dpo_loss, ranking_loss, token_logprobs


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
