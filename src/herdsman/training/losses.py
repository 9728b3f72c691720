"""Losses as plain functions of tensors. All give sums, so that any split into micro-batches has the same gradient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor
from torch.nn.functional import logsigmoid


@dataclass
class Loss:
    """A sum over the trained items of a micro-batch, and how many there are.

    Attributes:
        total: scalar tensor, the sum to differentiate.
        weight: what the sum is divided by, over all micro-batches of the step.
        sums: further figures to log, each a sum over the same items.
    """

    total: Tensor
    weight: Tensor | float
    sums: Mapping[str, Tensor | float] = field(default_factory=dict)


def ranking_loss(chosen: Tensor, rejected: Tensor) -> Loss:
    """Reward model: -log sigmoid(r_chosen - r_rejected), Llama 2's loss without its margin (paper, section 4.1.2).

    chosen, rejected: [pairs] rewards.
    """
    sums = {"accuracy": (chosen > rejected).sum(), "margin": (chosen - rejected).detach().sum()}
    return Loss(-logsigmoid(chosen - rejected).sum(), float(len(chosen)), sums)


def dpo_loss(
    policy_chosen: Tensor, policy_rejected: Tensor, reference_chosen: Tensor, reference_rejected: Tensor, beta: float
) -> Tensor:
    """Direct preference optimisation, one value a pair: -log sigmoid(beta * difference of log-ratios).

    Each argument: [pairs], a response's log-probability summed over its trained tokens. Header and terminator tokens
    stay out of these sums (paper, section 4.1.4).
    """
    return -logsigmoid(beta * ((policy_chosen - reference_chosen) - (policy_rejected - reference_rejected)))
