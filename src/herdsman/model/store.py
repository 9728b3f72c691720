"""A model in a folder: `config.json` with its dimensions and `model.safetensors` with its weights in float32."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from herdsman.errors import InputError
from herdsman.files import atomic_folder, read_json, write_json
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: Llama, folder: Path | str) -> None:
    """Writes the model whole or not at all; the same weights give the same bytes."""
    save_weights(model.state_dict(), model.options, model.vocab_size, folder, model.is_scoring)


def save_weights(
    weights: Mapping[str, Tensor], options: ModelOptions, vocab_size: int, folder: Path | str, scores: bool = False
) -> None:
    """The same for weights by name, [rows, columns] as `Llama` holds them, without the model around them."""
    state = {name: tensor.detach().cpu().float().contiguous() for name, tensor in sorted(weights.items())}
    with atomic_folder(folder) as beside:
        save_file(state, beside / WEIGHTS)
        kind = {"scores": True} if scores else {}
        write_json(beside / CONFIG, {"model": options.model_dump(), "vocab_size": vocab_size, **kind})


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Llama:
    """Reads what `save_model` wrote, in evaluation mode.

    Raises:
        InputError: the folder holds no model, or a damaged one.
    """
    folder = Path(folder)
    try:
        config = read_json(folder / CONFIG)
        state = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(
            f"no readable model here ({error})", where=folder, do="raise a herd or import a model first"
        ) from error
    model = Llama(ModelOptions(**config["model"]), config["vocab_size"], scores=config.get("scores", False))
    model.load_state_dict(state, assign=True)
    return model.to(device).eval()


def copy_model(folder: Path | str, to: Path | str) -> None:
    """Copies a model's files, whole or not at all."""
    with atomic_folder(to) as beside:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(Path(folder) / name, beside / name)
