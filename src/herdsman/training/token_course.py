"""The course of pretraining: the schedule's steps over the token streams, with gates and data that is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from herdsman.progress import Progress
from herdsman.tokens.loader import TokenOrder
from herdsman.tokens.streams import TokenStreams
from herdsman.training.course import Step
from herdsman.training.gates import Gates
from herdsman.training.health.options import SpikeOptions
from herdsman.training.health.rollback import LeftOut
from herdsman.training.objective import Batch
from herdsman.training.options import PretrainOptions
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.schedule import Schedule


class TokenCourse:
    """See `course.Course`.

    Args:
        mixes: shares of the streams by the mixes' names.
        index_folder: for the index of best-fit packing.
        short_context_loss, needle: what gates measure, see `gates.Gates.check`; collective.

    Attributes:
        model: the model in training, whose data ranks share the rows.
        until: number of the phase that the course, as long as this model is in training, does not go into.
    """

    def __init__(
        self,
        options: PretrainOptions,
        spikes: SpikeOptions,
        model: ParallelModel,
        parameters: int,
        streams: TokenStreams,
        mixes: Mapping[str, Mapping[str, float]],
        seed: int,
        index_folder: Path,
        progress: Progress,
        workers: int,
        short_context_loss: Callable[[ParallelModel], float],
        needle: Callable[[ParallelModel, int], float],
    ):
        self.options, self.model, self.parameters, self.progress = options, model, parameters, progress
        self.streams, self.mixes, self.seed = streams, mixes, seed
        self.index_folder, self.workers = index_folder, workers
        self.short_context_loss, self.needle = short_context_loss, needle
        self.until = len(options.phases)
        self.gates = Gates(options, parameters, warn=progress.line)
        self.left_out = LeftOut(spikes)
        self.order = self._order()

    @property
    def schedule(self) -> Schedule:
        return self.gates.schedule

    @property
    def steps(self) -> int:
        return self.schedule.steps

    def before(self, step: int, tokens: int) -> bool:
        before = self.schedule
        measured = self.gates.check(step, tokens, self.model, self.short_context_loss, self.needle)
        if self.schedule is not before:
            self.order = self._order()
        return measured

    def at(self, step: int, tokens: int) -> Step | None:
        if tokens >= self.schedule.token_starts[self.until]:
            return None
        phase = self.schedule.place(step, tokens).phase
        rate = self.schedule.learning_rate(step, tokens)
        return Step(rate, phase.batch_tokens, self.left_out.position(tokens), phase.sequence_length, phase.name)

    def read(self, step: Step) -> Sequence[Batch]:
        count, ranks = step.tokens // step.sequence_length, self.model.data_ranks
        share = -(-count // ranks)
        first = min(count, self.model.data_rank * share)
        mine = max(0, min(count, first + share) - first)
        # A rank without rows of its own reads one of another's, which then does not count.
        at = step.position + min(first, count - 1) * step.sequence_length
        rows = self.order.read(at, max(1, mine), step.sequence_length)
        uniform = share if self.model.mesh else None
        batches = micro_batches(rows.tokens, rows.documents, rows.streams, self.options.micro_batch_tokens, uniform)
        return batches if mine else [without_weight(batch) for batch in batches]

    def state(self) -> dict[str, Any]:
        return {"gates": self.gates.state(), "left_out": self.left_out.state()}

    def load(self, state: dict[str, Any]) -> None:
        self.gates = Gates(self.options, self.parameters, state["gates"], self.progress.line)
        self.left_out.load(state["left_out"])
        self.order = self._order()

    def leave_out(self, step: int, begin: int, end: int, reason: str) -> None:
        self.left_out.add(step, self.left_out.position(begin), self.left_out.position(end), reason)
        self.order = self._order()

    def _order(self) -> TokenOrder:
        """Each phase's segment is longer by the windows in it that are left out."""
        segments, first = [], 0
        for segment in self.schedule.segments(self.mixes):
            inside = [end - begin for begin, end in self.left_out.windows if first <= begin < first + segment.tokens]
            segments.append(replace(segment, tokens=segment.tokens + sum(inside)))
            first += segments[-1].tokens
        return TokenOrder(self.streams, self.seed, segments, self.index_folder, self.progress, self.workers)


def micro_batches(
    tokens: NDArray[np.int64],
    documents: NDArray[np.int32],
    streams: NDArray[np.int16] | None,
    micro_batch_tokens: int,
    uniform: int | None,
) -> list[Batch]:
    """Rows as micro-batches for `NextToken`. The border from one document's end to the next one's first token is not
    trained: nothing in sight could tell what comes.

    Args:
        tokens, documents: [rows, length + 1].
        streams: [rows, length]; None where nobody asks.
        uniform: makes as many micro-batches, of one shape, as so many rows would; rows that are missing have no weight.
    """
    length = tokens.shape[1] - 1
    size = max(1, micro_batch_tokens // length)
    numbers = torch.as_tensor(documents)
    fields = {
        "tokens": torch.as_tensor(tokens[:, :-1]),
        "documents": numbers[:, :-1],
        "targets": torch.as_tensor(tokens[:, 1:]),
        "weights": (numbers[:, 1:] == numbers[:, :-1]).float(),
    }
    if streams is not None:
        fields["streams"] = torch.as_tensor(streams)
    if uniform is not None:
        size = min(size, uniform)
        missing = -(-uniform // size) * size - len(tokens)
        if missing > 0:
            fields = {name: torch.cat([field, field[-1:].repeat(missing, 1)]) for name, field in fields.items()}
            fields["weights"][len(tokens) :] = 0
    parts = zip(*(field.split(size) for field in fields.values()), strict=True)
    batches = []
    for part in parts:
        by_token = dict(zip(fields, part, strict=True))
        batches.append(Batch(by_token.pop("tokens"), by_token.pop("documents"), by_token))
    return batches


def without_weight(batch: Batch) -> Batch:
    weights = torch.zeros_like(batch.by_token["weights"])
    return Batch(batch.tokens, batch.documents, {**batch.by_token, "weights": weights}, batch.by_row)
