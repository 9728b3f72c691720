"""Parameters and floating-point operations, counted without building the model.

A multiply-add counts as two operations; a backward pass costs twice its forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from herdsman.model.options import ModelOptions

SPECIAL_TOKENS = 256


@dataclass(frozen=True)
class ParameterCount:
    embedding: int
    attention: int
    feed_forward: int
    norms: int
    output: int

    @property
    def total(self) -> int:
        return self.embedding + self.attention + self.feed_forward + self.norms + self.output


def count_parameters(model: ModelOptions, vocab_size: int) -> ParameterCount:
    """Exact parameters for a vocabulary of `vocab_size` rows, special tokens included (Llama 3 paper, table 3)."""
    attention = model.dim * model.head_width * (2 * model.heads + 2 * model.kv_heads)
    return ParameterCount(
        embedding=vocab_size * model.dim,
        attention=model.layers * attention,
        feed_forward=model.layers * 3 * model.dim * model.ffn_dim,
        norms=(2 * model.layers + 1) * model.dim,
        output=0 if model.tied_embeddings else vocab_size * model.dim,
    )


def training_flops(model: ModelOptions, vocab_size: int, tokens: int, sequence_length: int | None = None) -> float:
    """Operations to train on `tokens`.

    Without `sequence_length`: the common 6 * N * D, N being all parameters. With it: `model_flops`, attention counted
    whole, as most published figures do.
    """
    if sequence_length is None:
        return 6.0 * count_parameters(model, vocab_size).total * tokens
    return model_flops(model, vocab_size, sequence_length) * tokens


def model_flops(model: ModelOptions, vocab_size: int, keys: float) -> float:
    """Operations that training on a token asks for, each done once: the numerator of MFU.

    6 * (matrix parameters that every token meets) + 12 * layers * heads * head_width * keys, the latter being the
    scores and values of attention (PaLM paper, appendix B).

    Args:
        keys: that a query is counted to meet. Attention counted whole: the sequence length. Causal: half of it. What a
            document mask leaves: `visible_keys` of the documents.
    """
    return 6.0 * _matrices(model, vocab_size) + 6 * _attention_product(model, keys)


def recomputed_flops(model: ModelOptions, vocab_size: int, keys: float, full: bool = False) -> float:
    """Operations a token that are done a second time to save memory: HFU counts them beside `model_flops`.

    Always: the logits (see model/likelihood.py) and, as in every flash attention, the backward pass's scores. Selective
    recomputation keeps the results of products; what it repeats is too cheap to count.

    Args:
        keys: as in `model_flops`.
        full: whether blocks are computed again whole; but for their last matrix, whose product the backward pass does
            not need.
    """
    again = 2.0 * vocab_size * model.dim + _attention_product(model, keys)
    if full:
        count = count_parameters(model, vocab_size)
        down = model.layers * model.dim * model.ffn_dim
        again += 2.0 * (count.attention + count.feed_forward - down) + 2 * _attention_product(model, keys)
    return again


def visible_keys(document_tokens: Sequence[int]) -> float:
    """Keys that a query meets on average where attention is causal and stays inside documents of these lengths."""
    return sum(length * (length + 1) for length in document_tokens) / (2 * sum(document_tokens))


def _matrices(model: ModelOptions, vocab_size: int) -> int:
    count = count_parameters(model, vocab_size)
    return count.attention + count.feed_forward + vocab_size * model.dim


def _attention_product(model: ModelOptions, keys: float) -> float:
    """One of attention's products over all layers, such as queries by keys, for one token."""
    return 2.0 * model.layers * model.heads * model.head_width * keys
