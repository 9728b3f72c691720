"""From computing to size: how much of it goes into tokens, and what the same loss costs otherwise.

Two published laws. Llama 3's says how many tokens are best for a budget; a sweep of one's own (`herdsman scale`) gives
the same two constants for one's own data. The Chinchilla law, as fitted again by others, gives a loss for any size and
number of tokens, and so the least computing that reaches what a published model reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from herdsman.cluster.figure import Figure, Origin
from herdsman.errors import InputError
from herdsman.files import read_json

FLOPS_PER_PARAMETER_TOKEN = 6


@dataclass(frozen=True)
class TokenLaw:
    """Best training tokens are `coefficient * flops ** exponent`; low and high are another pair each.

    Attributes:
        loss: floor, scale, exponent and middle of the lowest loss, floor + scale * (flops / middle) ** -exponent, if a
            sweep has found it.
    """

    coefficient: float
    exponent: float
    low: tuple[float, float]
    high: tuple[float, float]
    source: str
    loss: tuple[float, float, float, float] | None = None

    def tokens(self, flops: float) -> Figure:
        ways = [self.coefficient * flops**self.exponent, *(a * flops**b for a, b in (self.low, self.high))]
        origin: Origin = "paper" if self is LLAMA3 else "measured"
        return Figure(ways[0], "tokens", origin, min(ways), max(ways), self.source)

    def lowest_loss(self, flops: float) -> float | None:
        """Held-out loss, in nats a token, of the best model for so many FLOPs."""
        if self.loss is None:
            return None
        floor, scale, exponent, middle = self.loss
        return floor + scale * (flops / middle) ** -exponent


LLAMA3 = TokenLaw(
    0.299, 0.537, (0.29, 0.53), (0.299, 0.53727),
    "Llama 3, figure 3; range from the rounded pair of its text to the one its 16.55T tokens at 3.8e25 FLOPs need",
)  # fmt: skip


def read_law(path: Path) -> TokenLaw:
    """The law that `herdsman scale` wrote.

    Raises:
        InputError: there is none in the file.
    """
    try:
        read = read_json(path)
        found, lowest = read["tokens"], read.get("loss")
        loss = lowest and tuple(float(lowest[name]) for name in ("floor", "scale", "exponent", "middle"))
        pairs = [(float(found[f"{end}coefficient"]), float(found[f"{end}exponent"])) for end in ("", "low_", "high_")]
    except (OSError, ValueError, KeyError, TypeError) as error:
        do = "give WORKSPACE/scaling/law.json, as herdsman scale writes it"
        raise InputError("is not a scaling law", where=path, do=do) from error
    # The intervals of the two constants go against each other: a steeper law starts lower.
    (value, exponent), (low, low_exponent), (high, high_exponent) = pairs
    return TokenLaw(value, exponent, (high, low_exponent), (low, high_exponent), f"your own sweep, {path}", loss)


@dataclass(frozen=True)
class LossLaw:
    """Loss in nats a token: floor + size / parameters**alpha + data / tokens**beta."""

    floor: float
    size: float
    data: float
    alpha: float
    beta: float

    def loss(self, parameters: float, tokens: float) -> float:
        return self.floor + self.size / parameters**self.alpha + self.data / tokens**self.beta

    def best_tokens(self, flops: float) -> float:
        """Tokens with which so many FLOPs, at 6 a parameter and token, reach the lowest loss."""
        ratio = (self.beta * self.data / (self.alpha * self.size)) ** (1 / (self.alpha + self.beta))
        return ratio * (flops / FLOPS_PER_PARAMETER_TOKEN) ** (self.alpha / (self.alpha + self.beta))

    def least_flops(self, loss: float) -> float:
        """FLOPs of the cheapest model with this loss, or a lower one."""
        low, high = 1e6, 1e40
        for _ in range(200):
            middle = (low * high) ** 0.5
            tokens = self.best_tokens(middle)
            reached = self.loss(middle / (FLOPS_PER_PARAMETER_TOKEN * tokens), tokens)
            low, high = (low, middle) if reached <= loss else (middle, high)
        return high


CHINCHILLA = LossLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""Besiroglu et al. 2024 (arXiv 2404.10102), who fitted the points of Hoffmann et al. 2022 again."""
