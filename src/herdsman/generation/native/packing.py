"""Weights in the order in which the kernel reads them (see kernel.h), in one stretch of memory."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

LANES = 16
GROUP = 64
GROUP_BYTES = GROUP * LANES + 4 * LANES
Form = Literal["bfloat16", "int8"]


def padded(count: int, to: int) -> int:
    return -(-count // to) * to


def packed_bytes(outputs: int, inputs: int, form: Form) -> int:
    """Memory that a packed matrix takes."""
    outputs, inputs = padded(outputs, LANES), padded(inputs, GROUP)
    return outputs // LANES * (inputs // GROUP * GROUP_BYTES if form == "int8" else inputs * LANES * 2)


def quantize_groups(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Whole numbers from -127 to 127 [outputs, inputs] of int8, and the scale of each `GROUP` of a row's inputs
    [outputs, groups] in float32. `inputs` must be a multiple of `GROUP`."""
    groups = weight.float().unflatten(-1, (-1, GROUP))
    largest = groups.abs().amax(-1, keepdim=True)
    inverse = torch.where(largest > 0, 127 / largest, 0.0)
    return (groups * inverse).round().to(torch.int8).flatten(-2), largest[..., 0] / 127


def pack(weight: Tensor, form: Form) -> Tensor:
    """A matrix [outputs, inputs] as bytes [`packed_bytes`]."""
    outputs, inputs = weight.shape
    weight = pad(weight.float(), (0, padded(inputs, GROUP) - inputs, 0, padded(outputs, LANES) - outputs))
    if form == "bfloat16":
        pairs = weight.bfloat16().unflatten(0, (-1, LANES)).unflatten(-1, (-1, 2))
        return pairs.permute(0, 2, 1, 3).contiguous().view(torch.uint8).flatten()
    quants, scales = quantize_groups(weight)
    panels = quants.unflatten(0, (-1, LANES)).unflatten(-1, (-1, GROUP // 4, 4)).permute(0, 2, 3, 1, 4)
    by_group = scales.unflatten(0, (-1, LANES)).transpose(1, 2).contiguous().view(torch.uint8)
    return torch.cat([panels.flatten(2).contiguous().view(torch.uint8), by_group], -1).flatten()


def in_turns(gate: Tensor, up: Tensor) -> Tensor:
    """Panels of 16 rows of two matrices [outputs, inputs] in turns, each padded to whole panels."""
    missing = padded(len(gate), LANES) - len(gate)
    panels = [pad(weight, (0, 0, 0, missing)).unflatten(0, (-1, LANES)) for weight in (gate, up)]
    return torch.stack(panels, 1).flatten(0, 2)


class Arena:
    """Memory for packed matrices, in large pages where the system gives them, which are read a fifth faster.

    Args:
        shapes: [outputs, inputs] of all matrices that will be added.
    """

    def __init__(self, shapes: Sequence[tuple[int, int]], form: Form):
        self.form, self.used = form, 0
        memory = mmap.mmap(-1, sum(packed_bytes(*shape, form) for shape in shapes))
        if hasattr(mmap, "MADV_HUGEPAGE"):
            memory.madvise(mmap.MADV_HUGEPAGE)
        self.memory = torch.frombuffer(memory, dtype=torch.uint8)

    def add(self, weight: Tensor) -> int:
        """Packs a matrix; its address."""
        data = pack(weight, self.form)
        place = self.memory[self.used : self.used + len(data)]
        place.copy_(data)
        self.used += len(data)
        return place.data_ptr()
