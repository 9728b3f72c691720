"""The kernel as a runner: a whole step is one call."""

from __future__ import annotations

import ctypes
import logging
from functools import cache
from itertools import accumulate, chain
from typing import cast

import numpy as np
import torch
from torch import Tensor

from herdsman.errors import InputError, MachineError
from herdsman.generation.cache import BLOCK_TOKENS, PagedCache
from herdsman.generation.native.build import attempt
from herdsman.generation.native.packing import LANES, Arena, Form, in_turns, padded
from herdsman.generation.step import Step
from herdsman.model.llama import Block, Llama

logger = logging.getLogger(__name__)
WIDEST_HEAD = 256
KINDS: dict[Form, int] = {"bfloat16": 0, "int8": 1}


class _Shape(ctypes.Structure):
    """As in step.c."""

    _fields_ = [
        *(
            (name, ctypes.c_int32)
            for name in ("layers", "dim", "heads", "kv_heads", "width", "ffn", "vocab", "outputs", "positions", "kind")
        ),
        ("norm_eps", ctypes.c_float),
    ]


def native_runner(model: Llama, form: Form) -> NativeRunner | None:
    """The kernel for a model on the CPU, or None, said once in a line, where there is none."""
    try:
        return NativeRunner(model, form)
    except MachineError as error:
        _say(str(error))
        return None


@cache
def _say(reason: str) -> None:
    logger.warning("%s; torch generates instead, several times slower", reason)


class NativeRunner:
    """Computes on the processor with weights of 8 or 16 bits, as many threads as torch has.

    Activations are bfloat16 where a matrix is; where it is int8, so are they, with a scale for each 64 of a row.
    Queries, keys and values are bfloat16. The residual stream, norms, softmax and sums are float32. On one machine a
    token's logits have the same bits whatever else is in the step, and however its prompt was split over steps.

    Args:
        model: the decoder, on the CPU; its weights are copied.
        form: of the weights.

    Raises:
        MachineError: there is no kernel on this machine, or none for heads of this width.
    """

    def __init__(self, model: Llama, form: Form):
        library, reason = attempt()
        if library is None:
            raise MachineError(reason)
        options = model.options
        if options.head_width > WIDEST_HEAD:
            raise MachineError(f"the native kernel takes heads of up to {WIDEST_HEAD}, not {options.head_width}")
        assert BLOCK_TOKENS == LANES, "a block of the cache is a panel of the kernel"
        self.options, self.vocab_size = options, 1 if model.is_scoring else model.vocab_size
        self.dtype, self.device = torch.bfloat16, torch.device("cpu")
        self._library = library
        self._step = library.herdsman_step
        shape = _Shape(
            options.layers, options.dim, options.heads, options.kv_heads, options.head_width, options.ffn_dim,
            model.vocab_size, self.vocab_size, options.context_length, KINDS[form], options.norm_eps,
        )  # fmt: skip
        pointers = self._pack(model, form)
        library.herdsman_open.restype = ctypes.c_void_p
        handle = library.herdsman_open(ctypes.byref(shape), (ctypes.c_void_p * len(pointers))(*pointers))
        if not handle:
            raise MachineError("there is no memory left for the native kernel")
        self._handle = ctypes.c_void_p(handle)

    @torch.inference_mode()
    def _pack(self, model: Llama, form: Form) -> list[int]:
        """Addresses of the weights in the order of `herdsman_open`; what is at them is kept."""
        assert model.embedding is not None
        assert model.norm is not None
        blocks = cast("list[Block]", list(model.blocks.values()))
        embedding = model.embedding.weight
        tied = model.output_weight is embedding
        shapes = [tuple(embedding.shape)] if tied else [tuple(embedding.shape), tuple(model.output_weight.shape)]
        for block in blocks:
            qkv = (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)
            gate_up = 2 * padded(self.options.ffn_dim, LANES)
            shapes += [(sum(len(each.weight) for each in qkv), self.options.dim)]
            shapes += [tuple(block.attention.o_proj.weight.shape), (gate_up, self.options.dim)]
            shapes += [tuple(block.ffn.down_proj.weight.shape)]
        self._arena = arena = Arena(cast("list[tuple[int, int]]", shapes), form)
        self._kept: list[Tensor] = []

        def plain(values: Tensor) -> int:
            self._kept.append(values.detach().float().contiguous())
            return self._kept[-1].data_ptr()

        first = arena.add(embedding)
        output = first if tied else arena.add(model.output_weight)
        pointers = [first, output, plain(model.norm.weight), plain(model.cos), plain(model.sin)]
        for block in blocks:
            attention, ffn = block.attention, block.ffn
            pointers += [
                plain(block.attention_norm.weight),
                arena.add(torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])),
                arena.add(attention.o_proj.weight),
                plain(block.ffn_norm.weight),
                arena.add(in_turns(ffn.gate_proj.weight, ffn.up_proj.weight)),
                arena.add(ffn.down_proj.weight),
            ]
        return pointers

    def forward(self, step: Step, cache: PagedCache) -> Tensor:
        """Float32 logits [R, vocab] of the wanted places; see `generation.runner.Runner`."""
        tokens, wanted = step.tokens.contiguous(), step.wanted.contiguous()
        tables = np.fromiter(chain.from_iterable(step.tables), np.int32)
        table_starts = np.array([0, *accumulate(map(len, step.tables))], np.int32)
        starts, lengths = np.array(step.starts, np.int32), np.array(step.lengths, np.int32)
        logits = torch.empty(len(wanted), self.vocab_size)
        status = self._step(
            self._handle, torch.get_num_threads(), len(tokens), _at(tokens.data_ptr()), len(lengths),
            _at(starts.ctypes.data), _at(lengths.ctypes.data), _at(tables.ctypes.data), _at(table_starts.ctypes.data),
            len(wanted), _at(wanted.data_ptr()), _at(cache.keys.data_ptr()), _at(cache.values.data_ptr()),
            ctypes.c_int64(cache.keys.shape[1]), _at(logits.data_ptr()),
        )  # fmt: skip
        if status == 1:
            raise MachineError(f"there is no memory left for a step of {len(tokens)} tokens")
        if status:
            raise InputError("a token or its position is not one the model has")
        return logits

    def __del__(self) -> None:
        if hasattr(self, "_handle"):
            self._library.herdsman_close(self._handle)


_at = ctypes.c_void_p
