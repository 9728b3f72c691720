"""Weights of 8 bits for torch's own kernels, where there is no compiler to build ours with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FEW_ROWS = 3
"""Up to so many rows torch's kernel for 8-bit weights is the faster one, from there on its product of whole numbers."""

TINY = torch.finfo(torch.float32).tiny


class Int8Matrix:
    """Some weights of [outputs, inputs] that are applied to the same activations, as one matrix of whole numbers.

    Each output has a scale of its own: the kernels know no smaller groups.
    """

    def __init__(self, weights: Sequence[Tensor]):
        weight = torch.cat(list(weights)).float()
        largest = weight.abs().amax(-1, keepdim=True)
        # The scale is rounded first, so that rounding it adds no error: only steps a little coarser or finer.
        scales = (largest / 127).bfloat16()
        steps = torch.where(scales > 0, weight / scales.float(), 0.0)
        self.quants, self.scales = steps.round().clamp(-127, 127).to(torch.int8), scales[:, 0]

    def __call__(self, x: Tensor) -> Tensor:
        """x [rows, inputs] in bfloat16: [rows, outputs] in bfloat16."""
        if len(x) <= FEW_ROWS:
            return torch._weight_int8pack_mm(x.contiguous(), self.quants, self.scales)
        # Each row as 127 steps of its own, and what is left of it as 254 steps to each of these: as exact as bfloat16.
        x = x.float()
        steps = x.abs().amax(-1, keepdim=True).div_(127).clamp_(min=TINY)
        x = x.div_(steps)
        coarse = x.round()
        parts = torch.cat([coarse, x.sub_(coarse).mul_(254)]).to(torch.int8)
        coarse, fine = torch._int_mm(parts, self.quants.t()).float().chunk(2)
        return coarse.add_(fine, alpha=1 / 254).mul_(steps).mul_(self.scales).bfloat16()


def int8(name: str, weights: Sequence[Tensor]) -> Int8Matrix:
    """A `MakeMatrix` for a `TorchRunner` in bfloat16 on a CPU; see `generation.runner`."""
    return Int8Matrix(weights)
