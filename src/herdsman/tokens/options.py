"""Options of the `tokenizer` and `tokens` stages."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from herdsman.options import Options

SPECIAL_TOKENS = 256
BYTES = 256

Packing = Literal["concatenate", "best_fit"]


class TokenizerOptions(Options):
    """How the vocabulary is learned. Llama 3's split rules and special tokens are fixed; its size is not.

    Llama 3 has 100,000 tokens that cover English, taken from an existing vocabulary, and 28,000 for other languages on
    top of them (section 3.2): `vocab_size = 128_000`, `extension_tokens = 28_000`, and `base` if there is one.
    """

    vocab_size: int = Field(
        128_000,
        ge=BYTES,
        le=1_000_000,
        description="Byte-level BPE tokens, the 256 single bytes among them; 256 special tokens come on top.",
    )
    training_bytes: int = Field(
        1_000_000_000,
        ge=1,
        le=2_000_000_000,  # the trainer counts pairs in 32 bits
        description="UTF-8 bytes of text to learn from, at most; where there is more, a sample of whole documents. "
        "The extension is learned from as much again.",
    )
    base: str | None = Field(
        None,
        description="A `tokenizer.model` to start from, Meta's or a herd's. Its first `vocab_size - extension_tokens` "
        "tokens are taken and keep their ids. Without it, these are learned from the documents.",
    )
    extension_tokens: int = Field(
        0,
        ge=0,
        description="How many of `vocab_size` come after the base's, learned from documents in other languages than "
        "`base_languages`. 0: one vocabulary for all languages.",
    )
    base_languages: tuple[str, ...] = Field(
        ("en",),
        min_length=1,
        description="Codes of the languages that the base covers: where there is an extension, the base is learned "
        "from their documents and the extension from all others.",
    )
    language_exponent: float = Field(
        0.5,
        ge=0,
        le=1,
        description="A language's share of the extension's text goes with its bytes to this power: at 1 as many as it "
        "has, at 0 the same for each. Small languages' documents are read up to 10 times.",
    )

    @property
    def base_tokens(self) -> int:
        """BPE tokens that are not the extension's."""
        return self.vocab_size - self.extension_tokens

    def base_covers(self, language: str) -> bool:
        """Whether documents in the language are the base's to learn from, not the extension's."""
        return not self.extension_tokens or language in self.base_languages

    @property
    def rows(self) -> int:
        """Rows of the embedding table: BPE tokens and special tokens."""
        return self.vocab_size + SPECIAL_TOKENS

    @model_validator(mode="after")
    def _base_holds_every_byte(self) -> Self:
        if self.base_tokens < BYTES:
            raise ValueError(f"extension_tokens leave the base {self.base_tokens} tokens; it needs at least {BYTES}")
        return self


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
