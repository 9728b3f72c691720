"""Small models for the tests of generation: one drawn at random, and one that is made to say a text."""

from __future__ import annotations

from itertools import pairwise

import torch

from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.tokens.tokenizer import Tokenizer

BYTES = {bytes([byte]): byte for byte in range(256)}
MERGES = [b"th", b"\xc3\xa9", b"\xf0\x9f", b"the", b" the", b"an", b"\x90\x91"]


def small_tokenizer() -> Tokenizer:
    """All bytes and a few merges, some of which end inside a character."""
    return Tokenizer(BYTES | {token: 256 + rank for rank, token in enumerate(MERGES)})


def random_model(context_length: int = 64, seed: int = 0, **more: object) -> Llama:
    """Weights larger than at the start of a training, so that its choices are clear of rounding."""
    options = ModelOptions(
        **{"layers": 2, "dim": 32, "heads": 4, "kv_heads": 2, "ffn_multiple_of": 16, "context_length": context_length}
        | more
    )
    model = Llama(options, small_tokenizer().vocab_size).initialise(seed).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


def parrot(text: bytes, context_length: int = 256, end: str | None = "<|eot_id|>") -> tuple[Llama, Tokenizer]:
    """A model that answers every question with `text`, no byte of which may occur twice, and then `end`.

    It is a table of successors: attention and feed-forward add nothing to one-hot embeddings, and the output matrix
    names the token that follows each. The last token of every prompt is the line end of the assistant's header.

    Args:
        end: the special token that ends the answer; None for an answer that begins again and again.
    """
    tokenizer = Tokenizer(BYTES)
    size = tokenizer.vocab_size
    model = Llama(
        ModelOptions(layers=1, dim=size, heads=8, kv_heads=1, ffn_multiple_of=8, ffn_multiplier=0.01,
                     context_length=context_length),
        size,
    ).eval()  # fmt: skip
    chain = [ord("\n"), *text, text[0] if end is None else tokenizer.special[end]]
    assert len(set(chain[:-1])) == len(chain) - 1
    assert model.output is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_() if parameter.dim() > 1 else parameter.fill_(1.0)
        model.embedding.weight.copy_(torch.eye(size))
        for token, following in pairwise(chain):
            model.output.weight[following, token] = 100.0
    return model, tokenizer
