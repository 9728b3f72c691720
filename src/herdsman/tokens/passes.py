"""Plain concatenation: a stream read from front to back, again and again, each time in another order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from herdsman.tokens.shards import Intervals
from herdsman.tokens.shuffle import order_of_epoch

MOST_RUNS = 4096


class Piece(NamedTuple):
    """Tokens that lie together in a stream; without a start it is padding."""

    start: int | None
    tokens: int


class Covered(NamedTuple):
    """What has been read of a stream: the whole of it so many times, and these stretches once more."""

    rounds: int
    stretches: Intervals


@dataclass(frozen=True)
class Passes:
    """The endless sequence of tokens that a stream gives to a run.

    The first pass goes from front to back: documents lie shuffled already, and disks and object stores like it best.
    For later passes the stream is cut into runs of whole blocks, at most 4,096, which are shuffled anew each time; so
    what is trained together changes, reading stays sequential over long stretches, and what a pass has taken so far can
    be said exactly in a moment. Each pass is cut from where the last one ended, the stream being a ring: the part of a
    run that is left over comes first in the cutting of the next pass. So in a pass no token comes twice, and after it
    none has come more than once more often than another. A stream shorter than a block just goes round.

    Attributes:
        tokens: of the stream.
    """

    stream: str
    tokens: int
    block_tokens: int
    seed: int

    @property
    def runs(self) -> int:
        return max(1, self.tokens // self.run_tokens)

    @property
    def run_tokens(self) -> int:
        return self.block_tokens * max(1, -(-self.tokens // (self.block_tokens * MOST_RUNS)))

    def pieces(self, at: int, count: int) -> list[Piece]:
        """Where `count` tokens lie in the stream, after the `at` ones given before."""
        found: list[Piece] = []
        while count:
            run, inside = divmod(at, self.run_tokens)
            start = (self._begin(run) + inside) % self.tokens
            take = min(count, self.run_tokens - inside, self.tokens - start)
            found.append(Piece(start, take))
            at, count = at + take, count - take
        return found

    def taken(self, at: int) -> Covered:
        """What the first `at` tokens given are."""
        run, inside = divmod(at, self.run_tokens)
        epoch, of_epoch = divmod(run, self.runs)
        rounds, rest = divmod(epoch * self.runs * self.run_tokens, self.tokens)
        begins = [self._begin(number) for number in range(run - of_epoch, run + 1)]
        lengths = [self.run_tokens] * of_epoch + [inside]
        stretches = [(0, rest)]
        for begin, length in zip(begins, lengths, strict=True):
            rounds, start = rounds + length // self.tokens, begin % self.tokens
            end = start + length % self.tokens
            stretches += [(start, min(end, self.tokens)), (0, max(0, end - self.tokens))]
        return Covered(rounds, np.array([(a, b) for a, b in stretches if b > a], np.int64).reshape(-1, 2))

    def _begin(self, run: int) -> int:
        """Where a run begins on the ring, counted on from the first pass."""
        epoch, number = divmod(run, self.runs)
        number = int(order_of_epoch(self.runs, self.seed, self.stream, epoch)[number])
        return (epoch * self.runs + number) * self.run_tokens
