"""The dense Llama 3 decoder, whole in one file (paper, section 3.2). It knows nothing of parallelism or of training."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from herdsman.model.attention import Backend, Dense, Sight
from herdsman.model.options import ModelOptions
from herdsman.model.rope import rope_tables, rotate


class Norm(nn.Module):
    """RMSNorm; computed in float32 whatever the activations are. What follows are matrix products only, so under
    autocast it gives their precision at once: cast by each of them, it would be cast three times over."""

    def __init__(self, dim: int, eps: float):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(dim)), eps

    def forward(self, x: Tensor) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        normed: Tensor = _RMSNorm.apply(x, self.weight, self.eps, dtype)
        return normed


class _RMSNorm(torch.autograd.Function):
    """x / rms(x) * weight. torch's, made of separate operations on a CPU, goes over memory twice as often."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        exact = x.float()
        scale = (torch.linalg.vector_norm(exact, dim=-1, keepdim=True).square() / x.shape[-1] + eps).rsqrt()
        ctx.save_for_backward(x, weight, scale)
        return (exact * scale).mul_(weight.float()).to(dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        """With n = x / rms(x) and g the gradient times the weight, x gets (g - n mean(g n)) / rms(x)."""
        x, weight, scale = ctx.saved_tensors
        gradient, normed = gradient.float(), x.float() * scale
        product = gradient * normed
        by_weight = product.flatten(0, -2).sum(0)
        mean = product.mul_(weight.float()).mean(-1, keepdim=True)
        by_x = (gradient * weight.float()).addcmul_(normed, mean, value=-1).mul_(scale)
        return by_x.to(x.dtype), by_weight.to(weight.dtype), None, None


class Projection(nn.Linear):
    """A matrix without bias. Its values come from `initialise` or from a folder, and from nowhere else."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs, bias=False)

    def reset_parameters(self) -> None:
        pass


class Embedding(nn.Embedding):
    """As `Projection`, a row for each token."""

    def reset_parameters(self) -> None:
        pass


class Attention(nn.Module):
    """Grouped-query self-attention with rotary positions."""

    def __init__(self, model: ModelOptions):
        super().__init__()
        self.width = model.head_width
        self.q_proj = Projection(model.dim, model.heads * self.width)
        self.k_proj = Projection(model.dim, model.kv_heads * self.width)
        self.v_proj = Projection(model.dim, model.kv_heads * self.width)
        self.o_proj = Projection(model.heads * self.width, model.dim)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        batch, seq, _ = x.shape
        q, k, v = (
            projection(x).view(batch, seq, -1, self.width).transpose(1, 2)
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotate(q, context.cos, context.sin), rotate(k, context.cos, context.sin)
        out = context.backend.attend(q, k, v, context.prepared)
        return self.o_proj(out.transpose(1, 2).reshape(batch, seq, -1))


class FeedForward(nn.Module):
    """SwiGLU."""

    def __init__(self, model: ModelOptions):
        super().__init__()
        self.gate_proj = Projection(model.dim, model.ffn_dim)
        self.up_proj = Projection(model.dim, model.ffn_dim)
        self.down_proj = Projection(model.ffn_dim, model.dim)

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

    def forward(self, x: Tensor, context: Context) -> Tensor:
        x = x + self.attention(self.attention_norm(x), context)
        return x + self.ffn(self.ffn_norm(x))


class Context:
    """What all layers of one forward pass share: rotary tables of the positions, and who sees whom."""

    def __init__(self, model: Llama, x: Tensor, positions: Tensor | None, documents: Tensor | None):
        # Under tensor parallelism x may hold a share of the sequence only: its length is that of the documents.
        seq = x.shape[1] if documents is None else documents.shape[1]
        whole = torch.arange(seq, device=x.device)
        rotary = whole[None] if positions is None else positions
        self.cos, self.sin, self.backend = model.cos[rotary][:, None], model.sin[rotary][:, None], model.backend
        if documents is None or positions is None:
            self.prepared = self.backend.prepare(Sight(whole, whole, documents, documents))
        else:
            places = positions[0]
            self.prepared = self.backend.prepare(Sight(places, whole, documents[:, places], documents))


@dataclass(frozen=True)
class Part:
    """Consecutive blocks of a model, and whether embedding and output belong to them."""

    layers: range
    is_first: bool
    is_last: bool


class Llama(nn.Module):
    """The decoder, or some consecutive layers of it.

    Args:
        options: its dimensions.
        vocab_size: rows of the embedding, special tokens included.
        part: which of it; all if left out.
        scores: whether it gives a single number in place of the vocabulary, as a reward model does.

    Attributes:
        backend: how attention is computed.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, options: ModelOptions, vocab_size: int, part: Part | None = None, scores: bool = False):
        super().__init__()
        self.options, self.vocab_size, self.is_scoring = options, vocab_size, scores
        self.part = part or Part(range(options.layers), is_first=True, is_last=True)
        self.backend: Backend = Dense()
        tied_output = self.part.is_last and options.tied_embeddings and not scores
        self.embedding = Embedding(vocab_size, options.dim) if self.part.is_first or tied_output else None
        self.blocks = nn.ModuleDict({str(layer): Block(options) for layer in self.part.layers})
        self.norm = Norm(options.dim, options.norm_eps) if self.part.is_last else None
        has_output = self.part.is_last and not tied_output
        self.output = Projection(options.dim, 1 if scores else vocab_size) if has_output else None
        cos, sin = rope_tables(options, options.context_length)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        x: Tensor,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Tensor:
        """Hidden states after the last of the blocks and, if that is the model's last, after the final norm.

        Args:
            x: token ids [batch, seq], or hidden states [batch, seq, dim] where the embedding is in another part.
            positions: rotary positions, [batch, seq], or [1, seq] for all rows; 0 to seq - 1 if left out. With
                `documents` the same in all rows: which places of the sequence x holds.
            documents: document numbers of the whole sequence [batch, sequence]; attention does not cross their borders.

        Returns:
            [batch, seq, dim]; `logits` and `likelihood.token_logprobs` turn them into scores.
        """
        context = Context(self, x, positions, documents)
        if self.part.is_first:
            x = self.embedding(x)  # type: ignore[misc]
        for block in self.blocks.values():
            x = block(x, context)
        return x if self.norm is None else self.norm(x)

    @property
    def output_weight(self) -> Tensor:
        """The matrix from hidden states to scores, [vocab, dim], or [1, dim] of a model that scores."""
        module = self.embedding if self.output is None else self.output
        return module.weight  # type: ignore[union-attr]

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary [..., vocab] in float32, from hidden states [..., dim]."""
        return linear(hidden, self.output_weight).float()

    def initialise(self, seed: int) -> Llama:
        """Draws all weights anew."""
        for name, parameter in self.named_parameters():
            initialise(name, parameter, self.options, seed)
        return self


@torch.no_grad()
def initialise(name: str, parameter: Tensor, options: ModelOptions, seed: int) -> None:
    """Draws a parameter anew; the same numbers in whatever part of the model it is.

    Normal of `initial_std`, cut at 3 deviations; those that write to the residual stream scaled down by
    sqrt(2 * layers); norms 1. Meta published no initialisation; with 0.02 it is torchtitan's.
    """
    if parameter.dim() == 1:
        parameter.fill_(1.0)
        return
    key = blake2b(f"{seed} {name}".encode(), digest_size=8).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(key, "little"))
    std = options.initial_std
    if name.endswith(("o_proj.weight", "down_proj.weight")):
        std /= (2 * options.layers) ** 0.5
    draw = torch.empty(parameter.shape)
    nn.init.trunc_normal_(draw, std=std, a=-3 * std, b=3 * std, generator=generator)
    parameter.copy_(draw)
