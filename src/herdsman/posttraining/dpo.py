"""Direct preference optimisation with the paper's two changes: masked format tokens and a likelihood term (4.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from herdsman.model.llama import Llama
from herdsman.posttraining.rows import DPO_KINDS, SFT_KINDS, Batch, Row, pad
from herdsman.training.losses import Loss, dpo_loss, token_logprobs

REFERENCE_TOKENS = 8192


@dataclass(frozen=True)
class Pair:
    """A chosen and a rejected response as rows, and what the reference model gives them (log-probabilities, summed)."""

    chosen: Row
    rejected: Row
    reference: tuple[float, float] = (0.0, 0.0)

    @property
    def tokens(self) -> int:
        """Tokens of both rows when they are padded to one length."""
        return 2 * max(len(self.chosen.ids), len(self.rejected.ids))


@dataclass(frozen=True)
class PairBatch:
    """Chosen rows, then rejected rows, and the reference's log-probabilities of each, [pairs]."""

    rows: Batch
    reference_chosen: Tensor
    reference_rejected: Tensor


def pair_batch(pairs: Sequence[Pair], filler: int, device: torch.device) -> PairBatch:
    rows = pad([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], filler, device)
    reference = torch.tensor([pair.reference for pair in pairs], device=device)
    return PairBatch(rows, reference[:, 0], reference[:, 1])


def response_logprobs(model: Llama, rows: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """What a model gives the responses of a batch.

    Returns:
        Log-probability of each row's body [rows]; that of each trained token [trained]; the row of each [trained].
        The vocabulary is only computed where a token is trained.
    """
    trained = rows.trained(SFT_KINDS)
    logprobs = token_logprobs(model.logits(model(rows.tokens)[trained]), rows.targets[trained])
    row_of = trained.nonzero()[:, 0]
    body = rows.trained(DPO_KINDS)[trained]
    sums = torch.zeros(len(rows.tokens), device=logprobs.device).index_add(0, row_of[body], logprobs[body])
    return sums, logprobs, row_of


def dpo_objective(model: Llama, batch: PairBatch, beta: float, nll: float) -> Loss:
    """DPO's loss a pair plus `nll` times the chosen responses' mean negative log-likelihood a token.

    The mean is over all chosen tokens of the step. Header and terminator count in neither response's log-ratio; the
    terminator does count in the likelihood term, or nothing would train it.
    """
    pairs = len(batch.reference_chosen)
    sums, logprobs, row_of = response_logprobs(model, batch.rows)
    chosen, rejected = sums[:pairs], sums[pairs:]
    losses = dpo_loss(chosen, rejected, batch.reference_chosen, batch.reference_rejected, beta)
    likelihood = -logprobs[row_of < pairs].mean()
    margins = beta * ((chosen - batch.reference_chosen) - (rejected - batch.reference_rejected)).detach()
    shown = {"margin": margins.sum(), "accuracy": (margins > 0).sum(), "nll": likelihood.detach() * pairs}
    return Loss(losses.sum() + nll * likelihood * pairs, float(pairs), {name: float(value) for name, value in shown.items()})


@torch.inference_mode()
def with_reference(model: Llama, pairs: Sequence[Pair], filler: int, device: torch.device) -> list[Pair]:
    """The pairs with the log-probabilities that the reference model gives them, computed once before training."""
    order = sorted(range(len(pairs)), key=lambda index: (pairs[index].tokens, index))
    done: dict[int, Pair] = {}
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and (end + 1 - start) * pairs[order[end]].tokens <= REFERENCE_TOKENS:
            end += 1
        members = [pairs[index] for index in order[start:end]]
        sums, _, _ = response_logprobs(model, pair_batch(members, filler, device).rows)
        values = sums.tolist()
        for place, index in enumerate(order[start:end]):
            reference = (values[place], values[len(members) + place])
            done[index] = Pair(pairs[index].chosen, pairs[index].rejected, reference)
        start = end
    return [done[index] for index in range(len(pairs))]
