"""A Llama 3 decoder of about so many parameters."""

from __future__ import annotations

import math

from herdsman.model.count import count_parameters
from herdsman.model.options import ModelOptions

SMALLEST_UNTIED = 4_000_000_000  # Llama 3.2's 3B ties its embeddings, 3.1's 8B does not
WIDTHS = (
    *((dim, 32) for dim in range(32, 512, 32)),
    *((dim, 64) for dim in range(512, 2048, 256)),
    *((dim, 128) for dim in (*range(2048, 4096, 512), *range(4096, 65_537, 1024))),
)
"""Widths of models and of their heads."""


def llama_shape(parameters: int, vocab_size: int, context_length: int = 8192) -> ModelOptions:
    """The shape whose exact count comes nearest, among those with the proportions of the Llama 3 herd.

    Heads of 128 from a width of 2,048 on, of 64 from 512 on, of 32 below, in groups that tensor parallelism divides; at
    most 8 key and value heads; a feed-forward layer 3.5 times as wide as the model; a layer for every 128 of the width
    in large models as in Llama's, and for fewer in small ones. Embeddings are tied below 4B parameters.

    Raises:
        ValueError: the vocabulary alone has more parameters, or there are too many.
    """
    tied = parameters < SMALLEST_UNTIED
    best: tuple[float, ModelOptions] | None = None
    for dim, head in WIDTHS:
        natural = dim / min(128, max(32, dim / 12))
        for layers in range(max(2, math.floor(0.7 * natural)), math.ceil(1.4 * natural) + 1):
            shape = _shape(layers, dim, head, tied, context_length)
            miss = abs(math.log(count_parameters(shape, vocab_size).total / parameters))
            strain = 0.1 * abs(math.log(layers / natural))
            if best is None or miss + strain < best[0]:
                best = miss + strain, shape
    if best is None or miss + strain < best[0]:
        best = miss + strain, shape
    if best is None or best[0] > 0.3:
        raise ValueError(f"there is no such model of {parameters:,} parameters with a vocabulary of {vocab_size:,}")
    return best[1]


def _shape(layers: int, dim: int, head: int, tied: bool, context_length: int) -> ModelOptions:
    heads = dim // head
    kv_heads = next(count for count in (8, 4, 2, 1) if heads % count == 0 and 2 * count <= max(2, heads))
    return ModelOptions(
        layers=layers,
        dim=dim,
        heads=heads,
        kv_heads=kv_heads,
        ffn_multiplier=1.3125,
        ffn_multiple_of=max(32, min(1024, dim // 16)),
        tied_embeddings=tied,
        context_length=context_length,
    )
