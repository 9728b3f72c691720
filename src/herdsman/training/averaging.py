"""Averages of checkpoints (paper, sections 3.4.3 and 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open

from herdsman.errors import InputError
from herdsman.model.llama import Llama
from herdsman.model.store import WEIGHTS, load_model, save_model


def average_models(folders: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> Llama:
    """Weighted mean of the models in `folders`, saved in `out` and returned.

    One tensor at a time is read of all models, so that memory holds no more than what loading and saving one of them
    takes. Sums run in float64, in this order: before it is rounded to float32, a mean of n values is off by at most
    n * 2**-52 of the largest of them.

    Args:
        weights: one a model, relative to each other; all alike if left out.

    Raises:
        InputError: a folder holds no model, or one of another shape.
    """
    weights = weights or [1.0] * len(folders)
    average = load_model(folders[0])
    with ExitStack() as stack, torch.no_grad():
        files = [stack.enter_context(safe_open(folder / WEIGHTS, "pt")) for folder in folders]
        for name, tensor in average.state_dict().items():
            total = torch.zeros(tensor.shape, dtype=torch.float64)
            for folder, file, weight in zip(folders, files, weights, strict=True):
                found = file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
                if found is None or found.shape != tensor.shape:
                    raise InputError(f"has another {name} than {folders[0]}", where=folder, do="average like models")
                total.add_(found.double(), alpha=weight)
            tensor.copy_(total / sum(weights))
    save_model(average, out)
    return average


def exponential_weights(count: int, decay: float) -> list[float]:
    """Weights of `count` checkpoints, oldest first: each is `decay` times the next one's, the last one's is 1.

    This is the running average a <- decay * a + (1 - decay) * checkpoint, without the share of its starting value.
    """
    return [decay ** (count - 1 - place) for place in range(count)]
