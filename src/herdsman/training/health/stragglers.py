"""Slow ranks, found while they still work: one slow GPU holds up all others at the next collective (paper, 3.3.4).

What a rank computes before it waits for the others tells: in the collective itself the slow rank waits least. Each
step's time is compared with the median of the rank's peers in the same step, so that what all ranks share (a longer
sequence, a warm afternoon) cancels out. A rank is named if its median over a window of steps is `slower` than its
peers' in so many windows in a row.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import distributed

from herdsman.training.health.options import StragglerOptions


@dataclass(frozen=True)
class Straggler:
    """A rank that holds up the others.

    Attributes:
        cause: compute, or data if it waits for its batches.
        score: its time before the collective as a multiple of its peers' compute.
    """

    rank: int
    host: str
    cause: str
    score: float


class SlowRule:
    """The rule alone, without any communication.

    Args:
        peers: for each rank, the number of the group it is compared within: a pipeline's stages compute different
            things, so a rank's peers are those of its stage. Left out: all are peers.
    """

    def __init__(self, options: StragglerOptions, ranks: int, peers: list[int] | None = None):
        self.options = options
        self.peers = np.asarray(peers or [0] * ranks)
        self.in_a_row = np.zeros((2, ranks), dtype=int)

    def judge(self, seconds: NDArray[Any]) -> list[tuple[int, int, float]]:
        """Findings of one window.

        Args:
            seconds: [kind, rank, step], kind 0 being compute and kind 1 the wait for data.

        Returns:
            (rank, kind, score), the slowest first.
        """
        # A rank's own excess over its peers, as a share of what a step of theirs computes: [kind, rank].
        excess = np.zeros(seconds.shape[:2])
        for group in np.unique(self.peers):
            mine = self.peers == group
            typical = _lower_median(seconds[:, mine])  # [kind, step]
            share = (seconds[:, mine] - typical[:, None]) / np.maximum(typical[0], 1e-9)
            excess[:, mine] = np.median(share, axis=2)
        slow = excess > self.options.slower
        self.in_a_row = np.where(slow, self.in_a_row + 1, 0)
        found = np.argwhere(self.in_a_row >= self.options.windows)
        return sorted(((int(r), int(k), float(1 + excess[k, r])) for k, r in found), key=lambda item: -item[2])


class Stragglers:
    """Collects step times on every rank and names the slow ones, alike on all.

    Args:
        group: a group of all ranks with a CPU backend; None in a single process, where nobody is slower.
        peers: this rank's pipeline stage.
    """

    def __init__(self, options: StragglerOptions, group: distributed.ProcessGroup | None = None, peers: int = 0):
        self.options, self.group = options, group
        self.times: list[tuple[float, float]] = []
        if group is not None:
            everyone: list[Any] = [None] * distributed.get_world_size(group)
            distributed.all_gather_object(everyone, (peers, socket.gethostname()), group=group)
            self.hosts = [host for _, host in everyone]
            self.rule = SlowRule(options, len(everyone), [stage for stage, _ in everyone])

    def add(self, compute_seconds: float, data_seconds: float) -> list[Straggler]:
        """Notes a step; a collective every `window_steps` of them, with findings then.

        Args:
            compute_seconds: of this rank, up to the step's first wait for another one.
            data_seconds: this rank waited for its batch.
        """
        if self.group is None:
            return []
        self.times.append((compute_seconds, data_seconds))
        if len(self.times) < self.options.window_steps:
            return []
        mine = torch.tensor(self.times).T.contiguous()  # [kind, step]
        self.times = []
        table = [torch.empty_like(mine) for _ in self.hosts]
        distributed.all_gather(table, mine, group=self.group)
        found = self.rule.judge(torch.stack(table, dim=1).double().numpy())
        return [
            Straggler(rank, self.hosts[rank], ("compute", "data")[kind], round(score, 3)) for rank, kind, score in found
        ]


def _lower_median(seconds: NDArray[Any]) -> NDArray[Any]:
    """Median over ranks, [kind, rank, step] to [kind, step]; of two ranks the faster, which a mean would hide."""
    middle = (seconds.shape[1] - 1) // 2
    return np.partition(seconds, middle, axis=1)[:, middle]
