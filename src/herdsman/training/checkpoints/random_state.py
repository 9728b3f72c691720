"""Random state of a process as tensors, so that it lies in a checkpoint beside the weights."""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping

import torch
from torch import Tensor

PYTHON_VERSION = 3  # of the tuple that `random.getstate` gives


def capture() -> dict[str, Tensor]:
    """State of Python's and torch's generators, and of the current CUDA device's once CUDA is in use."""
    _, numbers, gauss = random.getstate()
    state = {
        # Each number has 32 bits, which float64 holds exactly; the last one is the spare normal variate, if any.
        "python": torch.tensor([*numbers, math.nan if gauss is None else gauss], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def restore(state: Mapping[str, Tensor], rank: int) -> None:
    """Puts the generators where they were; CUDA, if the state was taken without it, where `reseed` would."""
    *numbers, gauss = state["python"].tolist()
    random.setstate((PYTHON_VERSION, tuple(int(number) for number in numbers), None if math.isnan(gauss) else gauss))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    elif torch.cuda.is_available():
        torch.cuda.manual_seed(_seed(state, rank))


def reseed(state: Mapping[str, Tensor], rank: int) -> None:
    """Seeds all generators from one process's state and this rank: the same on every such load, different by rank."""
    seed = _seed(state, rank)
    random.seed(seed)
    torch.manual_seed(seed)


def _seed(state: Mapping[str, Tensor], rank: int) -> int:
    content = b"".join(state[kind].numpy().tobytes() for kind in ("python", "torch"))
    return int.from_bytes(hashlib.sha256(content + rank.to_bytes(8, "little")).digest()[:8], "little") >> 1
