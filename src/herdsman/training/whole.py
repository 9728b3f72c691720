"""A model in a folder, laid out over processes and put together again."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from herdsman.errors import InputError
from herdsman.model.llama import Llama
from herdsman.model.store import open_weights, save_weights
from herdsman.training.parallel.build import Fill
from herdsman.training.parallel.model import ParallelModel


def weights_of(folder: Path) -> Fill:
    """Fills parameters from a model folder, one by one; an output that scores, which no other model has, with zeros.

    Raises:
        InputError: from the filling: a weight is missing or of another shape.
    """

    def fill(name: str, parameter: Tensor) -> None:
        with open_weights(folder) as file:
            found = file.get_tensor(name) if name in file.keys() else None  # noqa: SIM118
        if name == "output.weight" and parameter.shape[0] == 1 and (found is None or found.shape != parameter.shape):
            parameter.zero_()
        elif found is None or found.shape != parameter.shape:
            raise InputError(f"has no {name} of shape {list(parameter.shape)}", where=folder, do="check the dimensions")
        else:
            parameter.copy_(found)

    return fill


@torch.no_grad()
def gather(model: ParallelModel) -> Iterator[tuple[str, Tensor]]:
    """All weights of the whole model, by name, in float32 on the CPU; on rank 0, and nothing on the others.

    To be gone through on all ranks. No rank holds more than one weight at a time beside its own shards.
    """
    # torch remarks on the order of the shards each time one is put together; that is theirs to choose.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    mine = dict(model.named_parameters())
    if model.mesh is None:
        yield from ((name, parameter.detach().float().cpu()) for name, parameter in sorted(mine.items()))
        return
    rank = dist.get_rank()
    everyone: list[dict[str, tuple[int, ...]]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyone, {name: tuple(parameter.shape) for name, parameter in mine.items()})
    for name in sorted(set().union(*everyone)):
        owner = next(number for number, names in enumerate(everyone) if name in names)
        full: Tensor | None = None
        if name in mine:
            parameter = mine[name].detach()
            full = parameter.full_tensor().float() if hasattr(parameter, "full_tensor") else parameter.float()
        if owner and rank == owner and full is not None:
            dist.send(full.contiguous(), 0)
        elif owner and rank == 0:
            full = torch.empty(everyone[owner][name], device=model.device)
            dist.recv(full, owner)
        if rank == 0 and full is not None:
            yield name, full.cpu()


def save_whole(model: ParallelModel, folder: Path) -> None:
    """Writes the model as `model.store` does, from rank 0, which holds one weight at a time."""
    if model.mesh is None or dist.get_rank() == 0:
        save_weights(gather(model), model.options, model.vocab_size, folder, model.is_scoring)
    else:
        deque(gather(model), maxlen=0)
    if model.mesh:
        dist.barrier()


def whole(model: ParallelModel) -> Llama | None:
    """The model on rank 0's CPU or GPU, for sampling; None on the other ranks. One process has it already."""
    if model.mesh is None:
        return model.modules[0]
    weights = dict(gather(model))
    if dist.get_rank():
        return None
    together = Llama(model.options, model.vocab_size, scores=model.is_scoring)
    together.load_state_dict(weights)
    return together.to(model.device).eval()
