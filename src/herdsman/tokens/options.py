"""Options of the `tokenizer` and `tokens` stages."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options

SPECIAL_TOKENS = 256


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
    """Packing has nothing to choose: order follows the recipe's seed, the width of a token the vocabulary."""
