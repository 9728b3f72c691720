"""Options of the `tokenizer` and `tokens` stages."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from herdsman.options import Options

SPECIAL_TOKENS = 256

Packing = Literal["concatenate", "best_fit"]


class TokenizerOptions(Options):
    """How the vocabulary is learned. Llama 3's split rules and special tokens are fixed; its size is not."""

    vocab_size: int = Field(
        128_000,
        ge=256,
        le=1_000_000,
        description="Byte-level BPE tokens, the 256 single bytes among them; 256 special tokens come on top.",
    )
    training_bytes: int = Field(
        1_000_000_000,
        ge=1,
        le=2_000_000_000,  # the trainer counts pairs in 32 bits
        description="UTF-8 bytes of text to learn from, at most; where there is more, a sample of whole documents.",
    )

    @property
    def rows(self) -> int:
        """Rows of the embedding table: BPE tokens and special tokens."""
        return self.vocab_size + SPECIAL_TOKENS


class TokensOptions(Options):
    """How streams of tokens are stored, and how sequences are made of them."""

    block_tokens: int = Field(
        131_072,
        ge=1,
        description="Streams take turns in blocks of this many tokens; best a multiple of every sequence length, so "
        "that no sequence crosses from one stream to another. The default is the longest sequence of Llama 3.",
    )
    packing: Packing = Field(
        "concatenate",
        description="`concatenate`: documents end to end, cut where a sequence ends, so that the order of tokens does "
        "not depend on the sequence length. `best_fit`: only documents longer than a sequence are cut; the little "
        "room that is left in a sequence is padded.",
    )
    shard_tokens: int = Field(
        2_147_483_648, ge=1, description="Tokens of a file, at most: object stores dislike files of terabytes."
    )
