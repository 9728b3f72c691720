"""Muon: momentum of matrices, made orthogonal before it is applied (Jordan 2024, kellerjordan.github.io/posts/muon).

torch.optim.Muon takes only whole matrices, in bfloat16, one after the other, and leaves AdamW to a second optimizer.
This one holds both, works on sharded parameters and shares the work among ranks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard
from torch.optim import AdamW

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # Jordan's quintic; drives singular values into about 0.7 to 1.2
ITERATIONS = 5
EPSILON = 1e-7
ADAM_RMS = 0.2  # root mean square of AdamW's updates in practice (Liu et al. 2025, "Muon is scalable", section 2.2)
ELEMENTS_AT_ONCE = 2**27  # of one rank's share; bounds the memory of the work to some times this many numbers


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """Nearest semi-orthogonal matrices, nearly: five Newton-Schulz iterations in `dtype`.

    matrices: [count, rows, columns]; the result has the same shape, in `dtype`.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    # The Frobenius norm bounds the largest singular value, which must not be above 1.
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + EPSILON)).to(dtype)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(AdamW):
    """Muon for the groups that have a `momentum`, AdamW for the others; one learning rate serves both.

    An orthogonal update has a root mean square of 1 / sqrt(longer side); it is scaled by 0.2 * sqrt(longer side), so
    that it is as large as AdamW's and keeps its learning rate and decay (Liu et al. 2025, equation 4). State of a
    matrix: `momentum`, sharded as the matrix is, and `step`.

    Args:
        groups: parameter groups; those for Muon hold `momentum`, `momentum_start` and `momentum_warmup_steps`, and none
            but matrices.
        dtype: of the Newton-Schulz iterations.
        adam: arguments of AdamW.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], dtype: torch.dtype, **adam: Any):
        super().__init__(groups, **adam)
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        groups = self.param_groups
        for group in groups:
            if "momentum" in group:
                self._step_matrices(group)
        self.param_groups = [group for group in groups if "momentum" not in group]
        try:
            return super().step(closure)
        finally:
            self.param_groups = groups

    def _step_matrices(self, group: dict[str, Any]) -> None:
        for matrices in _alike(parameter for parameter in group["params"] if parameter.grad is not None):
            updates = [self._momentum(matrix, group) for matrix in matrices]
            scale = ADAM_RMS * max(matrices[0].shape) ** 0.5
            rate = group["lr"]
            for matrix, update in zip(matrices, _orthogonalised(updates, self.dtype), strict=True):
                matrix.mul_(1 - rate * group["weight_decay"])
                matrix.add_(update.to(matrix.dtype), alpha=-rate * scale)

    def _momentum(self, matrix: Tensor, group: dict[str, Any]) -> Tensor:
        """The running mean of gradients after this step's, with Nesterov's look ahead."""
        state, gradient = self.state[matrix], matrix.grad
        assert gradient is not None
        if not state:
            state["step"] = torch.zeros(())
            state["momentum"] = torch.zeros_like(matrix)
        share = min(1.0, float(state["step"]) / max(1, group["momentum_warmup_steps"]))
        momentum = group["momentum_start"] + share * (group["momentum"] - group["momentum_start"])
        state["step"] += 1
        state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.lerp(state["momentum"], momentum)


def _alike(matrices: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    """Matrices of one shape and one sharding, as many together as memory is meant for: a pure function of the order."""
    kinds: dict[Any, list[Tensor]] = defaultdict(list)
    for matrix in matrices:
        sharding = (matrix.device_mesh, matrix.placements) if isinstance(matrix, DTensor) else None
        kinds[matrix.shape, sharding].append(matrix)
    for (shape, sharding), members in kinds.items():
        ranks = sharding[0].size() if sharding else 1
        count = ranks * max(1, ELEMENTS_AT_ONCE // shape.numel())
        for start in range(0, len(members), count):
            yield members[start : start + count]


def _orthogonalised(updates: Sequence[Tensor], dtype: torch.dtype) -> Sequence[Tensor]:
    """Each update made orthogonal, sharded as it was. Of sharded ones each rank computes some, whole."""
    stacked = torch.stack(tuple(updates))
    if not isinstance(stacked, DTensor):
        return orthogonalise(stacked, dtype).unbind()
    mesh, shards = stacked.device_mesh, stacked.placements
    whole = [Shard(0)] * mesh.ndim
    mine = orthogonalise(stacked.redistribute(placements=whole).to_local(), dtype)
    done = DTensor.from_local(
        mine, mesh, whole, run_check=False, shape=stacked.shape, stride=stacked.stride()
    ).redistribute(placements=shards)
    return done.unbind()
