"""Small random Llamas of transformers, as a folder or as a GGUF file, and how to bring them home."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from herdsman.model.conversion import collect
from herdsman.model.huggingface import CONFIG, NAMES, from_config, read_config, read_weights
from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_weights

VOCAB = 300
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 2, "num_attention_heads": 6,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "initializer_range": 0.1,
}  # fmt: skip


def llama31(factor: float, original_context: int) -> dict[str, Any]:
    """Rotary settings of Llama 3.1 (factor 8) and 3.2 (32)."""
    return {
        "rope_type": "llama3", "rope_theta": 500_000.0, "factor": factor, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": original_context,
    }  # fmt: skip


def peer(**changes: object) -> Any:
    """A random model of transformers. Norms are random too, so that a forgotten one would show."""
    import transformers

    torch.manual_seed(1)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES | changes)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.uniform_(0.5, 1.5)
    return model


def brought_home(folder: Path, home: Path) -> Llama:
    """A Hugging Face folder's model as ours."""
    options, vocab_size = from_config(read_config(folder), folder / CONFIG)
    weights = collect(read_weights(folder), NAMES, options, vocab_size, folder)
    save_weights(sorted(weights.items()), options, vocab_size, home)
    return load_model(home)


def tokens(rows: int = 2, length: int = 60) -> torch.Tensor:
    return torch.randint(0, VOCAB, (rows, length), generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def furthest(ours: Llama, theirs: Any, ids: torch.Tensor | None = None) -> float:
    """Largest difference of any logit."""
    ids = tokens() if ids is None else ids
    return float((ours.logits(ours(ids)) - theirs(ids).logits).abs().max())


Stored = Callable[[np.ndarray], tuple[np.ndarray, gguf.GGMLQuantizationType]]
"""How a matrix is stored in a GGUF file: its bytes and their type."""


def stored_as(kind: str) -> Stored:
    type = gguf.GGMLQuantizationType[kind]
    return lambda matrix: (gguf.quants.quantize(matrix, type), type)


def write_gguf(
    path: Path,
    model: Any,
    stored: Stored | None = None,
    vocabulary: Callable[[gguf.GGUFWriter], object] | None = None,
    tensors: dict[str, np.ndarray] | None = None,
    **metadata: object,
) -> Path:
    """Writes a model of transformers as llama.cpp's converter does, q and k in the order of interleaved pairs.

    Args:
        stored: how matrices are stored, float32 if left out; vectors always are.
        vocabulary: adds the tokenizer's metadata.
        tensors: more tensors, by name.
        metadata: whole numbers and texts that are added or replace others, dots written as two underscores.
    """
    config, stored = model.config, stored or stored_as("F32")
    writer = gguf.GGUFWriter(path, "llama")
    numbers = {
        "llama.vocab_size": config.vocab_size,
        "llama.context_length": config.max_position_embeddings,
        "llama.embedding_length": config.hidden_size,
        "llama.block_count": config.num_hidden_layers,
        "llama.feed_forward_length": config.intermediate_size,
        "llama.attention.head_count": config.num_attention_heads,
        "llama.attention.head_count_kv": config.num_key_value_heads,
        "llama.attention.key_length": config.head_dim,
        "llama.attention.value_length": config.head_dim,
        "llama.rope.dimension_count": config.head_dim,
    } | {key.replace("__", "."): value for key, value in metadata.items()}
    for key, value in numbers.items():
        writer.add_string(key, value) if isinstance(value, str) else writer.add_uint32(key, value)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if vocabulary:
        vocabulary(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, parameter in model.named_parameters():
        weight = parameter.detach().float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            rows, columns = weight.shape
            heads = rows // config.head_dim
            weight = weight.reshape(heads, 2, config.head_dim // 2, columns).swapaxes(1, 2).reshape(rows, columns)
        data, kind = (
            (weight, gguf.GGMLQuantizationType.F32) if weight.ndim == 1 else stored(np.ascontiguousarray(weight))
        )
        writer.add_tensor(names.get_name(name, (".weight",)), data, raw_dtype=kind)
    for name, extra in (tensors or {}).items():
        writer.add_tensor(name, extra)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
