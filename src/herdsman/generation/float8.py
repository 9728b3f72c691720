"""Feed-forward layers in float8, as the paper runs them for inference (section 6.2).

Weights and activations get a scale for each row, the activations' anew in every step, which is more exact than one
scale for the whole matrix. Attention and the first and last layer stay as they are. The largest value that a scale is
made for is bounded: without that, rows with an outlier (of dates, say) lose all their small values.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from herdsman.errors import MachineError
from herdsman.generation.matrices import Matrix, dense
from herdsman.model.options import ModelOptions

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
MOST = 1200.0
"""The paper's bound of the values that scales are made for."""

MULTIPLE = 16
"""The product wants both sides of a matrix to be a multiple of this."""

LEAST_CAPABILITY = (8, 9)


class Float8Places:
    """Makes the matrices of a model: in float8 where the paper has them so, else in bfloat16.

    Raises:
        MachineError: the device does not multiply in float8.
    """

    def __init__(self, options: ModelOptions, device: torch.device):
        if device.type != "cuda" or torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
            raise MachineError(
                "there is no GPU here that multiplies in float8", do="use the weights bfloat16 or int8 instead"
            )
        self.layers = options.layers

    def __call__(self, name: str, weights: Sequence[Tensor]) -> Matrix:
        sides = [side for weight in weights for side in weight.shape]
        layer, _, place = name.partition(".")
        inner = place.startswith("ffn") and 0 < int(layer) < self.layers - 1
        if not inner or any(side % MULTIPLE for side in sides):
            return dense(weights, torch.bfloat16)
        return Float8Matrix(weights)


class Float8Matrix:
    """Weights of [outputs, inputs] that are applied to the same activations, as one matrix."""

    def __init__(self, weights: Sequence[Tensor]):
        self.quants, self.scales = quantize_rows(torch.cat(list(weights)), bound=None)

    def __call__(self, x: Tensor) -> Tensor:
        """x [rows, inputs]: [rows, outputs] in bfloat16."""
        quants, scales = quantize_rows(x, MOST)
        return torch._scaled_mm(
            quants, self.quants.T, scale_a=scales, scale_b=self.scales.T, out_dtype=torch.bfloat16
        )  # fmt: skip


def quantize_rows(x: Tensor, bound: float | None) -> tuple[Tensor, Tensor]:
    """[rows, columns] in float8, and the scales [rows, 1] in float32 that each row is to be multiplied by.

    Values beyond `bound` become the bound.
    """
    x = x.float()
    largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-12, max=bound)
    scales = largest / LARGEST
    return (x / scales).clamp(-LARGEST, LARGEST).to(FLOAT8), scales
