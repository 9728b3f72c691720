"""Shapes by size: near what is asked for, in the herd's proportions."""

from __future__ import annotations

import pytest

from herdsman.model.count import count_parameters
from herdsman.model.shape import llama_shape


@pytest.mark.parametrize("parameters", [10**exponent * part for exponent in range(6, 12) for part in (1, 2, 5)])
def test_near_what_is_asked_for(parameters: int) -> None:
    vocab_size = min(128_256, 256 + round(parameters**0.5))
    shape = llama_shape(parameters, vocab_size)
    assert count_parameters(shape, vocab_size).total == pytest.approx(parameters, rel=0.06)
    assert shape.dim % shape.heads == 0
    assert 20 <= shape.dim / shape.layers <= 200
    assert shape.tied_embeddings == (parameters < 4e9)


def test_the_8b_is_llamas() -> None:
    shape = llama_shape(8_030_261_248, 128_256)
    assert (shape.layers, shape.dim, shape.heads, shape.kv_heads, shape.ffn_dim) == (32, 4096, 32, 8, 14_336)


@pytest.mark.parametrize(("parameters", "vocab_size"), [(1_000_000, 128_256), (10**15, 128_256)])
def test_there_is_no_such_model(parameters: int, vocab_size: int) -> None:
    with pytest.raises(ValueError, match="no such model"):
        llama_shape(parameters, vocab_size)
