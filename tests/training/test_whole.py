"""A model comes off any layout as it is, and goes onto any other from a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import distributed

from herdsman.errors import InputError
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import WEIGHTS, load_model, read_config, save_model, save_weights
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.whole import save_whole, weights_of, whole
from tests.processes import run
from tests.training.parallel.reference import OPTIONS, TIED, VOCAB, fill

CPU = torch.device("cpu")
LAYOUTS: dict[str, tuple[int, ModelOptions, bool, LayoutOptions]] = {
    "tensor": (2, OPTIONS, False, LayoutOptions(tensor=2)),
    "v": (2, TIED, False, LayoutOptions(pipeline=2, schedule="ZBVZeroBubble")),
    "scores": (2, OPTIONS, True, LayoutOptions(tensor=2)),
    "context": (2, OPTIONS, False, LayoutOptions(context=2)),
    "pipeline-tensor": (4, TIED, False, LayoutOptions(pipeline=2, tensor=2)),
    "replicas": (4, OPTIONS, False, LayoutOptions(data=4, shards=2)),
}


def there_and_back(names: list[str], folder: Path) -> None:
    """Lays models out, writes them, and lays what was written out again."""
    for name in names:
        world, options, scores, layout = LAYOUTS[name]
        laid_out = Layout.of(layout, world)
        model = lay_out(options, VOCAB, laid_out, CPU, fill(options), scores=scores)
        save_whole(model, folder / name)
        together = whole(model)
        assert (together is None) == (distributed.get_rank() > 0)
        if together is not None:
            save_model(together, folder / f"{name}, together")
        assert read_config(folder / name) == (options, VOCAB, scores)
        again = lay_out(options, VOCAB, laid_out, CPU, weights_of(folder / name), scores=scores)
        save_whole(again, folder / f"{name}, again")


@pytest.mark.parametrize("world", [2, 4])
def test_models_come_off_and_go_onto_layouts(world: int, tmp_path: Path) -> None:
    names = [name for name, (size, *_) in LAYOUTS.items() if size == world]
    run(there_and_back, world, names, tmp_path, timeout_seconds=240)
    for name in names:
        _, options, scores, _ = LAYOUTS[name]
        expected = dict(Llama(options, VOCAB, scores=scores).initialise(3).named_parameters())
        for folder in (name, f"{name}, together", f"{name}, again"):
            found = dict(load_model(tmp_path / folder).named_parameters())
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[key], expected[key]) for key in expected), (folder, name)
        first, second = (load_file(tmp_path / folder / "model.safetensors") for folder in (name, f"{name}, together"))
        assert {key: value.dtype for key, value in first.items()} == {key: v.dtype for key, v in second.items()}


def test_an_output_that_scores_begins_at_nothing(tmp_path: Path) -> None:
    save_model(Llama(OPTIONS, VOCAB).initialise(3), tmp_path / "model")
    model = lay_out(OPTIONS, VOCAB, Layout.of(LayoutOptions(), 1), CPU, weights_of(tmp_path / "model"), scores=True)
    weights = dict(model.named_parameters())
    assert weights["output.weight"].shape == (1, OPTIONS.dim)
    assert not weights["output.weight"].any()
    assert torch.equal(weights["embedding.weight"], Llama(OPTIONS, VOCAB).initialise(3).embedding.weight)  # type: ignore[union-attr]


def test_folders_that_do_not_fit_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no readable model here .*; point to a model folder"):
        read_config(tmp_path / "nothing")
    save_model(Llama(OPTIONS, VOCAB).initialise(3), tmp_path / "model")
    layout = Layout.of(LayoutOptions(), 1)
    wider = OPTIONS.model_copy(update={"layers": 5})
    with pytest.raises(InputError, match=r"has no blocks\.4\.attention\S+ of shape \[.*\]; check the dimensions"):
        lay_out(wider, VOCAB, layout, CPU, weights_of(tmp_path / "model"))
    (tmp_path / "model" / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"no readable model here .*; .* or make the model again"):
        lay_out(OPTIONS, VOCAB, layout, CPU, weights_of(tmp_path / "model"))


def test_one_by_one_or_all_at_once_makes_the_same_file(tmp_path: Path) -> None:
    model = Llama(TIED, VOCAB).initialise(3)
    save_model(model, tmp_path / "model")
    save_file(dict(model.state_dict()), tmp_path / "theirs")
    assert (tmp_path / "model" / WEIGHTS).read_bytes() == (tmp_path / "theirs").read_bytes()


def test_weights_that_are_not_the_model_s_are_not_written(tmp_path: Path) -> None:
    weights = sorted(Llama(TIED, VOCAB).initialise(3).state_dict().items())
    for wrong in (weights[:-1], [*weights[1:], weights[0]], [*weights, weights[0]]):
        with pytest.raises(ValueError, match=r"comes where|argument"):
            save_weights(wrong, TIED, VOCAB, tmp_path / "model")
        assert not list(tmp_path.iterdir())
