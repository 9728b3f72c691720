"""A model over processes: it takes micro-batches and an objective, and leaves summed gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Replicate
from torch.nn.functional import linear

from herdsman.model.likelihood import likeliest, token_logprobs
from herdsman.model.llama import Llama
from herdsman.training.objective import Batch, Objective
from herdsman.training.optimizer import matmul_precision
from herdsman.training.parallel.context import places_of
from herdsman.training.parallel.data import reshard, synchronise
from herdsman.training.parallel.layout import Layout
from herdsman.training.parallel.mesh import Mesh
from herdsman.training.parallel.pipeline import Pipeline
from herdsman.training.parallel.running import Running
from herdsman.training.parallel.stages import padded_count, stages_of
from herdsman.training.parallel.tensor import Vocabulary, gather_sequence


@dataclass
class Sums:
    """Sums over all ranks of a step: of the loss, of what it is divided by, of the objective's figures, and of numbers
    that each rank gave along."""

    total: float
    weight: float
    figures: dict[str, float]
    also: tuple[float, ...] = ()


class ParallelModel:
    """A model over all processes of the default group, or on this one alone; `build.lay_out` and `alone` make it.

    Attributes:
        modules: this process's parts of the model, in the order of `stages.stages_of`.
        mesh: the mesh of processes, None for one alone.
    """

    def __init__(
        self, modules: Sequence[Llama], layout: Layout, mesh: Mesh | None, device: torch.device, running: Running
    ):
        self.modules, self.layout, self.mesh, self.device, self.running = modules, layout, mesh, device, running
        self.options, self.vocab_size = modules[0].options, modules[0].vocab_size
        self.is_scoring = modules[0].is_scoring
        self.pipeline = None
        if mesh and layout.pipeline > 1:
            self.pipeline = Pipeline(modules, layout, mesh.pipeline, device)
        self.last = next((module for module in modules if module.part.is_last), None)
        self._tied = self._tied_group()
        self.after_update()

    # What it is made of

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The parameters of this process by their names in the whole model; a tied matrix's second copy is left out."""
        for module in self.modules:
            for name, parameter in module.named_parameters():
                if not (name == "embedding.weight" and not module.part.is_first):
                    yield name, parameter

    @property
    def data_ranks(self) -> int:
        return self.layout.data

    @property
    def data_rank(self) -> int:
        return self.mesh.data_rank if self.mesh else 0

    # Running

    def train_step(self, batches: Sequence[Batch], objective: Objective, also: tuple[float, ...] = ()) -> Sums:
        """Forward and backward over the micro-batches of this data rank; gradients are left summed, not divided.

        All data ranks need as many. Rows may have any lengths, and micro-batches any number of rows.

        Args:
            also: numbers to be summed over all ranks on the way.
        """
        for module in self.modules:
            module.train()
            module.zero_grad()
        sums = self._run(batches, objective, True, also)
        self._sum_tied()
        return sums

    @torch.no_grad()
    def evaluate(self, batches: Sequence[Batch], objective: Objective) -> Sums:
        """The sums of the objective over the micro-batches, without gradients."""
        for module in self.modules:
            module.eval()
        sums = self._run(batches, objective, train=False)
        for module in self.modules:
            reshard(module)
        return sums

    def _run(self, batches: Sequence[Batch], objective: Objective, train: bool, also: tuple[float, ...] = ()) -> Sums:
        names = ("total", "weight", *objective.figures)
        # By micro-batch, for torch's pipelines call the loss once more on nothing, to learn its shape.
        figures = torch.zeros(len(batches), len(names), dtype=torch.float64, device=self.device)
        count = padded_count(len(batches), self.layout)
        batches = self._fitting(batches)
        local = [self._local(batch) for batch in batches]
        counted = self.mesh is None or (
            self.mesh.is_first_of_tensor and not (objective.by_row and self.mesh.context.get_local_rank())
        )

        def loss_of(hidden: Tensor, number: int) -> Tensor:
            batch = local[min(number, len(local) - 1)]
            loss = objective(self, self._whole(hidden)[: len(batch.tokens)], batch)
            if number >= len(local):
                return loss.total * 0.0
            if counted:
                values = [loss.total.detach(), loss.weight, *(loss.sums[name] for name in objective.figures)]
                figures[number] = torch.stack([torch.as_tensor(v, device=self.device).double() for v in values])
            return loss.total

        with self._precision():
            if self.pipeline:
                order = [min(number, len(batches) - 1) for number in range(count)]
                rows = max(len(batch.tokens) for batch in batches)
                tokens = torch.cat([_with_rows(local[number].tokens, rows) for number in order])
                more = {"documents": torch.cat([_with_rows(_documents(batches[number]), rows) for number in order])}
                if (places := self._places(batches[0])) is not None:
                    more["positions"] = places.expand(count, -1)
                self.pipeline.run(tokens, more, loss_of, count, train)
            else:
                self._run_alone(batches, local, loss_of, train)
        sums = torch.cat((figures.sum(0), torch.tensor(also, dtype=torch.float64, device=self.device)))
        if self.mesh:
            dist.all_reduce(sums)
        total, weight, *others = sums.tolist()
        count = len(objective.figures)
        return Sums(total, weight, dict(zip(objective.figures, others, strict=False)), tuple(others[count:]))

    def _run_alone(
        self,
        batches: Sequence[Batch],
        local: Sequence[Batch],
        loss_of: Callable[[Tensor, int], Tensor],
        train: bool,
    ) -> None:
        module = self.modules[0]
        for number, batch in enumerate(batches):
            synchronise(module, last=number == len(batches) - 1)
            documents = _documents(batch) if self.mesh else batch.documents
            places = self._places(batch)
            positions = None if places is None else places[None]
            loss = loss_of(module(local[number].tokens, positions, documents), number)
            if train:
                loss.backward()

    def _fitting(self, batches: Sequence[Batch]) -> list[Batch]:
        """The micro-batches in lengths that the layout can split; in one for all that pass through a pipeline."""
        lengths, unit = [batch.tokens.shape[1] for batch in batches], self.layout.sequence_unit_tokens
        if self.pipeline:
            lengths = [max(lengths)] * len(lengths)
        return [batch.lengthened(-(-length // unit) * unit) for batch, length in zip(batches, lengths, strict=True)]

    def _places(self, batch: Batch) -> Tensor | None:
        """The places of a sequence that this rank has, if not all."""
        if self.mesh is None or self.layout.context == 1:
            return None
        rank, length = self.mesh.context.get_local_rank(), batch.tokens.shape[1]
        return places_of(rank, self.layout.context, length).to(self.device)

    def _local(self, batch: Batch) -> Batch:
        places = self._places(batch)
        return batch if places is None else batch.at(places)

    def _precision(self) -> AbstractContextManager[object]:
        """FSDP casts weights itself; alone, autocast does."""
        return nullcontext() if self.mesh else matmul_precision(self.device, self.running.precision)

    # The head that objectives see

    def _output(self) -> tuple[Tensor, Vocabulary | None]:
        """The output matrix, or this rank's rows of it."""
        assert self.last
        weight = self.last.output_weight
        if self.mesh and isinstance(weight, DTensor):
            return weight.to_local(), Vocabulary(self.vocab_size, self.mesh.tensor)
        return weight, None

    def _whole(self, hidden: Tensor) -> Tensor:
        return gather_sequence(hidden, self.is_scoring) if isinstance(hidden, DTensor) else hidden

    def logprobs(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        weight, shard = self._output()
        values = token_logprobs(hidden.flatten(0, -2), weight, targets.flatten(), shard)
        logprobs, normaliser = (value.view(targets.shape) for value in values)
        return logprobs, normaliser

    def likeliest(self, hidden: Tensor) -> Tensor:
        weight, shard = self._output()
        return likeliest(hidden.flatten(0, -2), weight, shard).view(hidden.shape[:-1])

    def scores(self, hidden: Tensor) -> Tensor:
        assert self.last
        return linear(hidden.float(), self.last.output_weight.float())[..., 0]

    def row_sums(self, values: Tensor) -> Tensor:
        sums = values.sum(-1)
        if self.mesh and self.layout.context > 1:
            # The other ranks' share is a constant here: they differentiate it themselves.
            everyone = sums.detach().clone()
            dist.all_reduce(everyone, group=self.mesh.context.get_group())
            sums = sums + (everyone - sums.detach())
        return sums

    def hidden(self, batch: Batch) -> Tensor:
        """Hidden states of a batch, for a model on one process."""
        with self._precision():
            hidden: Tensor = self.modules[0](batch.tokens, None, batch.documents)
        return hidden

    # Gradients

    def _tied_group(self) -> dist.ProcessGroup | None:
        """The ranks of the pipeline that hold a copy each of a tied embedding."""
        if not (self.pipeline and self.mesh and self.options.tied_embeddings and not self.is_scoring):
            return None
        # Every process must take part in making every group, also those it is not in.
        lines: list[tuple[int, ...]] = [()] * dist.get_world_size()
        dist.all_gather_object(lines, tuple(self.mesh.pipeline.mesh.tolist()))
        last = next(
            rank for rank in range(self.layout.pipeline) if self.layout.stages - 1 in stages_of(rank, self.layout)
        )
        groups = {line: dist.new_group(sorted({line[0], line[last]})) for line in sorted(set(lines))}
        mine = groups[lines[dist.get_rank()]]
        return mine if self._tied_copies() else None

    def _tied_copies(self) -> list[Tensor]:
        return [module.embedding.weight for module in self.modules if module.embedding is not None]

    def _sum_tied(self) -> None:
        """A tied matrix has a copy on the first and on the last stage: both get the gradient of both."""
        if self._tied is None:
            return
        gradients = [_local_tensor(copy.grad) for copy in self._tied_copies()]
        total = gradients[0] if len(gradients) == 1 else gradients[0] + gradients[1]
        if dist.get_world_size(self._tied) > 1:
            dist.all_reduce(total, group=self._tied)
        for gradient in gradients:
            gradient.copy_(total)

    @torch.no_grad()
    def after_update(self) -> None:
        """Brings the second copy of a tied matrix up to date; to be called whenever weights were changed."""
        if self._tied is None:
            return
        copies = [_local_tensor(copy) for copy in self._tied_copies()]
        if len(copies) == 2:
            copies[1].copy_(copies[0])
        else:
            dist.broadcast(copies[0], group=self._tied, group_src=0)

    @torch.no_grad()
    def scale_gradients(self, factor: float) -> None:
        gradients = [
            _local_tensor(p.grad) for module in self.modules for p in module.parameters() if p.grad is not None
        ]
        torch._foreach_mul_(gradients, factor)

    @torch.no_grad()
    def gradient_norm(self) -> float:
        """Norm of all gradients of the whole model."""
        squares = torch.zeros((), dtype=torch.float64, device=self.device)
        for _, parameter in self.named_parameters():
            gradient = parameter.grad
            if gradient is not None:
                squares += _local_tensor(gradient).float().square().sum().double() / self._copies(gradient)
        if self.mesh:
            dist.all_reduce(squares)
        return float(squares.sqrt())

    def _copies(self, tensor: Tensor) -> int:
        """On how many ranks the same part of a tensor lies. One whose mesh has no tensor axis, as the output that
        scores, lies on all ranks of that axis."""
        if not isinstance(tensor, DTensor):
            return 1
        copies = self.layout.processes // self.layout.pipeline // tensor.device_mesh.size()
        for size, placement in zip(tensor.device_mesh.shape, tensor.placements, strict=True):
            copies *= size if isinstance(placement, Replicate) else 1
        return copies


def _documents(batch: Batch) -> Tensor:
    """Document numbers [rows, seq]; where none are said each row is one."""
    return torch.zeros_like(batch.tokens) if batch.documents is None else batch.documents


def _with_rows(tensor: Tensor, rows: int) -> Tensor:
    """[at most rows, seq] to [rows, seq], the last row repeated: a pipeline takes one shape."""
    return torch.cat((tensor, tensor[-1:].expand(rows - len(tensor), -1)))


def _local_tensor(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
