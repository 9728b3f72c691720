"""What a model is trained for: batches of rows, and a loss on the hidden states of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from herdsman.training.losses import Loss


@dataclass(frozen=True)
class Batch:
    """Rows that go through the model together.

    Attributes:
        tokens: [rows, seq].
        documents: [rows, seq], document numbers that attention does not cross; None where each row is one.
        by_token: what the loss knows of each token, by name, [rows, seq] each.
        by_row: what it knows of each row or of groups of rows, the first dimension counting them.

    Objectives must not count tokens of which everything in `by_token` is 0: rows are filled up with them where a layout
    needs other lengths.
    """

    tokens: Tensor
    documents: Tensor | None
    by_token: Mapping[str, Tensor]
    by_row: Mapping[str, Tensor] = field(default_factory=dict)

    def to(self, device: torch.device) -> Batch:
        documents = None if self.documents is None else self.documents.to(device, non_blocking=True)
        by_token, by_row = (
            {name: tensor.to(device, non_blocking=True) for name, tensor in fields.items()}
            for fields in (self.by_token, self.by_row)
        )
        return Batch(self.tokens.to(device, non_blocking=True), documents, by_token, by_row)

    def lengthened(self, length: int) -> Batch:
        """Filled up on the right to so many tokens, which no token before them sees; all that is known of these, their
        weight among it, is 0."""
        missing = length - self.tokens.shape[1]
        if not missing:
            return self
        by_token = {name: pad(tensor, (0, missing)) for name, tensor in self.by_token.items()}
        documents = None if self.documents is None else pad(self.documents, (0, missing), value=-1)
        return replace(self, tokens=pad(self.tokens, (0, missing)), documents=documents, by_token=by_token)

    def at(self, places: Tensor) -> Batch:
        """Only these places of each row; documents stay whole, for they say what the places can see."""
        by_token = {name: tensor[:, places] for name, tensor in self.by_token.items()}
        return replace(self, tokens=self.tokens[:, places], by_token=by_token)


class Head(Protocol):
    """What a loss may ask of the model beyond hidden states. Some of the sequence may be on other ranks."""

    def logprobs(self, hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Of hidden states [..., dim]: the targets' log-probabilities and the softmax's log-denominators, [...]."""
        ...

    def scores(self, hidden: Tensor) -> Tensor:
        """A model with a single output, as a reward model: its value of hidden states [..., dim], [...]."""
        ...

    def likeliest(self, hidden: Tensor) -> Tensor:
        """The token with the highest score of each of the hidden states [..., dim], [...]."""
        ...

    def row_sums(self, values: Tensor) -> Tensor:
        """Sums of [rows, seq] over the whole sequence, [rows]."""
        ...


class Objective(Protocol):
    """A loss on hidden states.

    Attributes:
        figures: names of what it adds to `Loss.sums`.
        by_row: whether its sums are over rows (made of `Head.row_sums`, which all ranks of a sequence know) and not
            over tokens.
    """

    @property
    def figures(self) -> tuple[str, ...]: ...

    @property
    def by_row(self) -> bool: ...

    def __call__(self, head: Head, hidden: Tensor, batch: Batch) -> Loss:
        """Sums over the tokens or rows of this batch, from hidden states [rows, seq, dim] after the final norm."""
        ...


@dataclass(frozen=True)
class NextToken:
    """Cross-entropy of each target times its weight: pretraining and supervised fine-tuning.

    Batches carry `targets` and `weights` by token, and may carry `streams`, whose losses are then also told apart.

    Attributes:
        z_loss: factor of the squared log-denominators, which keeps logits from drifting; 0 for none.
        few: whether few tokens are trained, so that it pays to pick them out first.
        streams: names of the streams, by their numbers.
    """

    z_loss: float = 0.0
    few: bool = False
    streams: tuple[str, ...] = ()
    by_row: bool = False

    @property
    def figures(self) -> tuple[str, ...]:
        by_stream = [f"{name}.{stream}" for name in ("loss", "weight") for stream in self.streams]
        return ("z_loss", *by_stream) if self.z_loss else tuple(by_stream)

    def __call__(self, head: Head, hidden: Tensor, batch: Batch) -> Loss:
        targets, weights = batch.by_token["targets"], batch.by_token["weights"]
        numbers = batch.by_token.get("streams")
        if self.few:
            trained = weights > 0
            hidden, targets, weights = hidden[trained], targets[trained], weights[trained]
            numbers = None if numbers is None else numbers[trained]
        logprobs, normaliser = head.logprobs(hidden, targets)
        losses = -logprobs * weights
        total = losses.sum()
        sums: dict[str, Tensor] = {}
        if self.z_loss:
            z = self.z_loss * (normaliser.square() * weights).sum()
            sums["z_loss"] = z.detach()
            total = total + z
        if numbers is not None and self.streams:
            flat = numbers.flatten().long()
            for name, values in (("loss", losses.detach()), ("weight", weights)):
                each = torch.zeros(len(self.streams), device=values.device).index_add_(
                    0, flat, values.flatten().float()
                )
                sums |= {f"{name}.{stream}": each[number] for number, stream in enumerate(self.streams)}
        return Loss(total, weights.sum(), sums)


@dataclass(frozen=True)
class Greedy:
    """The share of rows whose trained targets are all the likeliest tokens; measured, not to be trained on."""

    figures: tuple[str, ...] = ()
    by_row: bool = True

    def __call__(self, head: Head, hidden: Tensor, batch: Batch) -> Loss:
        asked = batch.by_token["weights"] > 0
        missed = head.row_sums((asked & (head.likeliest(hidden) != batch.by_token["targets"])).float())
        wanted = head.row_sums(asked.float()) > 0
        return Loss((wanted & (missed == 0)).float().sum(), wanted.float().sum())
