"""One step of a model over many sequences at different places: the protocol, and the way torch does it."""

from __future__ import annotations

from typing import Literal, Protocol, cast

import torch
from torch import Tensor
from torch.nn.functional import embedding, rms_norm, silu

from herdsman.errors import MachineError
from herdsman.generation.cache import PagedCache
from herdsman.generation.float8 import Float8Places
from herdsman.generation.matrices import MakeMatrix, Matrix, dense
from herdsman.generation.native.runner import native_runner
from herdsman.generation.paged_attention import AttentionPlan
from herdsman.generation.quantize import int8
from herdsman.generation.step import Step as Step
from herdsman.model.llama import Block, Llama
from herdsman.model.options import ModelOptions
from herdsman.model.rope import rotate

Weights = Literal["auto", "float32", "bfloat16", "int8", "float8"]


class Runner(Protocol):
    """A model with its weights in some form.

    Attributes:
        dtype: of the keys and values it writes, and of the cache it needs.
        device: where it computes.
        vocab_size: columns of its logits.
    """

    options: ModelOptions
    vocab_size: int
    dtype: torch.dtype
    device: torch.device

    def forward(self, step: Step, cache: PagedCache) -> Tensor:
        """Computes the step's tokens and writes their keys and values: float32 logits [R, vocab] of those wanted."""
        ...


def make_runner(model: Llama, weights: Weights = "float32") -> Runner:
    """The fastest runner for a model's device and the form its weights shall have.

    On a processor bfloat16 and int8 are the native kernel's, and torch's where it cannot be built. "auto" is bfloat16,
    but float32 on a processor without the kernel: torch is slow there with less.

    Raises:
        MachineError: this machine cannot compute with such weights.
    """
    device = model.output_weight.device
    if weights == "float8":
        return TorchRunner(model, torch.bfloat16, Float8Places(model.options, device))
    if device.type == "cpu" and weights != "float32":
        if native := native_runner(model, "int8" if weights == "int8" else "bfloat16"):
            return native
        if weights == "int8":
            return TorchRunner(model, torch.bfloat16, int8)
    if weights == "int8":
        raise MachineError("weights of 8 bits are for processors", do="use float8 or bfloat16 on this device")
    if weights == "auto":
        weights = "bfloat16" if device.type == "cuda" else "float32"
    return TorchRunner(model, getattr(torch, weights))


class TorchRunner:
    """Any device that torch has, in any of its floating-point types.

    Args:
        model: the decoder. Weights that have the type already are used where they are, not copied.
        dtype: of activations, keys and values.
        make_matrix: makes the matrices; `dense` in `dtype` if left out.
    """

    def __init__(self, model: Llama, dtype: torch.dtype, make_matrix: MakeMatrix | None = None):
        make = make_matrix or (lambda name, weights: dense(weights, dtype))
        self.options, self.vocab_size = model.options, 1 if model.is_scoring else model.vocab_size
        self.dtype, self.device = dtype, model.output_weight.device
        assert model.embedding is not None
        assert model.norm is not None
        with torch.inference_mode():
            self.cos, self.sin = model.cos, model.sin
            self.embedding, self.norm = (module.weight.detach().to(dtype) for module in (model.embedding, model.norm))
            # One copy of a tied matrix does for both, unless the other is to be of another form.
            shared = model.output is None and make_matrix is None
            self.output = make("output", [self.embedding if shared else model.output_weight.detach()])
            blocks = cast("list[Block]", list(model.blocks.values()))
            self.layers = [_Layer(number, block, dtype, make) for number, block in enumerate(blocks)]

    @torch.inference_mode()
    def forward(self, step: Step, cache: PagedCache) -> Tensor:
        eps, options = self.options.norm_eps, self.options
        heads, kv_heads, width = options.heads, options.kv_heads, options.head_width
        plan = AttentionPlan(step, options, self.dtype, self.device)
        cos, sin = self.cos[plan.positions][:, None], self.sin[plan.positions][:, None]
        x = embedding(step.tokens.to(self.device), self.embedding)
        for number, layer in enumerate(self.layers):
            projected = layer.qkv(rms_norm(x, x.shape[-1:], layer.attention_norm, eps)).unflatten(-1, (-1, width))
            turned = rotate(projected[:, : heads + kv_heads], cos, sin)
            q, k, v = turned[:, :heads], turned[:, heads:], projected[:, heads + kv_heads :]
            cache.keys[number][plan.blocks, :, plan.slots] = k
            cache.values[number][plan.blocks, :, plan.slots] = v
            x = x + layer.out(plan.attend(q, k, v, cache.keys[number], cache.values[number]).flatten(1))
            gate, up = layer.gate_up(rms_norm(x, x.shape[-1:], layer.ffn_norm, eps)).chunk(2, -1)
            x = x + layer.down(silu(gate) * up)
        x = x[step.wanted.to(self.device)]
        return self.output(rms_norm(x, x.shape[-1:], self.norm, eps)).float()


class _Layer:
    def __init__(self, number: int, block: Block, dtype: torch.dtype, make: MakeMatrix):
        attention, ffn = block.attention, block.ffn

        def matrix(name: str, *projections: torch.nn.Linear) -> Matrix:
            return make(f"{number}.{name}", [projection.weight.detach() for projection in projections])

        self.qkv = matrix("attention.qkv", attention.q_proj, attention.k_proj, attention.v_proj)
        self.out = matrix("attention.out", attention.o_proj)
        self.gate_up = matrix("ffn.gate_up", ffn.gate_proj, ffn.up_proj)
        self.down = matrix("ffn.down", ffn.down_proj)
        self.attention_norm = block.attention_norm.weight.detach().to(dtype)
        self.ffn_norm = block.ffn_norm.weight.detach().to(dtype)
