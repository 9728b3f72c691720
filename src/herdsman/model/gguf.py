"""Import of GGUF, llama.cpp's form of a model in one file: dimensions and weights of its `llama` architecture.

Read with llama.cpp's own `gguf` package, which also dequantises every type of block. In this architecture the rows of q
and k are stored in the order of interleaved rotary pairs (2i with 2i + 1, as in Meta's checkpoints); here they get back
the order of Hugging Face (i with i + width / 2) that the decoder works in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor

from herdsman.errors import InputError
from herdsman.model.conversion import NameMap
from herdsman.model.options import ModelOptions, RopeScaling
from herdsman.model.rope import rope_frequencies

NAMES = NameMap(
    {
        "embedding.weight": "token_embd.weight",
        "blocks.N.attention_norm.weight": "blk.N.attn_norm.weight",
        "blocks.N.attention.q_proj.weight": "blk.N.attn_q.weight",
        "blocks.N.attention.k_proj.weight": "blk.N.attn_k.weight",
        "blocks.N.attention.v_proj.weight": "blk.N.attn_v.weight",
        "blocks.N.attention.o_proj.weight": "blk.N.attn_output.weight",
        "blocks.N.ffn_norm.weight": "blk.N.ffn_norm.weight",
        "blocks.N.ffn.gate_proj.weight": "blk.N.ffn_gate.weight",
        "blocks.N.ffn.up_proj.weight": "blk.N.ffn_up.weight",
        "blocks.N.ffn.down_proj.weight": "blk.N.ffn_down.weight",
        "norm.weight": "output_norm.weight",
        "output.weight": "output.weight",
    }
)
ARCHITECTURE = "llama"
ROPE_FACTORS = "rope_freqs.weight"
"""Tensor [head_width / 2] that divides each rotary frequency: how GGUF stores Llama 3.1's scaling."""
SCALING_KEY = "herdsman.rope_scaling."
"""Our own metadata: the numbers behind the factors, by their names in `RopeScaling`."""


class _Reader(gguf.GGUFReader):
    """The package's reader, made to stop at the end of the file: it takes what lies behind for empty arrays, so that a
    wrong length in a damaged file would keep it busy for ever."""

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        found = super()._get(offset, dtype, count, override_order)
        if len(found) < int(count):
            raise ValueError("it ends too early")
        return found


class GgufFile:
    """A GGUF file that holds a dense Llama.

    Attributes:
        options, vocab_size: its dimensions.

    Raises:
        InputError: it is no such file, or asks for what the decoder does not do.
    """

    def __init__(self, path: Path | str):
        self.path = Path(path)
        try:
            self._reader = _Reader(self.path)
        except (OSError, ValueError, KeyError, IndexError, OverflowError) as error:
            raise InputError(f"not a readable GGUF file ({error})", where=self.path, do="fetch it again") from error
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}
        self._refuse_others()
        self.vocab_size = self._shape("token_embd.weight")[0]
        self.options = self._options()

    def get(self, key: str, default: Any = None) -> Any:
        """The value of a metadata key, lists and texts as in Python.

        Raises:
            InputError: it is no text where it says to be one.
        """
        field = self._reader.get_field(key)
        try:
            return default if field is None else field.contents()
        except UnicodeDecodeError as error:
            raise InputError(f"{key} is damaged ({error})", where=self.path, do="fetch the file again") from error

    @property
    def types(self) -> str:
        """How the weights are stored: `Q4_1 (210 tensors), F32 (61), ...`, the commonest first."""
        counts = Counter(tensor.tensor_type.name for tensor in self._reader.tensors).most_common()
        return ", ".join(
            f"{name} ({count}{' tensors' if not place else ''})" for place, (name, count) in enumerate(counts)
        )

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Their names and weights in float32, q and k in the order of rows that the decoder has."""
        for name in self._tensors:
            if name == ROPE_FACTORS:
                continue
            weight = torch.from_numpy(self._dequantised(name))
            ours = NAMES.ours(name) or ""
            if ours.endswith(("q_proj.weight", "k_proj.weight")):
                weight = _halves_from_pairs(weight, self.options.head_width)
            yield name, weight

    def _dequantised(self, name: str) -> np.ndarray:
        tensor = self._tensors[name]
        try:
            # A copy: the reader's arrays are read-only views of the file.
            return np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32)
        except NotImplementedError as error:
            raise InputError(
                f"the tensor {name} is of type {tensor.tensor_type.name}, which the gguf package cannot dequantise",
                where=self.path,
                do="use a file of another quantisation",
            ) from error

    def _shape(self, name: str) -> tuple[int, ...]:
        if name not in self._tensors:
            raise InputError(f"the tensor {name} is missing", where=self.path, do="fetch the file again")
        return tuple(int(size) for size in reversed(self._tensors[name].shape))

    def _refuse_others(self) -> None:
        """By what a file is no dense Llama in one piece: keys and the values they may have."""
        allowed = {
            "general.architecture": (ARCHITECTURE,),
            "split.count": (None, 0, 1),
            "llama.expert_count": (None, 0),
            "llama.attention.sliding_window": (None, 0),
            "llama.rope.scaling.type": (None, "none"),
            "llama.rope.scale_linear": (None, 1.0),
        }
        for key, values in allowed.items():
            if (value := self.get(key)) not in values:
                do = "join the parts with llama.cpp's gguf-split first" if key == "split.count" else None
                raise InputError(
                    f"{key} is {value!r}" if value is not None else f"{key} is missing",
                    where=self.path,
                    do=do or "only dense models of Llama's architecture can be imported",
                )

    def _options(self) -> ModelOptions:
        heads, dim = self._whole("llama.attention.head_count"), self._whole("llama.embedding_length")
        kv_heads = self._whole("llama.attention.head_count_kv", heads)
        width = self._whole("llama.attention.key_length", dim // max(heads, 1))
        for key in ("llama.attention.value_length", "llama.rope.dimension_count"):
            if self._whole(key, width) != width:
                raise InputError(
                    f"{key} is {self.get(key)} and the width of a head {width}",
                    where=self.path,
                    do="only models whose whole heads are rotated can be imported",
                )
        try:
            options = ModelOptions(
                layers=self._whole("llama.block_count"),
                dim=dim,
                heads=heads,
                kv_heads=kv_heads,
                head_dim=None if width * heads == dim else width,
                ffn_width=self._whole("llama.feed_forward_length"),
                tied_embeddings="output.weight" not in self._tensors,
                rope_theta=_decimal(self.get("llama.rope.freq_base", 10_000.0)),
                norm_eps=_decimal(self.get("llama.attention.layer_norm_rms_epsilon", 1e-5)),
                context_length=self._whole("llama.context_length"),
            )
        except ValidationError as error:
            raise InputError(
                f"not a model's dimensions ({error.errors()[0]['msg']})", where=self.path, do="fetch the file again"
            ) from error
        return options.model_copy(update={"rope_scaling": self._rope_scaling(options)})

    def _whole(self, key: str, default: int | None = None) -> int:
        value = self.get(key, default)
        if not isinstance(value, int):
            what = "missing" if value is None else f"{value!r}, not a whole number"
            raise InputError(
                f"{key} is {what}", where=self.path, do="only models whose layers are all alike can be imported"
            )
        return value

    def _rope_scaling(self, plain: ModelOptions) -> RopeScaling | None:
        """Llama 3.1's scaling, told by its factors: of the files that exist only ours name its four numbers.

        Only the stretch differs between the models that Meta published, and the slowest frequency shows it.
        """
        if ROPE_FACTORS not in self._tensors:
            return None
        factors = torch.from_numpy(self._dequantised(ROPE_FACTORS)).double()
        if (factors == 1).all():
            return None
        keys = {key: self.get(SCALING_KEY + key) for key in RopeScaling.model_fields}
        named = {key: _decimal(value) for key, value in keys.items() if isinstance(value, float)}
        with suppress(ValidationError):  # A factor of 1 or less, and damaged keys of ours.
            scaling = RopeScaling.model_validate({"factor": _decimal(float(factors.max()))} | named)
            scaled = rope_frequencies(plain.model_copy(update={"rope_scaling": scaling}))
            expected = rope_frequencies(plain) / scaled
            if factors.shape == expected.shape and torch.allclose(factors, expected, rtol=1e-5):
                return scaling
        raise InputError(
            f"{ROPE_FACTORS} is not Llama 3.1's scaling of rotary frequencies",
            where=self.path,
            do="only models with plain rotary positions or Llama 3.1's scaling can be imported",
        )


def _halves_from_pairs(weight: Tensor, width: int) -> Tensor:
    """Rows of every head [heads * width, dim] from the order 0, w/2, 1, w/2 + 1, ... back to 0, 1, 2, ...

    What is no matrix of whole heads stays as it is, to be refused by its shape.
    """
    if weight.dim() != 2 or weight.shape[0] % width:
        return weight
    rows, columns = weight.shape
    return weight.view(rows // width, width // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def _decimal(value: float) -> float:
    """The shortest decimal that is this float32: 1e-05 for 9.999999747378752e-06, which is what the file means."""
    return float(str(np.float32(value)))
