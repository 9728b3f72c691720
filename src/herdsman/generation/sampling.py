"""How completions are drawn: what may be asked for, and random numbers that belong to a row and not to its batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from herdsman.errors import InputError
from herdsman.generation.constraint import Constraint


@dataclass(frozen=True)
class Sampling:
    """How completions are drawn.

    Logits are changed in this order: repetition penalty, presence and frequency penalty, bias, constraint,
    temperature; then top_k, top_p (of what top_k left) and min_p each take tokens away.

    Attributes:
        max_new_tokens: longest completion; shorter where the model's context ends.
        temperature: logits are divided by it; 0 takes the likeliest token.
        top_p: only the likeliest tokens that together hold this probability can be drawn (1 = all).
        seed: with the number of the row, decides every draw.
        stop_ids: tokens that end a completion; the tokenizer's own if None.
        top_k: only so many of the likeliest tokens can be drawn (0 = all).
        min_p: only tokens with at least this share of the likeliest one's probability can be drawn.
        repetition_penalty: positive logits of tokens in prompt or completion are divided by it, negative ones
            multiplied (CTRL, Keskar et al. 2019, section 4.1; 1 = none).
        presence_penalty: taken from the logit of every token that the completion has.
        frequency_penalty: taken from it as often as the completion has it.
        logit_bias: added to the logits of tokens.
        stop: strings that end a completion; its text ends before the first of them.
        logprobs: how many likeliest tokens to name with the log-probability of each token drawn; None for neither.
        constraint: a form that the completion must have.
    """

    max_new_tokens: int = 256
    temperature: float = 0.6
    top_p: float = 0.9
    seed: int = 0
    stop_ids: frozenset[int] | None = None
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    constraint: Constraint | None = None

    def __post_init__(self) -> None:
        ranges = {
            "max_new_tokens": (self.max_new_tokens >= 1, "at least 1"),
            "temperature": (0 <= self.temperature < np.inf, "0 or more"),
            "top_p": (0 < self.top_p <= 1, "above 0 and at most 1"),
            "top_k": (self.top_k >= 0, "0 or more"),
            "min_p": (0 <= self.min_p <= 1, "from 0 to 1"),
            "repetition_penalty": (0 < self.repetition_penalty < np.inf, "above 0"),
            "presence_penalty": (bool(np.isfinite(self.presence_penalty)), "a finite number"),
            "frequency_penalty": (bool(np.isfinite(self.frequency_penalty)), "a finite number"),
            "logprobs": (self.logprobs is None or self.logprobs >= 0, "0 or more"),
        }
        for name, (possible, range_) in ranges.items():
            if not possible:
                raise InputError(
                    f"sampling with {name}={getattr(self, name)} is not possible", do=f"it must be {range_}"
                )
        if not all(self.stop):
            raise InputError("a stop string is empty", do="leave it out")
        if any(np.isnan(bias) for bias in self.logit_bias.values()):
            raise InputError("a logit bias is not a number", do="leave it out")


def draws(seed: int, row: int) -> np.random.Generator:
    """The stream of draws of one row: a pure function of its arguments, so any batch gives the same sample."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, row % 2**64], np.uint64)))
