"""A random permutation of any size that is never written down: the place of one item is computed on its own."""

from __future__ import annotations

from hashlib import blake2b

ROUNDS = 10  # as in NIST's FF1; with 4, permutations of few items are visibly not uniform


class Permutation:
    """A keyed permutation of the numbers below `size`.

    A Feistel network over the next power of four, walked until it lands below `size` (Black and Rogaway, 2002): three
    more steps at worst on average, no memory, and the same on every machine.

    Args:
        key: anything that tells this permutation from others, such as (seed, stream, epoch).
    """

    def __init__(self, size: int, *key: int | str):
        self.size = size
        self.half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
        self.mask = (1 << self.half_bits) - 1
        self.key = blake2b(repr(key).encode(), digest_size=32).digest()

    def __getitem__(self, item: int) -> int:
        """Where an item goes.

        Raises:
            IndexError: there is no such item.
        """
        if not 0 <= item < self.size:
            raise IndexError(f"{item} is not below {self.size}")
        place = self._network(item)
        while place >= self.size:
            place = self._network(place)
        return place

    def _network(self, value: int) -> int:
        left, right = value >> self.half_bits, value & self.mask
        for number in range(ROUNDS):
            message = number.to_bytes(1, "little") + right.to_bytes(8, "little")
            digest = blake2b(message, digest_size=8, key=self.key).digest()
            left, right = right, left ^ (int.from_bytes(digest, "little") & self.mask)
        return left << self.half_bits | right
