"""Which stream gives which block of tokens: shares of a mix, spread as evenly as whole blocks allow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from heapq import heapify, heappop, heappush

import numpy as np

from herdsman.errors import RecipeError

WHOLE = 100_000
TOLERANCE = 1e-3


class Interleaving:
    """A periodic schedule of streams in which every stream always has its share, within one block.

    Each stream's count among the first n blocks lies strictly between n * share - 1 and n * share + 1. Shares are whole
    numbers of 1/100,000. The schedule is the earliest-deadline-first one of proportionate fairness (Baruah, Cohen,
    Plaxton and Varvel, 1996): the j-th turn of a stream with share p falls into the slots from floor((j - 1) / p) to
    ceil(j / p) - 1, which is what keeps its count in bounds, and such turns of one line always fit.

    Attributes:
        names: the streams with a share, sorted.
        weights: whole numbers in the proportion of the shares, without common divisor.
        period: their sum, after which the schedule begins again.
    """

    def __init__(self, mix: Mapping[str, float]):
        """
        Raises:
            RecipeError: a share is negative or not a number, or the shares do not sum to 1.
        """
        weights = whole_shares(mix)
        divisor = math.gcd(*weights.values())
        self.names = sorted(weights)
        self.weights = [weights[name] // divisor for name in self.names]
        self.period = sum(self.weights)
        self._stream_at = _earliest_deadline_first(self.weights)
        self._turn_at = np.empty(self.period, np.int32)
        for number, weight in enumerate(self.weights):
            self._turn_at[self._stream_at == number] = np.arange(weight)

    def place(self, index: int) -> tuple[str, int]:
        """The stream that gives the block with this index, and how many it gave before.

        Raises:
            IndexError: the index is negative.
        """
        if index < 0:
            raise IndexError(f"blocks are counted from 0, not from {index}")
        period, slot = divmod(index, self.period)
        number = int(self._stream_at[slot])
        return self.names[number], period * self.weights[number] + int(self._turn_at[slot])

    def counts(self, blocks: int) -> dict[str, int]:
        """How many of the first `blocks` blocks each stream gives."""
        periods, slots = divmod(blocks, self.period)
        partial = np.bincount(self._stream_at[:slots], minlength=len(self.names))
        turns = zip(self.names, self.weights, partial, strict=True)
        return {name: periods * weight + int(part) for name, weight, part in turns}


def whole_shares(mix: Mapping[str, float]) -> dict[str, int]:
    """Shares as whole numbers of 1/100,000 that sum to exactly that, by largest remainders; no share falls to nothing.

    Raises:
        RecipeError: a share is negative or not a number, or the shares do not sum to 1.
    """
    shares = {name: float(mix[name]) for name in sorted(mix) if mix[name] != 0}
    wrong = next((name for name, share in shares.items() if not 0 < share <= 1 + TOLERANCE), None)
    if wrong is not None:
        raise RecipeError(f"{wrong} has the share {mix[wrong]}", where="mix", do="give each stream a share from 0 to 1")
    total = math.fsum(shares.values())
    if abs(total - 1) > TOLERANCE:
        raise RecipeError(f"the shares sum to {total:g}, not to 1", where="mix", do="correct them")
    exact = {name: share / total * WHOLE for name, share in shares.items()}
    whole = {name: max(1, math.floor(value + 1e-6)) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (whole[name] - exact[name], name))
    for name in by_remainder[: max(0, WHOLE - sum(whole.values()))]:
        whole[name] += 1
    whole[max(whole, key=lambda name: (whole[name], name))] += WHOLE - sum(whole.values())
    return whole


def _earliest_deadline_first(weights: list[int]) -> np.ndarray[tuple[int], np.dtype[np.uint16]]:
    """Stream number of each slot of a period, [period]."""
    period = sum(weights)
    waiting = [(0, number, 1) for number in range(len(weights))]  # (first slot, stream, turn)
    ready: list[tuple[int, int, int]] = []  # (slot after the last, stream, turn)
    heapify(waiting)
    order = np.empty(period, np.uint16)
    for slot in range(period):
        while waiting and waiting[0][0] <= slot:
            _, number, turn = heappop(waiting)
            heappush(ready, (-(-turn * period // weights[number]), number, turn))
        _, number, turn = heappop(ready)
        order[slot] = number
        if turn < weights[number]:
            heappush(waiting, (turn * period // weights[number], number, turn + 1))
    return order
