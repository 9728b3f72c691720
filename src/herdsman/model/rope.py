"""Rotary position embedding with Llama 3.1's frequency scaling (recipe: llama3 code, apply_scaling)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from herdsman.model.options import ModelOptions


def rope_frequencies(model: ModelOptions) -> Tensor:
    """Angular frequencies [head_width / 2] in float64, radians a position.

    With scaling: wavelengths below original / high_freq_factor stay, those above original / low_freq_factor are
    stretched by `factor`, and those between are blended linearly in original / wavelength.
    """
    exponents = torch.arange(0, model.head_width, 2, dtype=torch.float64, device="cpu") / model.head_width
    frequencies = model.rope_theta**-exponents
    scaling = model.rope_scaling
    if scaling is None:
        return frequencies
    rotations = scaling.original_context * frequencies / (2 * math.pi)
    blend = (rotations - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    blend = blend.clamp(0, 1)
    return frequencies * (blend + (1 - blend) / scaling.factor)


def rope_tables(model: ModelOptions, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines [length, head_width / 2] in float32 for positions 0 to length - 1."""
    angles = torch.outer(torch.arange(length, dtype=torch.float64, device="cpu"), rope_frequencies(model))
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns each pair (x[i], x[i + width / 2]) by its position's angle, Hugging Face's layout of the pairs.

    x: [batch, heads, seq, head_width]; cos, sin: [batch or 1, 1, seq, head_width / 2]. Computed in float32.
    """
    if not torch.is_grad_enabled():
        return _turn(x, cos, sin)
    turned: Tensor = _Rotation.apply(x, cos, sin)
    return turned


class _Rotation(torch.autograd.Function):
    """Its gradient is the turn back, so nothing but the angles is kept, and nothing is computed in two types at once,
    for which a CPU takes three times as long."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(gradient, cos, -sin), None, None


def _turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, dim=-1)
    one, other = torch.addcmul(first * cos, second, sin, value=-1), torch.addcmul(second * cos, first, sin)
    return torch.cat((one, other), dim=-1).to(x.dtype)
