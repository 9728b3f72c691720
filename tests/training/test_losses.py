"""The losses against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from herdsman.training.losses import dpo_loss, ranking_loss


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
