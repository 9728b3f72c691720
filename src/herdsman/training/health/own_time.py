"""What a rank's own computing took, without its waiting for other ranks: what stragglers are told by.

Ranks wait for each other all through a step, so a step's wall time is the same on all of them. On a CPU it is the time
the process was on it that tells; a GPU is asked to do a small piece of work, always the same, between steps.
"""

from __future__ import annotations

import time

import torch

PROBE_SIZE, PROBE_TIMES = 4096, 4


class OwnTime:
    """Measures a step of this rank; `start` before it, `seconds` after."""

    def __init__(self, device: torch.device):
        self.device = device
        self.started = 0.0
        if device.type == "cuda":
            self.probe = torch.ones(PROBE_SIZE, PROBE_SIZE, dtype=torch.bfloat16, device=device)

    def start(self) -> None:
        self.started = time.process_time()

    def seconds(self) -> float:
        if self.device.type != "cuda":
            return time.process_time() - self.started
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(PROBE_TIMES):
            torch.mm(self.probe, self.probe)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / 1000
