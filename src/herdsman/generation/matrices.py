"""The matrices of a runner, in whatever form their weights are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import linear

Matrix = Callable[[Tensor], Tensor]
"""Activations [tokens, inputs] to [tokens, outputs]."""

MakeMatrix = Callable[[str, Sequence[Tensor]], Matrix]
"""Makes one of weights [outputs, inputs] that are applied to the same activations, for a place: "output", or in a layer
such as the fourth "3.attention.qkv", "3.attention.out", "3.ffn.gate_up" and "3.ffn.down"."""


def dense(weights: Sequence[Tensor], dtype: torch.dtype) -> Matrix:
    """Weights as they are; where they must be copied for another type, those of one place become one matrix."""
    if any(weight.dtype != dtype for weight in weights):
        weights = [torch.cat([weight.to(dtype) for weight in weights])]
    if len(weights) == 1:
        return lambda x: linear(x, weights[0])
    return lambda x: torch.cat([linear(x, weight) for weight in weights], -1)
