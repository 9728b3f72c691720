"""Steps of the engine on this rank's share of the reference's rows, and its weights put together."""

from __future__ import annotations

import torch
from torch import Tensor

from herdsman.model.options import ModelOptions
from herdsman.training.objective import Batch, NextToken
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.parallel.running import PLAIN, Running
from tests.training.parallel.reference import VOCAB, cut, fill, rows_of


def make(
    options: ModelOptions,
    layout: LayoutOptions,
    running: Running = PLAIN,
    vocab_size: int = VOCAB,
    scores: bool = False,
) -> ParallelModel:
    """A model over the ranks of the group, or on this process if there is none."""
    world = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    cpu = torch.device("cpu")
    return lay_out(options, vocab_size, Layout.of(layout, world), cpu, fill(options), running, scores)


def share_of(model: ParallelModel, batch: Batch, rows: int) -> list[Batch]:
    """This data rank's rows in micro-batches of so many."""
    share = len(batch.tokens) // model.data_ranks
    first = model.data_rank * share
    return [cut(batch, first + i, first + min(i + rows, share)) for i in range(0, share, rows)]


def take_step(
    model: ParallelModel, optimizer: torch.optim.Optimizer, number: int, rows: int = 2
) -> tuple[float, float]:
    """Loss and norm of a step, which is clipped as the reference's are."""
    sums = model.train_step(share_of(model, rows_of(number), rows), NextToken())
    model.scale_gradients(1 / sums.weight)
    norm = model.gradient_norm()
    model.scale_gradients(min(1.0, 1.0 / (norm + 1e-6)))
    optimizer.step()
    model.after_update()
    return sums.total / sums.weight, norm


def whole(tensor: Tensor) -> Tensor:
    return getattr(tensor, "full_tensor", lambda: tensor)().detach().clone()


def weights_of(model: ParallelModel) -> dict[str, Tensor]:
    """This rank's weights, put together over its shards."""
    return {name: whole(parameter) for name, parameter in model.named_parameters()}


def gradients_of(model: ParallelModel) -> dict[str, Tensor]:
    return {name: whole(parameter.grad) for name, parameter in model.named_parameters() if parameter.grad is not None}
