"""Many continuations over shared contexts in one pass: a context is computed once, its continuations side by side.

    context | continuation 1 | continuation 2 | ...

A continuation sees its context and itself, and its positions go on where the context ends, so that each is computed as
if it stood there alone: attention has the mask of a tree. Where a context has one continuation only, as in perplexity,
that is plain causal attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby

import torch
from torch import Tensor

from herdsman.generation.engine import Score
from herdsman.model.attention import Dense
from herdsman.model.llama import Llama

Pair = tuple[Sequence[int], Sequence[int]]
"""Context and continuation."""

LOGIT_ELEMENTS = 1 << 21
"""Logits that are held at a time."""

SMALL_TOKENS = 128
"""Continuations that are together no longer than this share a row whatever their context; longer ones only if that has
as many tokens, for in a row they also take the time of not looking at each other."""


@torch.inference_mode()
def score_continuations(
    model: Llama,
    pairs: Sequence[Pair],
    batch_tokens: int = 4096,
    on_progress: Callable[[int], object] | None = None,
) -> list[Score]:
    """Scores each continuation after its context; neither may be empty.

    Args:
        batch_tokens: most tokens of a batch, filling included, unless a single row has more.
        on_progress: called with the number of pairs that have just been scored.
    """
    scores: dict[int, Score] = {}
    # The last token of a continuation is predicted and not read.
    read = [(context, continuation[:-1]) for context, continuation in pairs]
    for numbers, hidden in _computed(model, read, batch_tokens):
        targets = torch.tensor([id for number in numbers for id in pairs[number][1]], device=hidden.device)
        logprobs, greedy = _likelihoods(model, hidden, targets)
        counts = [len(pairs[number][1]) for number in numbers]
        for number, found, best in zip(numbers, logprobs.split(counts), greedy.split(counts), strict=True):
            scores[number] = Score(float(found.sum()), len(found), bool(best.all()))
        if on_progress:
            on_progress(len(numbers))
    return [scores[number] for number in range(len(pairs))]


@torch.inference_mode()
def reward_continuations(model: Llama, pairs: Sequence[Pair], batch_tokens: int = 4096) -> list[float]:
    """What a model that scores gives for each continuation after its context, read at its last token."""
    rewards = [0.0] * len(pairs)
    for numbers, hidden in _computed(model, pairs, batch_tokens):
        ends = torch.tensor([1 + len(pairs[number][1]) for number in numbers], device=hidden.device).cumsum(0) - 1
        for number, reward in zip(numbers, model.logits(hidden[ends])[:, 0].tolist(), strict=True):
            rewards[number] = reward
    return rewards


def _likelihoods(model: Llama, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities of the targets in float64 and whether each is the likeliest token, both [tokens]."""
    size = max(1, LOGIT_ELEMENTS // model.vocab_size)
    logprobs, greedy = [], []
    for states, wanted in zip(hidden.split(size), targets.split(size), strict=True):
        logits = model.logits(states)
        chosen = logits.gather(-1, wanted[:, None])[:, 0]
        logprobs.append((chosen - logits.logsumexp(-1)).double())
        greedy.append(logits.argmax(-1) == wanted)
    return torch.cat(logprobs), torch.cat(greedy)


@dataclass
class _Row:
    """A context and continuations of it, each with the number of its pair."""

    context: tuple[int, ...]
    branches: list[tuple[int, Sequence[int]]] = field(default_factory=list)
    length: int = 0


def _rows(pairs: Sequence[Pair]) -> list[_Row]:
    """Trees first, the shortest first."""
    rows: list[_Row] = []
    open_rows: dict[tuple[int, ...], _Row] = {}
    for number, (context, continuation) in enumerate(pairs):
        context = tuple(context)
        row = open_rows.get(context)
        most = len(context) + max(len(context), SMALL_TOKENS)
        if row is None or row.length + len(continuation) > most:
            row = open_rows[context] = _Row(context, length=len(context))
            rows.append(row)
        row.branches.append((number, continuation))
        row.length += len(continuation)
    return sorted(rows, key=lambda row: (len(row.branches) == 1, row.length))


def _batches(rows: Sequence[_Row], batch_tokens: int) -> Iterator[list[_Row]]:
    for _, alike in groupby(rows, key=lambda row: len(row.branches) == 1):
        batch: list[_Row] = []
        for row in alike:  # each as long as the ones before it or longer
            if batch and (len(batch) + 1) * row.length > batch_tokens:
                yield batch
                batch = []
            batch.append(row)
        yield batch


def _computed(model: Llama, pairs: Sequence[Pair], batch_tokens: int) -> Iterator[tuple[list[int], Tensor]]:
    """A batch at a time: the numbers of its pairs, and hidden states [tokens, dim] of the last token of each pair's
    context followed by those of its continuation."""
    device = model.output_weight.device
    for batch in _batches(_rows(pairs), batch_tokens):
        longest = batch[-1].length
        tokens, positions, branches = (torch.zeros(len(batch), longest, dtype=torch.int64) for _ in range(3))
        numbers: list[int] = []
        places: list[int] = []
        for index, row in enumerate(batch):
            end = len(row.context)
            tokens[index, :end], positions[index, :end] = torch.tensor(row.context), torch.arange(end)
            for branch, (number, continuation) in enumerate(row.branches, start=1):
                start, end = end, end + len(continuation)
                tokens[index, start:end] = torch.tensor(continuation, dtype=torch.int64)
                positions[index, start:end] = torch.arange(len(continuation)) + len(row.context)
                branches[index, start:end] = branch
                numbers.append(number)
                places += [index * longest + place for place in (len(row.context) - 1, *range(start, end))]
        is_tree = len(batch[0].branches) > 1
        hidden = _forward(model, tokens.to(device), positions.to(device), branches.to(device) if is_tree else None)
        yield numbers, hidden.flatten(0, 1)[torch.tensor(places, device=device)]


def _forward(model: Llama, tokens: Tensor, positions: Tensor, branches: Tensor | None) -> Tensor:
    """Hidden states [rows, tokens, dim] of trees; of plain sequences if there are no branches.

    A token sees those before it that belong to the context, which is branch 0, or to its own branch. Filling stands
    behind all else, where nobody sees it.
    """
    if branches is None:
        hidden: Tensor = model(tokens)
        return hidden
    places = torch.arange(tokens.shape[1], device=tokens.device)
    same = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    context = _Tree(model, positions, (same & (places <= places[:, None]))[:, None])
    assert model.embedding is not None
    assert model.norm is not None
    x = model.embedding(tokens)
    for block in model.blocks.values():
        x = block(x, context)
    normed: Tensor = model.norm(x)
    return normed


class _Tree:
    """What the model's blocks want to know of a pass; see `model.llama.Context`."""

    def __init__(self, model: Llama, positions: Tensor, mask: Tensor):
        self.cos, self.sin = model.cos[positions][:, None], model.sin[positions][:, None]
        self.backend, self.prepared = Dense(), mask
