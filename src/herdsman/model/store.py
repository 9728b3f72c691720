"""A model in a folder: `config.json` with its dimensions and `model.safetensors` with its weights in float32."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from herdsman.errors import InputError
from herdsman.files import atomic_folder, read_json, write_json
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def save_model(model: Llama, folder: Path | str) -> None:
    """Writes the model whole or not at all; the same weights give the same bytes."""
    save_weights(sorted(model.state_dict().items()), model.options, model.vocab_size, folder, model.is_scoring)


def save_weights(
    weights: Iterable[tuple[str, Tensor]],
    options: ModelOptions,
    vocab_size: int,
    folder: Path | str,
    scores: bool = False,
) -> None:
    """The same for weights that come one by one in the order of their names, so that memory need not hold them all."""
    with atomic_folder(folder) as beside:
        with open(beside / WEIGHTS, "wb") as file:
            _write(file, weight_shapes(options, vocab_size, scores), weights)
        kind = {"scores": True} if scores else {}
        write_json(beside / CONFIG, {"model": options.model_dump(), "vocab_size": vocab_size, **kind})


def weight_shapes(options: ModelOptions, vocab_size: int, scores: bool = False) -> dict[str, tuple[int, ...]]:
    """[rows, columns] or [columns] of each weight of such a `Llama`, in the order of their names."""
    with torch.device("meta"):
        model = Llama(options, vocab_size, scores=scores)
    return {name: tuple(weight.shape) for name, weight in sorted(model.state_dict().items())}


def _write(file: BinaryIO, shapes: Mapping[str, tuple[int, ...]], weights: Iterable[tuple[str, Tensor]]) -> None:
    """A file of safetensors, as the library writes it from weights that are all in memory: their places, then they."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for (name, tensor), (expected, shape) in zip(weights, shapes.items(), strict=True):
        if name != expected or tuple(tensor.shape) != shape:
            raise ValueError(f"{name} of shape {list(tensor.shape)} comes where {expected} of {list(shape)} should")
        file.write(tensor.detach().cpu().float().contiguous().numpy().data)


def read_config(folder: Path | str) -> tuple[ModelOptions, int, bool]:
    """Dimensions and vocabulary size of the model in a folder, and whether it scores.

    Raises:
        InputError: there is none.
    """
    try:
        config = read_json(Path(folder) / CONFIG)
        return ModelOptions(**config["model"]), int(config["vocab_size"]), config.get("scores", False)
    except (OSError, ValueError, KeyError) as error:
        raise _unreadable(folder, error) from error


def open_weights(folder: Path | str) -> safe_open:
    """The model's weights, to be read one by one.

    Raises:
        InputError: there are none, or damaged ones.
    """
    try:
        return safe_open(Path(folder) / WEIGHTS, "pt")
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, error) from error


def load_model(folder: Path | str, device: torch.device | str = "cpu") -> Llama:
    """Reads what `save_model` wrote, in evaluation mode.

    Raises:
        InputError: the folder holds no model, or a damaged one.
    """
    options, vocab_size, scores = read_config(folder)
    try:
        state = load_file(Path(folder) / WEIGHTS)
    except (OSError, SafetensorError) as error:
        raise _unreadable(folder, error) from error
    model = Llama(options, vocab_size, scores=scores)
    model.load_state_dict(state, assign=True)
    return model.to(device).eval()


def _unreadable(folder: Path | str, error: Exception) -> InputError:
    return InputError(
        f"no readable model here ({error})", where=folder, do="point to a model folder, or make the model again"
    )


def copy_model(folder: Path | str, to: Path | str) -> None:
    """Copies a model's files, whole or not at all."""
    with atomic_folder(to) as beside:
        for name in (CONFIG, WEIGHTS):
            shutil.copyfile(Path(folder) / name, beside / name)
