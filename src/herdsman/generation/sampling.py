"""How the next token is chosen: temperature, nucleus, and random numbers that belong to a row and not to its batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from herdsman.errors import InputError

NUCLEUS_GUESS = 64


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Attributes:
        max_new_tokens: longest completion; shorter where the model's context ends.
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_p: only the likeliest tokens that together hold this probability can be drawn (1 = all).
        seed: with the number of the row, decides every draw.
        stop_ids: tokens that end a completion; the tokenizer's own if None.
    """

    max_new_tokens: int = 256
    temperature: float = 0.6
    top_p: float = 0.9
    seed: int = 0
    stop_ids: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or not 0 < self.top_p <= 1:
            raise InputError(
                f"sampling with max_new_tokens={self.max_new_tokens}, temperature={self.temperature} and "
                f"top_p={self.top_p} is not possible",
                do="use at least 1 new token, a temperature of 0 or more, and 0 < top_p <= 1",
            )


def uniforms(seed: int, row: int, count: int) -> np.ndarray:
    """The draws of one row, [count] in [0, 1): a pure function of its arguments, so any batch gives the same sample."""
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, row % 2**64])).random(count)


def choose(logits: Tensor, temperature: float, top_p: float, draws: Tensor) -> Tensor:
    """The next token of each row, [rows].

    logits: [rows, vocab]; draws: [rows] in [0, 1), turned into tokens by inverting the cumulative distribution.
    """
    if temperature == 0:
        return logits.argmax(-1)
    probabilities = torch.softmax(logits.float() / temperature, -1)
    if top_p < 1:
        probabilities, tokens = _nucleus(probabilities, top_p)
    else:
        tokens = None
    cumulative = probabilities.double().cumsum(-1)
    index = torch.searchsorted(cumulative, (draws.double() * cumulative[:, -1])[:, None], right=True)
    # A draw rounded up to the whole mass must still fall on the last token that has any probability.
    last = (probabilities > 0).long().cumsum(-1).argmax(-1, keepdim=True)
    index = torch.minimum(index, last)
    return (index if tokens is None else tokens.gather(-1, index))[:, 0]


def _nucleus(probabilities: Tensor, top_p: float) -> tuple[Tensor, Tensor]:
    """Probabilities in falling order with those outside the nucleus at 0, and their tokens; both [rows, kept].

    The nucleus is the smallest set of likeliest tokens with at least `top_p` (Holtzman et al. 2020): a token is in it
    when those before it hold less. Few tokens usually suffice, so the whole vocabulary is sorted only when they do not.
    """
    count = min(NUCLEUS_GUESS, probabilities.shape[-1])
    ordered, tokens = probabilities.topk(count, dim=-1)
    if count < probabilities.shape[-1] and bool((ordered.double().sum(-1) < top_p).any()):
        ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    before = ordered.double().cumsum(-1) - ordered.double()
    return ordered.masked_fill(before >= top_p, 0.0), tokens
