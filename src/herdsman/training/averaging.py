"""Averages of checkpoints (paper, sections 3.4.3 and 4.1.5)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_model


def average_models(folders: Sequence[Path], out: Path) -> Llama:
    """Uniform average of the models in `folders`, saved in `out` and returned. Sums run in float64, in this order."""
    models = [load_model(folder) for folder in folders]
    average = models[0]
    others = [model.state_dict() for model in models[1:]]
    with torch.no_grad():
        for name, tensor in average.state_dict().items():
            total = tensor.double()
            for other in others:
                total = total + other[name].double()
            tensor.copy_(total / len(models))
    save_model(average, out)
    return average
