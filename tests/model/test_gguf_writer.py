"""GGUF files written and read back: every weight, every dimension, and what the types of storage cost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from herdsman.errors import InputError
from herdsman.files import sha256_file
from herdsman.model.conversion import collect
from herdsman.model.gguf import NAMES, GgufFile
from herdsman.model.gguf_writer import Type, write_gguf
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions, RopeScaling
from herdsman.model.store import save_model

SIZES = {"layers": 11, "dim": 64, "heads": 4, "kv_heads": 2, "ffn_multiple_of": 32, "context_length": 99}


def saved(folder: Path, **changes: object) -> Llama:
    """A random model in a folder, norms random too, so that a forgotten one would show."""
    model = Llama(ModelOptions.model_validate(SIZES | changes), 70).initialise(3).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.linspace(0.5, 1.5, len(parameter)))
    save_model(model, folder)
    return model


def written(tmp_path: Path, type: Type, **changes: object) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Weights of a model, and what its file gives back for them."""
    ours = saved(tmp_path / "model", **changes)
    write_gguf(tmp_path / "model.gguf", tmp_path / "model", type, lambda writer: None)
    file = GgufFile(tmp_path / "model.gguf")
    back = collect(file.tensors(), NAMES, file.options, file.vocab_size, file.path)
    assert set(back) == set(ours.state_dict())
    return ours.state_dict(), back


@pytest.mark.parametrize(
    "changes",
    [
        {"tied_embeddings": True},
        {"kv_heads": 4, "rope_theta": 1e4, "norm_eps": 1e-6},
        {"head_dim": 20, "kv_heads": 1},
        {"ffn_width": 33},
        {"rope_scaling": RopeScaling(factor=32)},
        {"rope_scaling": RopeScaling(factor=4, low_freq_factor=1.5, high_freq_factor=3, original_context=16)},
    ],
    ids=["tied", "no groups", "own head width", "odd width", "Llama 3.2's scaling", "a scaling of our own"],
)
def test_weights_and_dimensions_come_back_as_they_were(tmp_path: Path, changes: dict[str, object]) -> None:
    ours, back = written(tmp_path, "f32", **changes)
    assert all(torch.equal(weight, back[name]) for name, weight in ours.items())
    options, expected = GgufFile(tmp_path / "model.gguf").options, ModelOptions.model_validate(SIZES | changes)
    same = ("layers", "dim", "heads", "kv_heads", "head_width", "ffn_dim", "tied_embeddings", "rope_theta")
    for name in (*same, "rope_scaling", "norm_eps", "context_length"):
        assert getattr(options, name) == getattr(expected, name)


@pytest.mark.parametrize(("type", "dtype"), [("f16", torch.float16), ("bf16", torch.bfloat16)])
def test_half_precision_is_the_nearest_number(tmp_path: Path, type: Type, dtype: torch.dtype) -> None:
    ours, back = written(tmp_path, type)
    for name, weight in ours.items():
        expected = weight if weight.dim() == 1 else weight.to(dtype).float()
        assert torch.equal(expected, back[name])


def test_q8_0_is_within_half_a_step_of_each_block(tmp_path: Path) -> None:
    ours, back = written(tmp_path, "q8_0", ffn_width=96)
    for name, weight in ours.items():
        if weight.dim() == 1:
            assert torch.equal(weight, back[name])
            continue
        blocks = weight.reshape(-1, 32)
        step = blocks.abs().amax(1, keepdim=True) / 127
        # The scale is a float16, so it is off by up to 2^-11 of itself.
        assert ((blocks - back[name].reshape(-1, 32)).abs() <= step * (0.5 + 127 * 2**-11)).all()
        assert not torch.equal(weight, back[name])


def test_rows_that_blocks_of_q8_0_do_not_fit_are_float16(tmp_path: Path) -> None:
    ours = saved(tmp_path / "model", ffn_width=33, tied_embeddings=True, layers=2)
    counts = write_gguf(tmp_path / "model.gguf", tmp_path / "model", "q8_0", lambda writer: None)
    assert counts == {"Q8_0": 13, "F32": 5, "F16": 2}
    back = dict(GgufFile(tmp_path / "model.gguf").tensors())["blk.1.ffn_down.weight"]
    assert torch.equal(back, ours.state_dict()["blocks.1.ffn.down_proj.weight"].half().float())


def test_a_file_is_whole_and_always_the_same_or_not_there(tmp_path: Path) -> None:
    model, out = saved(tmp_path / "model", layers=1), tmp_path / "model.gguf"
    for name in ("one", "two"):
        write_gguf(tmp_path / name, tmp_path / "model", "q8_0", lambda writer: writer.add_name("x"))
    assert sha256_file(tmp_path / "one") == sha256_file(tmp_path / "two")
    with torch.no_grad():
        model.state_dict()["blocks.0.ffn.up_proj.weight"][3, 4] = 70_000
    save_model(model, tmp_path / "model")
    with pytest.raises(InputError, match=r"up_proj\.weight holds a number that float16 cannot .* use --type bf16"):
        write_gguf(out, tmp_path / "model", "f16", lambda writer: None)
    assert {path.name for path in tmp_path.iterdir()} == {"model", "one", "two"}
    write_gguf(out, tmp_path / "model", "bf16", lambda writer: None)
    assert np.abs(dict(GgufFile(out).tensors())["blk.0.ffn_up.weight"][3, 4] - 70_000) < 300


def test_what_writes_no_text_is_refused(tmp_path: Path) -> None:
    save_model(Llama(ModelOptions.model_validate(SIZES | {"layers": 1}), 70, scores=True), tmp_path / "model")
    with pytest.raises(InputError, match="this model gives scores and no text"):
        write_gguf(tmp_path / "model.gguf", tmp_path / "model", "f32", lambda writer: None)
    with pytest.raises(InputError, match="no readable model here"):
        write_gguf(tmp_path / "model.gguf", tmp_path / "none", "f32", lambda writer: None)


def test_a_damaged_scaling_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model", layers=1, rope_scaling=RopeScaling(factor=4, original_context=16))
    write_gguf(tmp_path / "model.gguf", tmp_path / "model", "f32", lambda writer: None)
    raw = (tmp_path / "model.gguf").read_bytes()
    key = b"herdsman.rope_scaling.original_context" + np.uint32(6).tobytes()
    for value in (32.0, 0.0, -1.0, 16.5, float("nan")):
        (tmp_path / "wrong.gguf").write_bytes(
            raw.replace(key + np.float32(16).tobytes(), key + np.float32(value).tobytes())
        )
        with pytest.raises(InputError, match=r"rope_freqs\.weight is not Llama 3\.1's scaling"):
            GgufFile(tmp_path / "wrong.gguf")
