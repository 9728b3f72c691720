"""The processes that save and load together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import distributed


class Ranks:
    """Talks to the other processes of the default group, over a gloo group of its own.

    Its own, because a background thread that shared a group with training would mix up their messages. Without a
    default group, or `alone`, this process is all there is.
    """

    def __init__(self, *, alone: bool = False):
        together = distributed.is_initialized() and not alone
        self.group = distributed.new_group(backend="gloo") if together else None
        self.rank = distributed.get_rank(self.group) if self.group else 0
        self.world = distributed.get_world_size(self.group) if self.group else 1

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value, by rank, on every rank."""
        values = [value] * self.world
        if self.group:
            distributed.all_gather_object(values, value, group=self.group)
        return values

    def share(self, value: Any) -> Any:
        """Rank 0's value, on every rank."""
        values = [value]
        if self.group:
            distributed.broadcast_object_list(values, group_src=0, group=self.group, device=torch.device("cpu"))
        return values[0]

    def union(self, flags: Sequence[bool]) -> list[bool]:
        """For each flag, whether it is set on any rank."""
        if not self.group:
            return list(flags)
        found = torch.tensor(flags, dtype=torch.uint8)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.group)
        return [bool(flag) for flag in found.tolist()]

    def close(self) -> None:
        if self.group and distributed.is_initialized():
            distributed.destroy_process_group(self.group)
        self.group = None
