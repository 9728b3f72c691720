"""A Llama's weights as a GGUF file for llama.cpp, without a vocabulary: token ids are all that a measurement needs."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from herdsman.model.huggingface import NAMES
from herdsman.model.llama import Llama


def write(model: Llama, kind: str, path: Path) -> Path:
    """Writes matrices as `kind`, BF16 or Q8_0, and vectors as float32; q and k in the order of interleaved pairs."""
    options, type = model.options, gguf.GGMLQuantizationType[kind]
    assert options.rope_scaling is None
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(model.vocab_size)
    writer.add_context_length(options.context_length)
    writer.add_embedding_length(options.dim)
    writer.add_block_count(options.layers)
    writer.add_feed_forward_length(options.ffn_dim)
    writer.add_head_count(options.heads)
    writer.add_head_count_kv(options.kv_heads)
    writer.add_key_length(options.head_width)
    writer.add_value_length(options.head_width)
    writer.add_rope_dimension_count(options.head_width)
    writer.add_rope_freq_base(options.rope_theta)
    writer.add_layer_norm_rms_eps(options.norm_eps)
    writer.add_tokenizer_model("none")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, options.layers)
    for name, parameter in model.named_parameters():
        weight = parameter.detach().float().numpy()
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            pairs = weight.reshape(-1, 2, options.head_width // 2, weight.shape[1])
            weight = pairs.swapaxes(1, 2).reshape(weight.shape)
        theirs = names.get_name(NAMES.theirs(name), (".weight",))
        if weight.ndim == 1:
            writer.add_tensor(theirs, weight)
        else:
            writer.add_tensor(theirs, gguf.quants.quantize(np.ascontiguousarray(weight), type), raw_dtype=type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
