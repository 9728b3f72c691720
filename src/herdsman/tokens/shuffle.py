"""Orders that look random and are the same on every machine."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray


def shuffled(size: int, *key: int | str) -> NDArray[np.int64]:
    """The numbers below `size` in an order of their own for each key, [size].

    The order of raw Philox numbers, whose stream NumPy keeps the same over versions, as it does not keep that of its
    own permutations (NEP 19).

    Args:
        key: anything that tells this order from others, such as (seed, stream, epoch).
    """
    digest = blake2b(repr(key).encode(), digest_size=16).digest()
    numbers = np.random.Philox(key=int.from_bytes(digest, "little")).random_raw(size)
    return np.argsort(numbers, kind="stable").astype(np.int64)


@lru_cache(maxsize=64)
def order_of_epoch(size: int, seed: int, stream: str, epoch: int) -> NDArray[np.int64]:
    """The order in which the parts of a stream are read in a pass, [size]; kept, since each read asks for it."""
    return shuffled(size, seed, stream, epoch)
