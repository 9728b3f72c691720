"""Keys and values of many sequences in blocks of equal size, which sequences share where they begin alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch

from herdsman.model.options import ModelOptions

BLOCK_TOKENS = 16

Key = tuple[int, tuple[int, ...]]
"""The content of a full block: which content stands before it, and its tokens."""


def block_bytes(options: ModelOptions, dtype: torch.dtype) -> int:
    """Memory of one block: keys and values of `BLOCK_TOKENS` tokens in all layers."""
    return 2 * options.layers * options.kv_heads * BLOCK_TOKENS * options.head_width * dtype.itemsize


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)


class PagedCache:
    """Blocks of memory, who holds them, and what the full ones contain.

    A block may be held by several sequences. One that nobody holds keeps its content, and can be found by it, until the
    memory is needed for another; those left longest go first.

    Attributes:
        keys, values: [layers, blocks, kv_heads, BLOCK_TOKENS, head_width].
    """

    def __init__(
        self, options: ModelOptions, blocks: int, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.options, self.blocks, self.dtype, self.device = options, blocks, dtype, torch.device(device)
        shape = (options.layers, blocks, options.kv_heads, BLOCK_TOKENS, options.head_width)
        self.keys, self.values = _zeros(shape, dtype, self.device), _zeros(shape, dtype, self.device)
        self._holders = [0] * blocks
        self._free: OrderedDict[int, None] = OrderedDict.fromkeys(range(blocks))
        self._found: dict[Key, int] = {}
        self._content: dict[int, tuple[Key, int]] = {}
        self._numbers = 0

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def free_among(self, shared: Sequence[int]) -> int:
        """Blocks that nobody holds besides these, which somebody is going to share."""
        return len(self._free) - sum(not self._holders[block] for block in shared)

    @property
    def bytes(self) -> int:
        """Memory of all blocks."""
        return self.blocks * block_bytes(self.options, self.dtype)

    @property
    def bytes_used(self) -> int:
        """Memory of the blocks that somebody holds."""
        return (self.blocks - self.free_blocks) * block_bytes(self.options, self.dtype)

    def allocate(self, count: int) -> list[int]:
        """Takes `count` free blocks, which forget what they held. There must be as many."""
        if count > len(self._free):
            raise ValueError(f"{count} blocks are asked for and {len(self._free)} are free")
        blocks = [self._free.popitem(last=False)[0] for _ in range(count)]
        for block in blocks:
            self._holders[block] = 1
            if block in self._content:
                del self._found[self._content.pop(block)[0]]
        return blocks

    def share(self, blocks: Sequence[int]) -> None:
        """Holds blocks once more, whether somebody holds them now or not."""
        for block in blocks:
            if not self._holders[block]:
                del self._free[block]
            self._holders[block] += 1

    def free(self, blocks: Sequence[int]) -> None:
        """Lets go of the blocks of a sequence, in its order: its end is forgotten before its beginning."""
        for block in reversed(blocks):
            self._holders[block] -= 1
            if self._holders[block] < 0:
                raise ValueError(f"block {block} is freed by one that does not hold it")
            if not self._holders[block]:
                self._free[block] = None
                if block not in self._content:
                    self._free.move_to_end(block, last=False)

    def find(self, tokens: Sequence[int], most: int) -> tuple[list[int], int]:
        """Blocks with the longest known beginning of the tokens, `most` at most, and the number of their content."""
        blocks, content = [], 0
        for start in range(0, most * BLOCK_TOKENS, BLOCK_TOKENS):
            block = self._found.get((content, tuple(tokens[start : start + BLOCK_TOKENS])))
            if block is None:
                break
            blocks.append(block)
            content = self._content[block][1]
        return blocks, content

    def remember(self, key: Key, block: int) -> int:
        """Makes a block that has been filled findable, unless another with this content is; the content's number.

        Numbers are given once: the content before a block is told by its number and not by its place in memory, which
        may hold something else by then, so no sequence can ever be given another's block.
        """
        known = self._found.get(key)
        if known is not None:
            return self._content[known][1]
        self._numbers += 1
        self._found[key], self._content[block] = block, (key, self._numbers)
        return self._numbers


def _zeros(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Zeros; on a CPU they take no memory before they are written to. What is not written yet must not be NaN."""
    if device.type != "cpu":
        return torch.zeros(shape, dtype=dtype, device=device)
    size = int(np.prod(shape)) * dtype.itemsize
    return torch.from_numpy(np.zeros(size, np.uint8)).view(dtype).view(shape)
