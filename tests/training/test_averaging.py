"""Averages: against exact rational means, the running average, and the models they are made of."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import WEIGHTS, load_model, save_model
from herdsman.training.averaging import average_models, exponential_weights

OPTIONS = ModelOptions(layers=2, dim=16, heads=2, kv_heads=1, ffn_multiple_of=16, context_length=16)


def lay_models(root: Path, count: int, options: ModelOptions = OPTIONS) -> list[Path]:
    folders = [root / str(number) for number in range(count)]
    for number, folder in enumerate(folders):
        save_model(Llama(options, 40).initialise(number), folder)
    return folders


def flat(model: Llama) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def test_the_mean_is_exact_to_the_last_bit_of_float32(tmp_path: Path) -> None:
    folders = lay_models(tmp_path, 3)
    average_models(folders, tmp_path / "average")
    average = flat(load_model(tmp_path / "average"))
    columns = zip(*(flat(load_model(folder)).tolist() for folder in folders), strict=True)
    exact = [float(sum(map(Fraction, column)) / 3) for column in columns]
    assert torch.equal(average, torch.tensor(exact, dtype=torch.float64).float())


def test_weights_are_obeyed(tmp_path: Path) -> None:
    folders = lay_models(tmp_path, 4)
    running = flat(load_model(folders[0])).double()
    for number, folder in enumerate(folders[1:], 1):
        # The running average of what has been seen, with the starting value's share taken out.
        share = 0.7 * (1 - 0.7**number) / (1 - 0.7 ** (number + 1))
        running = share * running + (1 - share) * flat(load_model(folder)).double()
    average_models(folders, tmp_path / "average", exponential_weights(4, 0.7))
    assert torch.allclose(flat(load_model(tmp_path / "average")).double(), running, atol=1e-8)


def test_exponential_weights() -> None:
    assert exponential_weights(1, 0.5) == [1.0]
    assert exponential_weights(3, 0.5) == [0.25, 0.5, 1.0]


def test_like_models_are_their_own_average(tmp_path: Path) -> None:
    (folder,) = lay_models(tmp_path, 1)
    for count in (1, 3, 7):
        average_models([folder] * count, tmp_path / f"of {count}")
        same = (tmp_path / f"of {count}" / WEIGHTS).read_bytes() == (folder / WEIGHTS).read_bytes()
        assert same


def test_models_of_another_shape_are_refused(tmp_path: Path) -> None:
    folders = lay_models(tmp_path / "a", 1)
    folders += lay_models(tmp_path / "b", 1, OPTIONS.model_copy(update={"layers": 1}))
    with pytest.raises(InputError, match=r"has another blocks\.1\.\S+ than"):
        average_models(folders, tmp_path / "average")
    assert not (tmp_path / "average").exists()
    with pytest.raises(InputError, match="no readable model here"):
        average_models([tmp_path / "none"], tmp_path / "average")
