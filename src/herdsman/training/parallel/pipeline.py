"""Pipeline parallelism: torch's schedules over micro-batches (paper, section 3.3.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import get_schedule_class

from herdsman.model.llama import Part
from herdsman.training.parallel.layout import ONE_STAGE, Layout
from herdsman.training.parallel.stages import layers_of_stages, stages_of


def parts(layers: int, stages: int) -> list[Part]:
    """The model cut into stages, see `stages.layers_of_stages`."""
    cut = layers_of_stages(layers, stages)
    return [Part(part, i == 0, i == stages - 1) for i, part in enumerate(cut)]


class _Stage(PipelineStage):
    """torch's stage, but one that hands no gradients over in evaluation, where V-shaped schedules ask still."""

    def get_local_bwd_output(self, mb_index: int) -> Any:
        return super().get_local_bwd_output(mb_index) if self.has_backward else ()

    def set_local_bwd_input(self, next_stage_bwd_outputs: Any, mb_index: int) -> None:
        if self.has_backward:
            super().set_local_bwd_input(next_stage_bwd_outputs, mb_index)


class Pipeline:
    """The schedule that drives this rank's stages, made anew when the shape of the micro-batches changes.

    Args:
        modules: this rank's parts of the model, in the order of `stages_of`.
    """

    def __init__(self, modules: Sequence[nn.Module], layout: Layout, mesh: DeviceMesh, device: torch.device):
        self.modules, self.layout, self.device = modules, layout, device
        self.group, self.stages = mesh.get_group(), stages_of(mesh.get_local_rank(), layout)
        self.has_first, self.has_last = 0 in self.stages, layout.stages - 1 in self.stages
        self._made: tuple[Any, Any] | None = None
        self._loss_of: Callable[[Tensor, int], Tensor] | None = None

    def run(
        self,
        tokens: Tensor,
        more: dict[str, Tensor],
        loss_of: Callable[[Tensor, int], Tensor],
        micro_batches: int,
        train: bool,
    ) -> None:
        """Passes micro-batches forward and, when training, backward.

        Args:
            tokens: of all micro-batches, [micro_batches * rows, seq].
            more: further arguments of the model, each cut along its first dimension as the tokens are.
            loss_of: hidden states and the number of their micro-batch to the scalar to differentiate; called on the
                rank of the last stage.
        """
        key = (micro_batches, tokens.shape, torch.is_autocast_enabled(self.device.type))
        if self._made is None or self._made[0] != key:
            self._made = (key, self._make(micro_batches))
        schedule, self._loss_of = self._made[1], loss_of
        inputs = (tokens,) if self.has_first else ()
        ends: dict[str, Any] = {"target": torch.arange(micro_batches), "losses": []} if self.has_last else {}
        if train:
            schedule.step(*inputs, return_outputs=False, **ends, **more)
        else:
            schedule.eval(*inputs, **ends, **more)

    def _make(self, micro_batches: int) -> Any:
        made = [
            _Stage(module, index, self.layout.stages, self.device, group=self.group)
            for module, index in zip(self.modules, self.stages, strict=True)
        ]
        kind = get_schedule_class(self.layout.schedule)
        stages = made[0] if self.layout.schedule in ONE_STAGE else made
        return kind(stages, micro_batches, loss_fn=self._loss, scale_grads=False)

    def _loss(self, hidden: Tensor, number: Tensor) -> Tensor:
        assert self._loss_of
        return self._loss_of(hidden, int(number))
