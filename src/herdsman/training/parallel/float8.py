"""Matrix products in 8 bits, scaled row by row, through torchao (paper, section 6.2, does so for inference)."""

from __future__ import annotations

from typing import Any

from torch import nn

from herdsman.errors import InputError


def to_float8(block: nn.Module, emulate: bool = False) -> None:
    """Turns a block's linear layers into ones whose products, forward and backward, run in float8.

    Args:
        emulate: compute in higher precision what the hardware would round, where there is no such hardware.

    Raises:
        InputError: torchao is not installed.
    """
    try:
        from torchao.float8 import Float8LinearConfig, convert_to_float8_training
    except ImportError as error:
        raise InputError("needs torchao", where="pretrain.precision = float8", do="pip install torchao") from error
    config: Any = Float8LinearConfig.from_recipe_name("rowwise")
    if emulate:
        object.__setattr__(config, "emulate", True)
    convert_to_float8_training(block, config=config)
