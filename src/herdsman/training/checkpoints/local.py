"""Checkpoints on the nodes' own disks: each process keeps what it holds, and no process reads another's."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.distributed.tensor import DTensor

from herdsman.files import digest_of
from herdsman.training.checkpoints.integrity import Manifest, Torn, read_manifest
from herdsman.training.checkpoints.ranks import Ranks
from herdsman.training.checkpoints.tier import RANDOM, Tier


class LocalTier(Tier):
    """One process's folder, `<local folder>/<digest of the shared folder's path>/<run>/rank-0`.

    Nothing is left out because another rank holds it too, and nothing is looked for on another node; so a checkpoint
    serves a run only if every rank finds its own part of the same save, and holds the same parts of the same tensors.
    Leftovers of earlier runs in the same shared folder are removed.
    """

    def __init__(self, local_folder: Path, shared_folder: Path, run: str, everyone: Ranks):
        self.run, self.everyone = run, everyone
        home = local_folder / hashlib.sha256(str(shared_folder.resolve()).encode()).hexdigest()[:16]
        for other in home.glob("*"):
            if other.name != run:
                shutil.rmtree(other, ignore_errors=True)
        super().__init__(home / run / f"rank-{everyone.rank}", Ranks(alone=True))

    def write(self, manifest: Manifest, tensors: Mapping[str, Tensor], copies: Mapping[str, Tensor]) -> str | None:
        return super().write(manifest.model_copy(update={"layout": _layout(tensors)}), copies, copies)

    def read(self, step: int, manifest: Manifest, tensors: Mapping[str, Tensor], rank: int, world: int) -> None:
        super().read(step, manifest, {name: part_of(tensor) for name, tensor in tensors.items()}, rank, world)

    def common(self, tensors: Mapping[str, Tensor]) -> tuple[list[int], dict[int, str]]:
        """Steps of which every rank has a part that fits these tensors; why others, here, have no whole manifest."""
        layout, fitting, torn = _layout(tensors), set(), {}
        for step in self.steps():
            try:
                manifest = read_manifest(self.path(step))
            except Torn as error:
                torn[step] = str(error)
                continue
            if (manifest.run, manifest.world, manifest.layout) == (self.run, self.everyone.world, layout):
                fitting.add((step, manifest.save))
        return [step for step, _ in set.intersection(*self.everyone.gather(fitting))], torn


def part_of(tensor: Tensor) -> Tensor:
    """What this rank holds of a tensor."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _layout(tensors: Mapping[str, Tensor]) -> str:
    """Digest of which parts of which tensors this rank holds, the random state left out."""
    parts: dict[str, list[Any]] = {}
    for name, tensor in tensors.items():
        if name.startswith(RANDOM):
            continue
        parts[name] = [list(tensor.shape), str(tensor.dtype), list(part_of(tensor).shape)]
        if isinstance(tensor, DTensor):
            parts[name] += [str(tensor.placements), list(tensor.device_mesh.shape), tensor.device_mesh.get_coordinate()]
    return digest_of(parts)
