"""Hugging Face's form of a Llama: `config.json`, and safetensors in one file or in shards with an index.

The decoder already pairs rotary dimensions as Hugging Face does (i with i + width / 2), so weights keep their values
and only change their names. (Meta's checkpoints and GGUF interleave the pairs: theirs need q and k permuted.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from herdsman.errors import InputError, MachineError
from herdsman.files import read_json, write_json
from herdsman.model.conversion import NameMap
from herdsman.model.options import ModelOptions, RopeScaling

NAMES = NameMap(
    {
        "embedding.weight": "model.embed_tokens.weight",
        "blocks.N.attention_norm.weight": "model.layers.N.input_layernorm.weight",
        "blocks.N.attention.q_proj.weight": "model.layers.N.self_attn.q_proj.weight",
        "blocks.N.attention.k_proj.weight": "model.layers.N.self_attn.k_proj.weight",
        "blocks.N.attention.v_proj.weight": "model.layers.N.self_attn.v_proj.weight",
        "blocks.N.attention.o_proj.weight": "model.layers.N.self_attn.o_proj.weight",
        "blocks.N.ffn_norm.weight": "model.layers.N.post_attention_layernorm.weight",
        "blocks.N.ffn.gate_proj.weight": "model.layers.N.mlp.gate_proj.weight",
        "blocks.N.ffn.up_proj.weight": "model.layers.N.mlp.up_proj.weight",
        "blocks.N.ffn.down_proj.weight": "model.layers.N.mlp.down_proj.weight",
        "norm.weight": "model.norm.weight",
        "output.weight": "lm_head.weight",
    }
)
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5_000_000_000
"""Largest file of weights, as in transformers."""
Dtype = Literal["float32", "bfloat16", "float16"]

# What `LlamaForCausalLM` can be told in config.json and this decoder does not do; each key and its only allowed value.
PLAIN: dict[str, Any] = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "sliding_window": None,
    "num_local_experts": None,
    "partial_rotary_factor": 1.0,
    "quantization_config": None,
}
_REMNANT = "rotary_emb.inv_freq"  # Checkpoints of 2023 carry the rotary frequencies, which the configuration gives.


def to_config(model: ModelOptions, vocab_size: int, dtype: Dtype = "float32") -> dict[str, Any]:
    """`config.json` of the model. Rotary settings stand twice: `rope_theta` and `rope_scaling` for transformers 4,
    `rope_parameters` for 5."""
    scaling = None
    if model.rope_scaling is not None:
        scaling = {
            "rope_type": "llama3",
            "factor": model.rope_scaling.factor,
            "low_freq_factor": model.rope_scaling.low_freq_factor,
            "high_freq_factor": model.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": model.rope_scaling.original_context,
        }
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": model.dim,
        "intermediate_size": model.ffn_dim,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_width,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "mlp_bias": False,
        "max_position_embeddings": model.context_length,
        "rms_norm_eps": model.norm_eps,
        "rope_theta": model.rope_theta,
        "rope_scaling": scaling,
        "rope_parameters": {"rope_type": "default", **(scaling or {}), "rope_theta": model.rope_theta},
        "tie_word_embeddings": model.tied_embeddings,
        "initializer_range": model.initial_std,
        "torch_dtype": dtype,
        "use_cache": True,
    }


def from_config(config: Mapping[str, Any], where: object) -> tuple[ModelOptions, int]:
    """Dimensions and vocabulary rows in a `config.json` of transformers 4 or 5, what is left out as in `LlamaConfig`.

    Args:
        where: the file, for complaints.

    Raises:
        InputError: it is no Llama, asks for what this decoder does not do, or lacks a dimension.
    """
    for key, allowed in PLAIN.items():
        if config.get(key, allowed) != allowed:
            raise InputError(
                f"{key} is {_short(config[key])} and only {_short(allowed)} is supported",
                where=where,
                do="only dense models of Llama's architecture, not quantised, can be imported",
            )
    theta, scaling = _rope(config, where)
    try:
        dim, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        head_dim = config.get("head_dim")
        options = ModelOptions(
            layers=config["num_hidden_layers"],
            dim=dim,
            heads=heads,
            kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=None if head_dim is None or head_dim * heads == dim else head_dim,
            ffn_width=config["intermediate_size"],
            tied_embeddings=config.get("tie_word_embeddings", False),
            rope_theta=theta,
            rope_scaling=scaling,
            norm_eps=config.get("rms_norm_eps", 1e-6),
            initial_std=config.get("initializer_range", 0.02),
            context_length=config.get("max_position_embeddings", 2048),
        )
        return options, int(config["vocab_size"])
    except KeyError as error:
        raise InputError(f"{error.args[0]} is missing", where=where, do="fetch the whole file") from error
    except ValidationError as error:
        problem = error.errors()[0]
        message = problem["msg"].removeprefix("Value error, ")
        key = ".".join(map(str, problem["loc"]))
        raise InputError(f"{key}: {message}" if key else message, where=where, do="fetch the file again") from error
    except (TypeError, ValueError) as error:
        raise InputError(f"not a model's dimensions ({error})", where=where, do="fetch the file again") from error


def _rope(config: Mapping[str, Any], where: object) -> tuple[float, RopeScaling | None]:
    """Base and scaling of the rotary frequencies; transformers 5 keeps both in one table, 4 and older beside it."""
    table = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(table, Mapping):
        raise InputError(f"the rotary settings are {_short(table)}", where=where, do="fetch the file again")
    theta = table.get("rope_theta") or config.get("rope_theta") or 10_000.0
    kind = table.get("rope_type") or table.get("type") or "default"
    if table.get("partial_rotary_factor", 1.0) != 1.0:
        kind = "partial"
    if kind == "default":
        return theta, None
    if kind != "llama3":
        raise InputError(
            f"rope_type is {_short(kind)} and only 'default' and 'llama3' are supported",
            where=where,
            do="only models with plain rotary positions or Llama 3.1's scaling can be imported",
        )
    try:
        return theta, RopeScaling(
            factor=table["factor"],
            low_freq_factor=table["low_freq_factor"],
            high_freq_factor=table["high_freq_factor"],
            original_context=table.get("original_max_position_embeddings") or config["max_position_embeddings"],
        )
    except KeyError as error:
        raise InputError(f"the rotary scaling lacks {error.args[0]}", where=where, do="fetch the file again") from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise InputError(
            f"the rotary scaling's {problem['loc'][0]}: {problem['msg']}", where=where, do="fetch the file again"
        ) from error


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`.

    Raises:
        InputError: there is none, or it is no JSON table.
    """
    path = folder / CONFIG
    try:
        config = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(
            f"cannot be read ({getattr(error, 'strerror', None) or error})",
            where=path,
            do="point to a folder as transformers writes it",
        ) from error
    if not isinstance(config, dict):
        raise InputError("is not a table", where=path, do="fetch the file again")
    return config


def read_weights(folder: Path) -> Iterator[tuple[str, Tensor]]:
    """Their names and tensors, one after the other; of several shards one is open at a time.

    Raises:
        InputError: a file is missing, damaged, or not the one that the index tells of.
    """
    for path, listed in _shards(folder):
        try:
            with safe_open(path, framework="pt") as weights:
                present = set(weights.keys())
                if listed is not None and (lacking := sorted(listed - present)):
                    raise InputError(
                        f"lacks {lacking[0]}, which {INDEX} says is here", where=path, do="fetch the files again"
                    )
                for name in sorted(present):
                    if not name.endswith(_REMNANT):
                        yield name, weights.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise InputError(f"not a readable file of weights ({error})", where=path, do="fetch it again") from error


def weight_files(folder: Path) -> list[Path]:
    """The folder's files of weights, one or several.

    Raises:
        InputError: one is missing.
    """
    return [path for path, _ in _shards(folder)]


def _shards(folder: Path) -> list[tuple[Path, set[str] | None]]:
    """Files of weights and what the index, where there is one, says each holds."""
    if (folder / WEIGHTS).is_file():
        return [(folder / WEIGHTS, None)]
    if not (folder / INDEX).is_file():
        pickled = next(iter(sorted(folder.glob("pytorch_model*.bin"))), None)
        if pickled is not None:
            raise InputError(
                "the weights are pickles, which can run any program",
                where=pickled,
                do="fetch the model as safetensors, or load and save it with transformers",
            )
        raise InputError(
            f"there is no {WEIGHTS} here and no {INDEX}", where=folder, do="point to a folder as transformers writes it"
        )
    try:
        table: dict[str, str] = read_json(folder / INDEX)["weight_map"]
        files = sorted(set(table.values()))
        if not files or any(Path(file).name != file for file in files):
            raise ValueError("it names no files of this folder")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"not an index of shards ({error})", where=folder / INDEX, do="fetch it again") from error
    for file in files:
        if not (folder / file).is_file():
            raise InputError(
                f"{file} is missing, one of {len(files)} files of weights", where=folder, do="fetch all of them"
            )
    return [(folder / file, {name for name, place in table.items() if place == file}) for file in files]


def write_weights(
    source: Path,
    folder: Path,
    dtype: Dtype = "float32",
    shard_bytes: int = SHARD_BYTES,
    on_progress: Callable[[int], object] = lambda parameters: None,
) -> None:
    """Writes `model.safetensors`, or shards and their index if it were larger than `shard_bytes`.

    At most one shard is in memory. The same weights give the same bytes.

    Args:
        source: a file of weights by our names, as `model.store` writes it.
        folder: an existing folder.
        dtype: type the weights are rounded to.
        on_progress: called with the number of parameters that have just been written.

    Raises:
        InputError: a weight is too large for float16.
    """
    kind: torch.dtype = getattr(torch, dtype)
    with safe_open(source, framework="pt") as weights:
        ours = {NAMES.theirs(name): name for name in weights.keys()}  # noqa: SIM118 (not a dict)
        sizes = {
            name: torch.Size(weights.get_slice(ours[name]).get_shape()).numel() * kind.itemsize for name in sorted(ours)
        }
        shards: list[list[str]] = [[]]
        room = shard_bytes
        for name, size in sizes.items():
            if size > room and shards[-1]:
                shards.append([])
                room = shard_bytes
            shards[-1].append(name)
            room -= size
        files = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
        for file, names in zip(files if len(shards) > 1 else [WEIGHTS], shards, strict=True):
            state = {name: weights.get_tensor(ours[name]).to(kind) for name in names}
            for name, weight in state.items():
                if not torch.isfinite(weight).all():
                    raise InputError(f"{name} holds a number that {dtype} cannot", where=source, do="use bfloat16")
            path = folder / file
            path.touch()
            mode = path.stat().st_mode
            try:
                save_file(state, path, metadata={"format": "pt"})
            except SafetensorError as error:
                raise MachineError(f"cannot be written ({error})", where=path) from error
            path.chmod(mode)  # safetensors leaves its files readable to their owner alone.
            on_progress(sum(weight.numel() for weight in state.values()))
    if len(shards) > 1:
        places = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        write_json(folder / INDEX, {"metadata": {"total_size": sum(sizes.values())}, "weight_map": places})
