"""A small model, its data, and three steps of training on one process, written out without the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from herdsman.model.llama import Llama, initialise
from herdsman.model.options import ModelOptions
from herdsman.training.objective import Batch

VOCAB, LENGTH, STEPS, ROWS = 96, 32, 3, 8
OPTIONS = ModelOptions(
    layers=4, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=LENGTH, initial_std=0.1
)
TIED = OPTIONS.model_copy(update={"tied_embeddings": True})


def fill(options: ModelOptions):  # type: ignore[no-untyped-def]
    return lambda name, parameter: initialise(name, parameter, options, 3)


def rows_of(step: int) -> Batch:
    """Eight rows with documents of all lengths, and targets some of which count more than others or not at all."""
    generator = torch.Generator().manual_seed(step)
    tokens = torch.randint(0, VOCAB, (ROWS, LENGTH + 1), generator=generator)
    borders = torch.rand(ROWS, LENGTH + 1, generator=generator) < 0.12
    documents = borders.long().cumsum(1)
    weights = torch.rand(ROWS, LENGTH, generator=generator) * (documents[:, 1:] == documents[:, :-1])
    return Batch(tokens[:, :-1], documents[:, :-1], {"targets": tokens[:, 1:], "weights": weights})


def cut(batch: Batch, first: int, last: int) -> Batch:
    by_token = {name: tensor[first:last] for name, tensor in batch.by_token.items()}
    assert batch.documents is not None
    return Batch(batch.tokens[first:last], batch.documents[first:last], by_token)


@dataclass
class Reference:
    losses: list[float]
    norms: list[float]
    weights: dict[str, torch.Tensor]


def optimizer_of(parameters: list[torch.nn.Parameter]) -> torch.optim.Optimizer:
    # A large epsilon: Adam would blow up the rounding noise of weights that get next to no gradient.
    return torch.optim.AdamW(parameters, lr=1e-2, eps=1e-3, weight_decay=0.1)


def reference(
    options: ModelOptions,
    make: Callable[[Llama], torch.optim.Optimizer] = lambda model: optimizer_of(list(model.parameters())),
) -> Reference:
    model = Llama(options, VOCAB).initialise(3)
    optimizer = make(model)
    losses, norms = [], []
    for step in range(STEPS):
        batch = rows_of(step)
        logits = model.logits(model(batch.tokens, documents=batch.documents))
        each = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.by_token["targets"].flatten(), reduction="none"
        )
        weights = batch.by_token["weights"].flatten()
        loss = (each * weights).sum() / weights.sum()
        optimizer.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        losses.append(float((each * weights).detach().double().sum() / weights.double().sum()))
        optimizer.step()
    return Reference(losses, norms, {name: p.detach().clone() for name, p in model.named_parameters()})
