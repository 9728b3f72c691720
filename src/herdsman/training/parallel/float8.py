"""Matrix products in 8 bits, scaled row by row, through torchao (paper, section 6.2, does so for inference)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from herdsman.errors import InputError, MachineError

WHERE = "pretrain.precision = float8"
LEAST_CAPABILITY = (8, 9)


def to_float8(block: nn.Module, device: torch.device) -> None:
    """Turns a block's linear layers into ones whose products, forward and backward, run in float8.

    On a CPU, which has no such products, numbers are rounded as they would be and multiplied in higher precision: slow,
    but the same arithmetic to rehearse with.

    Raises:
        InputError: torchao is not installed.
        MachineError: the GPU has no float8.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise InputError("needs torchao", where=WHERE, do="pip install 'herdsman[fp8]'") from error
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise MachineError(f"{name} does not multiply in float8", where=WHERE, do="set pretrain.precision to bfloat16")
    config: Any = Float8LinearConfig.from_recipe_name("rowwise")
    if device.type == "cpu":
        object.__setattr__(config, "emulate", True)
    convert_to_float8_training(block, config=config)
