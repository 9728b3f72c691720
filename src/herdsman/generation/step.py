"""What a runner is given to compute at a time."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Step:
    """Tokens to compute: of some sequences one each, which is decoding, and of others a stretch of the prompt.

    Attributes:
        tokens: int64 [T], those of all sequences laid end to end.
        starts: [S + 1]; those of sequence s are `tokens[starts[s] : starts[s + 1]]`.
        lengths: [S], tokens of each sequence that are in the cache already. Token j of sequence s stands at the
            position `lengths[s] + j - starts[s]`.
        tables: [S], the blocks of each sequence in order, enough for all its tokens.
        wanted: int64 [R], places in `tokens` whose logits are asked for.
    """

    tokens: Tensor
    starts: list[int]
    lengths: list[int]
    tables: list[list[int]]
    wanted: Tensor
