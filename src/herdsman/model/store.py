"""A model in a folder: `config.json` with its dimensions and `model.safetensors` with its weights in float32."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from herdsman.errors import InputError
from herdsman.files import atomic_folder, read_json, write_json
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: Llama, folder: Path | str) -> None:
    """Writes the model whole or not at all; the same weights give the same bytes."""
    state = {name: tensor.detach().cpu().float().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_folder(folder) as beside:
        (beside / WEIGHTS).write_bytes(save(dict(sorted(state.items()))))
        write_json(beside / CONFIG, {"model": model.options.model_dump(), "vocab_size": model.vocab_size})


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
        raise InputError(f"no readable model here ({error})", where=folder, do="raise the herd first") from error
    model = Llama(ModelOptions(**config["model"]), config["vocab_size"])
    model.load_state_dict(state)
    return model.to(device).eval()
