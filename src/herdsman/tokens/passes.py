"""Plain concatenation: a stream read block by block, again and again, each time in another order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from herdsman.tokens.shards import Intervals
from herdsman.tokens.shuffle import order_of_epoch

MOST_RUNS = 1 << 20


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

    The stream is cut into runs of whole blocks, which are shuffled anew for each pass. A run is one block as long as
    there are no more than a million of them, so that a batch does not hold one long document in block after block.
    Larger streams are read from front to back in the first pass: disks and object stores like it best, their documents
    lie shuffled, and what has been read of them so far is counted in a moment.

    Each pass is cut from where the last one ended, the stream being a ring: the part of a run that is left over comes
    in the next pass. So in a pass no token comes twice, and after it none has come more than once more often than
    another. A stream shorter than a block just goes round.

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
        lengths = np.full(of_epoch + 1, self.run_tokens)
        lengths[-1] = inside
        starts = (epoch * self.runs + self._order(epoch)[: of_epoch + 1]) * self.run_tokens % self.tokens
        ends = starts + lengths % self.tokens
        once = np.stack([starts, np.minimum(ends, self.tokens)], axis=1)
        around = np.stack([np.zeros_like(ends), ends - self.tokens], axis=1)
        stretches = np.concatenate([once, around, [(0, rest)]])
        return Covered(rounds + int((lengths // self.tokens).sum()), stretches[stretches[:, 1] > stretches[:, 0]])

    def _begin(self, run: int) -> int:
        """Where a run begins on the ring, counted on from the first pass."""
        epoch, number = divmod(run, self.runs)
        return (epoch * self.runs + int(self._order(epoch)[number])) * self.run_tokens

    def _order(self, epoch: int) -> NDArray[np.int64]:
        if not epoch and self.run_tokens > self.block_tokens:
            return _as_it_lies(self.runs)
        return order_of_epoch(self.runs, self.seed, self.stream, epoch)


@lru_cache(maxsize=64)
def _as_it_lies(runs: int) -> NDArray[np.int64]:
    return np.arange(runs)
