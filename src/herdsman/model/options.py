"""Dimensions of the decoder, in the terms of the Llama 3 paper (table 3)."""

from __future__ import annotations

from pydantic import Field, model_validator

from herdsman.options import Options


class RopeScaling(Options):
    """Llama 3.1's frequency scaling for contexts longer than those of pretraining."""

    factor: float = Field(
        8.0, gt=1, description="How much longer wavelengths are stretched (8 in Llama 3.1, 32 in 3.2)."
    )
    low_freq_factor: float = Field(
        1.0, gt=0, description="Wavelengths above original_context / this are stretched whole."
    )
    high_freq_factor: float = Field(
        4.0, gt=0, description="Wavelengths below original_context / this stay as they are."
    )
    original_context: int = Field(8192, ge=2, description="Context length, in tokens, before scaling.")


class ModelOptions(Options):
    """A dense Llama 3 decoder: pre-norm, grouped-query attention, rotary positions, SwiGLU, no biases."""

    layers: int = Field(ge=1, description="Transformer blocks.")
    dim: int = Field(ge=2, description="Width of the residual stream.")
    heads: int = Field(ge=1, description="Query heads.")
    kv_heads: int = Field(ge=1, description="Key and value heads; each serves heads / kv_heads query heads.")
    head_dim: int | None = Field(None, ge=2, description="Width of a head; dim / heads if left out.")
    ffn_multiplier: float = Field(1.0, gt=0, description="Scales the feed-forward width, as in Meta's parameter files.")
    ffn_multiple_of: int = Field(256, ge=1, description="The feed-forward width is rounded up to a multiple of this.")
    ffn_width: int | None = Field(
        None, ge=1, description="Width of the feed-forward layer; reckoned from the two keys above if left out."
    )
    tied_embeddings: bool = Field(False, description="Use the input embedding as the output projection.")
    rope_theta: float = Field(500_000.0, gt=0, description="Base of the rotary frequencies.")
    rope_scaling: RopeScaling | None = Field(None, description="Llama 3.1's scaling of rotary frequencies, if any.")
    norm_eps: float = Field(1e-5, gt=0, description="Epsilon of RMSNorm.")
    initial_std: float = Field(
        0.02,
        gt=0,
        description="Standard deviation of the initial weights; narrow models learn faster with about 1 / sqrt(dim).",
    )
    context_length: int = Field(8192, ge=2, description="Longest sequence, in tokens, the model is made for.")

    @model_validator(mode="after")
    def _divisible(self) -> ModelOptions:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads ({self.heads}) must be a multiple of kv_heads ({self.kv_heads})")
        if self.head_dim is None and self.dim % self.heads:
            raise ValueError(f"dim ({self.dim}) must be a multiple of heads ({self.heads}) unless head_dim is given")
        if self.head_width % 2:
            raise ValueError(f"the width of a head ({self.head_width}) must be even for rotary positions")
        return self

    @property
    def head_width(self) -> int:
        return self.head_dim or self.dim // self.heads

    @property
    def ffn_dim(self) -> int:
        """Width of the feed-forward layer: the one that is given, else as in Meta's code
        round_up(int(multiplier * int(8 dim / 3)), multiple_of)."""
        if self.ffn_width is not None:
            return self.ffn_width
        width = int(self.ffn_multiplier * int(2 * 4 * self.dim / 3))
        return -(-width // self.ffn_multiple_of) * self.ffn_multiple_of
