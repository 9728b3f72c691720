"""The mesh of processes in the paper's order: [TP, CP, PP, DP] from the innermost (section 3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from herdsman.training.parallel.layout import Layout


@dataclass(frozen=True)
class Mesh:
    """The axes of a layout, as this process sees them.

    Attributes:
        tensor, context, pipeline: one axis each.
        weights: the axes that weights are sharded over, data and context in one; with an axis of replicas before it
            where there are several groups of shards.
        data_rank: place of this process along the data axis.
    """

    layout: Layout
    tensor: DeviceMesh
    context: DeviceMesh
    pipeline: DeviceMesh
    weights: DeviceMesh
    data_rank: int

    @staticmethod
    def over(layout: Layout, device: str) -> Mesh:
        """Arranges the processes of the default group. GPUs 0 and 1 of the paper's figure 5 share TP, 0 and 2 CP, 0 and
        4 PP, 0 and 8 DP."""
        replicas = layout.data // layout.shards
        shape = (replicas, layout.shards, layout.pipeline, layout.context, layout.tensor)
        mesh = init_device_mesh(device, shape, mesh_dim_names=("replicas", "shards", "pipeline", "context", "tensor"))
        weights = mesh["shards", "context"]._flatten("weights")
        if replicas > 1:
            weights = DeviceMesh._concatenate([mesh["replicas"], weights])
        data_rank = mesh["replicas"].get_local_rank() * layout.shards + mesh["shards"].get_local_rank()
        return Mesh(layout, mesh["tensor"], mesh["context"], mesh["pipeline"], weights, data_rank)

    @property
    def is_first_of_tensor(self) -> bool:
        return self.tensor.get_local_rank() == 0

    @staticmethod
    def needed() -> bool:
        """Whether there are processes to arrange."""
        return dist.is_available() and dist.is_initialized()
