"""Export of GGUF, llama.cpp's form of a model in one file: dimensions and weights of its `llama` architecture.

Written with llama.cpp's own `gguf` package, one weight in memory at a time, and read back by `model.gguf`: q and k get
the order of rows that file has (interleaved rotary pairs), and Llama 3.1's rotary scaling becomes a tensor of factors.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
from gguf import GGMLQuantizationType, LlamaFileType
from torch import Tensor

from herdsman.errors import InputError
from herdsman.files import atomic_path
from herdsman.model.count import count_parameters
from herdsman.model.gguf import ARCHITECTURE, NAMES, ROPE_FACTORS, SCALING_KEY
from herdsman.model.options import ModelOptions
from herdsman.model.rope import rope_frequencies
from herdsman.model.store import open_weights, read_config
from herdsman.progress import SILENT, Progress

Type = Literal["f32", "f16", "bf16", "q8_0"]
"""How matrices are stored; vectors are float32 in every file. q8_0: 8-bit numbers, a float16 scale for each 32."""
_STORED = {
    "f32": (GGMLQuantizationType.F32, LlamaFileType.ALL_F32),
    "f16": (GGMLQuantizationType.F16, LlamaFileType.MOSTLY_F16),
    "bf16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


def write_gguf(
    out: Path,
    model_folder: Path,
    type: Type,
    add_metadata: Callable[[gguf.GGUFWriter], None],
    progress: Progress = SILENT,
) -> dict[str, int]:
    """Writes the file whole or not at all; the same model gives the same bytes.

    Args:
        out: the file, replaced if it exists.
        model_folder: `config.json` and `model.safetensors` as `model.store` writes them.
        add_metadata: adds name, licence, vocabulary and whatever else is not dimensions.

    Returns:
        How many tensors are stored in each type, `{"Q8_0": 30, "F32": 9}`. Matrices whose rows are no multiple of 32
        numbers cannot be q8_0 and are float16 then, as llama.cpp's converter does it.

    Raises:
        InputError: there is no model, it is one that scores (a reward model), or a weight is too large for float16.
    """
    options, vocab_size, scores = read_config(model_folder)
    if scores:
        raise InputError(
            "this model gives scores and no text", where=model_folder, do="export the chat model or the base model"
        )
    weights = open_weights(model_folder)
    names = sorted(weights.keys(), key=_by_layer)
    factors = _rope_factors(options)
    kinds = {name: _stored_as(type, weights.get_slice(name).get_shape()) for name in names}
    with atomic_path(out) as beside:
        writer = gguf.GGUFWriter(None, ARCHITECTURE)
        try:
            _add_dimensions(writer, options, vocab_size, type)
            add_metadata(writer)
            if factors is not None:
                writer.add_tensor_info(ROPE_FACTORS, factors.shape, factors.dtype, factors.nbytes)
            for name in names:
                shape, kind = weights.get_slice(name).get_shape(), kinds[name]
                size = _bytes_of(shape, kind)
                writer.add_tensor_info(NAMES.theirs(name), shape, np.dtype(np.float32), size, kind)
            writer.write_header_to_file(beside)
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            if factors is not None:
                writer.write_tensor_data(factors)
            total = count_parameters(options, vocab_size).total
            with progress.task("export", total=total, unit="parameters") as task:
                for name in names:
                    weight = weights.get_tensor(name)
                    if name.endswith(("q_proj.weight", "k_proj.weight")):
                        weight = _pairs_from_halves(weight, options.head_width)
                    writer.write_tensor_data(_stored(name, weight, kinds[name], model_folder))
                    task.advance(weight.numel())
        finally:
            writer.close()
    counts = Counter(kind.name for kind in kinds.values())
    if factors is not None:
        counts["F32"] += 1
    return dict(counts.most_common())


def _by_layer(name: str) -> tuple[Any, ...]:
    """The order of use: embedding, layers by number, norm and output."""
    number = re.search(r"\d+", name)
    place = {"embedding": 0, "blocks": 1, "norm": 2, "output": 3}[name.partition(".")[0]]
    return place, int(number[0]) if number else 0, name


def _stored_as(type: Type, shape: list[int]) -> GGMLQuantizationType:
    if len(shape) == 1:
        return GGMLQuantizationType.F32
    kind = _STORED[type][0]
    return GGMLQuantizationType.F16 if shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] else kind


def _bytes_of(shape: list[int], kind: GGMLQuantizationType) -> int:
    block_numbers, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return int(np.prod(shape)) // block_numbers * block_bytes


def _stored(name: str, weight: Tensor, kind: GGMLQuantizationType, where: Path) -> np.ndarray:
    """The weight as it lies in the file: numbers, or blocks of bytes."""
    array = np.ascontiguousarray(weight.numpy(), dtype=np.float32)
    if kind == GGMLQuantizationType.F16:
        with np.errstate(over="ignore"):
            array = array.astype(np.float16)
        if not np.isfinite(array).all():
            raise InputError(
                f"{name} holds a number that float16 cannot (its largest is 65,504)", where=where, do="use --type bf16"
            )
        return array
    stored: np.ndarray = gguf.quants.quantize(array, kind)
    return stored


def _pairs_from_halves(weight: Tensor, width: int) -> Tensor:
    """Rows of every head [heads * width, dim] from the order 0, 1, 2, ... into 0, w/2, 1, w/2 + 1, ..."""
    rows, columns = weight.shape
    return weight.view(rows // width, 2, width // 2, columns).transpose(1, 2).reshape(rows, columns)


def _rope_factors(options: ModelOptions) -> np.ndarray | None:
    """What each rotary frequency is divided by [head_width / 2], in float32; None without scaling."""
    if options.rope_scaling is None:
        return None
    plain = rope_frequencies(options.model_copy(update={"rope_scaling": None}))
    factors: np.ndarray = (plain / rope_frequencies(options)).float().numpy()
    return factors


def _add_dimensions(writer: gguf.GGUFWriter, options: ModelOptions, vocab_size: int, type: Type) -> None:
    parameters = count_parameters(options, vocab_size).total
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_size_label(gguf.size_label(parameters, parameters, 0, 0))
    writer.add_file_type(_STORED[type][1])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(vocab_size)
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
    if options.rope_scaling is not None:  # llama.cpp needs the factors only; this is for the way back.
        for key, value in options.rope_scaling.model_dump().items():
            writer.add_float32(SCALING_KEY + key, value)
