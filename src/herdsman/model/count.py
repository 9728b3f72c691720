"""Parameters and floating-point operations, counted without building the model.

A multiply-add counts as two operations; a backward pass costs twice its forward pass.
"""

from __future__ import annotations

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

    Without `sequence_length`: the common 6 * N * D, N being all parameters. With it: 6 * (matrix parameters that every
    token meets) * D plus the attention scores and values of every pair of positions, 12 * layers * heads * head_width *
    sequence_length a token. (Causal attention needs half of the latter; most published figures count it whole.)
    """
    count = count_parameters(model, vocab_size)
    if sequence_length is None:
        return 6.0 * count.total * tokens
    matrices = count.attention + count.feed_forward + vocab_size * model.dim
    attention = 12.0 * model.layers * model.heads * model.head_width * sequence_length
    return (6.0 * matrices + attention) * tokens
