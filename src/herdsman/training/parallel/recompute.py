"""Activation checkpointing: computing again in the backward pass what would take room until then."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

Recompute = Literal["none", "selective", "full"]

_KEPT = {
    "aten::mm",
    "aten::_scaled_mm",
    "aten::_scaled_dot_product_flash_attention",
    "aten::_scaled_dot_product_efficient_attention",
    "aten::_scaled_dot_product_cudnn_attention",
    "aten::_scaled_dot_product_flash_attention_for_cpu",
    "torch_attn::_varlen_attn",
    "flex_attention",
    "_c10d_functional::reduce_scatter_tensor",
}
"""By name, for torch only knows some of them once the module is imported that defines them."""


def recompute(block: nn.Module, what: Recompute) -> None:
    """Makes a block compute again `full`y, or `selective`ly: all but matrix products, attention and reductions.

    Selectively, what is computed again is cheap (norms, rotations, SwiGLU), but for the CPU's tiled attention, which is
    no single operation; fully, a block keeps its input alone. What was gathered from other ranks is gathered again in
    both: kept whole on every rank, it would take more than selecting saves.
    """
    if what == "none":
        return
    settings: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
    if what == "selective":
        settings["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    block.forward = partial(checkpoint, block.forward, **settings)


def _policy(context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
    return CheckpointPolicy.MUST_SAVE if operation.name() in _KEPT else CheckpointPolicy.PREFER_RECOMPUTE
