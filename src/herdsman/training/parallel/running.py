"""How the layers of a model run, on whatever layout."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from herdsman.training.parallel.recompute import Recompute


@dataclass(frozen=True)
class Running:
    """How the layers run.

    Attributes:
        precision: dtype of matrix products.
        attention: name of the back-end.
        compile: whether blocks are compiled.
        fp8: whether the blocks' matrix products run in 8 bits.
    """

    precision: torch.dtype = torch.float32
    attention: str = "auto"
    recompute: Recompute = "none"
    compile: bool = False
    fp8: bool = False


PLAIN = Running()
"""In float32, with nothing computed again and nothing compiled."""
