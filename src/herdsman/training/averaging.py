"""Averages of checkpoints (paper, sections 3.4.3 and 4.1.5)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.model.store import open_weights, read_config, save_weights, weight_shapes


def average_models(folders: Sequence[Path], out: Path, weights: Sequence[float] | None = None) -> None:
    """Saves the weighted mean of the models in `folders` in `out`.

    Memory holds one tensor at a time. Sums run in float64, in this order: before it is rounded to float32, a mean of n
    values is off by at most n * 2**-52 of the largest of them.

    Args:
        weights: one a model, relative to each other; all alike if left out.

    Raises:
        InputError: a folder holds no model, or one of another shape.
    """
    weights = weights or [1.0] * len(folders)
    options, vocab_size, scores = read_config(folders[0])
    with ExitStack() as stack:
        files = [stack.enter_context(open_weights(folder)) for folder in folders]

        def means() -> Iterator[tuple[str, Tensor]]:
            for name, shape in weight_shapes(options, vocab_size, scores).items():
                total = torch.zeros(shape, dtype=torch.float64)
                for folder, file, weight in zip(folders, files, weights, strict=True):
                    found = file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
                    if found is None or found.shape != total.shape:
                        what = f"has another {name} than {folders[0]}"
                        raise InputError(what, where=folder, do="average like models")
                    total.add_(found.double(), alpha=weight)
                yield name, total / sum(weights)

        save_weights(means(), options, vocab_size, out, scores)


def exponential_weights(count: int, decay: float) -> list[float]:
    """Weights of `count` checkpoints, oldest first: each is `decay` times the next one's, the last one's is 1.

    This is the running average a <- decay * a + (1 - decay) * checkpoint, without the share of its starting value.
    """
    return [decay ** (count - 1 - place) for place in range(count)]
