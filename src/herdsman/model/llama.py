"""The dense Llama 3 decoder, whole in one file (paper, section 3.2). It knows nothing of parallelism or of training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, rms_norm, silu

from herdsman.model.attention import KVCache, attend, cache_mask, document_mask
from herdsman.model.options import ModelOptions
from herdsman.model.rope import rope_tables, rotate


class Norm(nn.Module):
    """RMSNorm; statistics in float32 whatever the activations are."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x.float(), self.weight.shape, self.weight.float(), self.eps).to(x.dtype)


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, model: ModelOptions):
        super().__init__()
        self.width = model.head_width
        self.q_proj = nn.Linear(model.dim, model.heads * self.width, bias=False)
        self.k_proj = nn.Linear(model.dim, model.kv_heads * self.width, bias=False)
        self.v_proj = nn.Linear(model.dim, model.kv_heads * self.width, bias=False)
        self.o_proj = nn.Linear(model.heads * self.width, model.dim, bias=False)

    def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
        batch, seq, _ = x.shape
        q, k, v = (
            projection(x).view(batch, seq, -1, self.width).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, context.cos, context.sin), rotate(k, context.cos, context.sin)
        if context.cache is not None:
            k, v = context.cache.update(layer, context.positions, k, v, context.slots)
        out = attend(q, k, v, context.mask)
        return self.o_proj(out.transpose(1, 2).reshape(batch, seq, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, model: ModelOptions):
        super().__init__()
        self.gate_proj = nn.Linear(model.dim, model.ffn_dim, bias=False)
        self.up_proj = nn.Linear(model.dim, model.ffn_dim, bias=False)
        self.down_proj = nn.Linear(model.ffn_dim, model.dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(silu(self.gate_proj(x)) * self.up_proj(x))


class Block(nn.Module):
    """Pre-norm attention and feed-forward, each added to the residual stream."""

    def __init__(self, model: ModelOptions):
        super().__init__()
        self.attention_norm = Norm(model.dim, model.norm_eps)
        self.attention = Attention(model)
        self.ffn_norm = Norm(model.dim, model.norm_eps)
        self.ffn = FeedForward(model)

    def forward(self, x: Tensor, context: Context, layer: int) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context, layer)
        return x + self.ffn(self.ffn_norm(x))


class Context:
    """What all layers of one forward pass share: rotary tables of the positions, the mask, the cache."""

    def __init__(
        self, model: Llama, tokens: Tensor, positions: Tensor | None, documents: Tensor | None, cache: KVCache | None
    ):
        seq = tokens.shape[1]
        self.cache, self.slots = cache, 0
        if positions is None:
            self.cos, self.sin = model.cos[None, None, :seq], model.sin[None, None, :seq]
            self.positions = torch.arange(seq, device=tokens.device).expand_as(tokens)
        else:
            self.cos, self.sin = model.cos[positions][:, None], model.sin[positions][:, None]
            self.positions = positions
        self.mask: Tensor | None = None
        if cache is not None:
            self.slots = int(self.positions.max()) + 1
            self.mask = cache_mask(self.positions, self.slots)
        elif documents is not None:
            self.mask = document_mask(documents)


class Llama(nn.Module):
    """The decoder.

    Args:
        options: its dimensions.
        vocab_size: rows of the embedding, special tokens included.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, options: ModelOptions, vocab_size: int):
        super().__init__()
        self.options, self.vocab_size = options, vocab_size
        self.embedding = nn.Embedding(vocab_size, options.dim)
        self.blocks = nn.ModuleList(Block(options) for _ in range(options.layers))
        self.norm = Norm(options.dim, options.norm_eps)
        self.output = None if options.tied_embeddings else nn.Linear(options.dim, vocab_size, bias=False)
        cos, sin = rope_tables(options, options.context_length)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Hidden states after the final norm, [batch, seq, dim]; `logits` turns them into scores.

        Args:
            tokens: ids [batch, seq].
            positions: rotary positions [batch, seq]; 0 to seq - 1 if left out. With a cache, also the slots to write.
            documents: document numbers [batch, seq]; attention does not cross their borders. Not with a cache.
            cache: keys and values of what came before; queries see all slots up to their own position.
        """
        context = Context(self, tokens, positions, documents, cache)
        x = self.embedding(tokens)
        for layer, block in enumerate(self.blocks):
            x = block(x, context, layer)
        return self.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary [..., vocab] in float32, from hidden states [..., dim]."""
        weight = self.embedding.weight if self.output is None else self.output.weight
        return linear(hidden, weight).float()

    @torch.no_grad()
    def initialise(self, seed: int) -> Llama:
        """Draws all weights anew: normal of `initial_std`, cut at 3 deviations; those that write to the residual stream
        scaled down by sqrt(2 * layers); norms 1. Meta published no initialisation; with 0.02 it is torchtitan's."""
        generator = torch.Generator().manual_seed(seed)
        std = self.options.initial_std
        residual_std = std / (2 * self.options.layers) ** 0.5
        for name, parameter in self.named_parameters():
            if parameter.dim() == 1:
                parameter.fill_(1.0)
            else:
                width = residual_std if name.endswith(("o_proj.weight", "down_proj.weight")) else std
                draw = torch.empty(parameter.shape)
                nn.init.trunc_normal_(draw, std=width, a=-3 * width, b=3 * width, generator=generator)
                parameter.copy_(draw)
        return self
