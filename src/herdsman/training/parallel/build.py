"""Lays a model out over processes, block by block: no process ever holds the whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from herdsman.model.attention import choose_backend
from herdsman.model.llama import Llama, Part
from herdsman.model.options import ModelOptions
from herdsman.training.parallel.context import GatheredAttention
from herdsman.training.parallel.data import shard
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.mesh import Mesh
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.parallel.pipeline import parts
from herdsman.training.parallel.recompute import recompute
from herdsman.training.parallel.running import PLAIN, Running
from herdsman.training.parallel.stages import stages_of
from herdsman.training.parallel.tensor import split_block, split_ends

Fill = Callable[[str, Tensor], None]
"""Gives a parameter, known by its name in the whole model, its first values."""


def lay_out(
    options: ModelOptions,
    vocab_size: int,
    layout: Layout,
    device: torch.device,
    fill: Fill,
    running: Running = PLAIN,
    scores: bool = False,
) -> ParallelModel:
    """A model over all processes of the default group, or on this one alone if there is none.

    The order is that of torchtitan: split matrices, compute again, compile, shard.

    Args:
        scores: whether it has a single output in place of the vocabulary, as a reward model.
    """
    mesh = Mesh.over(layout, device.type) if Mesh.needed() else None
    cut = parts(options.layers, layout.stages)
    stages = stages_of(mesh.pipeline.get_local_rank() if mesh else 0, layout)
    modules = [_part(options, vocab_size, cut[stage], mesh, device, fill, running, scores) for stage in stages]
    return ParallelModel(modules, layout, mesh, device, running)


def alone(model: Llama, running: Running = PLAIN) -> ParallelModel:
    """A model that exists already, on this process alone."""
    return ParallelModel([model], Layout.of(LayoutOptions(), 1), None, model.cos.device, running)


def _part(
    options: ModelOptions,
    vocab_size: int,
    part: Part,
    mesh: Mesh | None,
    device: torch.device,
    fill: Fill,
    running: Running,
    scores: bool,
) -> Llama:
    with torch.device("meta"):
        model = Llama(options, vocab_size, part, scores)
    model.cos, model.sin = model.cos.to(device), model.sin.to(device)
    model.backend = choose_backend(running.attention, device, running.precision)
    if mesh and mesh.layout.context > 1:
        model.backend = GatheredAttention(mesh.context, model.backend)
    for layer, block in model.blocks.items():
        _materialise(block, f"blocks.{layer}.", device, fill)
        if running.fp8:
            from herdsman.training.parallel.float8 import to_float8

            to_float8(block, device)
        if mesh and mesh.layout.tensor > 1:
            split_block(block, mesh.tensor)
        recompute(block, running.recompute)
        if running.compile:
            block.compile()
        if mesh:
            shard(block, mesh.weights, running.precision, mesh.layout.reshard_after_forward)
    _materialise(model, "", device, fill)
    if mesh:
        if mesh.layout.tensor > 1:
            split_ends(model, mesh.tensor, scores)
        # What is left has the output matrix, which the loss needs after the forward pass.
        shard(model, mesh.weights, running.precision, reshard_after_forward=False)
    return model.train()


def _materialise(module: nn.Module, prefix: str, device: torch.device, fill: Fill) -> None:
    """Gives parameters that are still on the meta device room and values."""
    for name, parameter in list(module.named_parameters()):
        if parameter.is_meta:
            owner, _, last = name.rpartition(".")
            made = nn.Parameter(torch.empty_like(parameter, device=device))
            fill(prefix + name, made.data)
            setattr(module.get_submodule(owner), last, made)
