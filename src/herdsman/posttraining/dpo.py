"""Direct preference optimisation with the paper's two changes: masked format tokens and a likelihood term (4.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from herdsman.files import read_json, write_json
from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_model
from herdsman.posttraining.finetune import MODEL, Setting, fine_tune
from herdsman.posttraining.options import DpoOptions
from herdsman.posttraining.preferences import Preference
from herdsman.posttraining.rows import DPO_KINDS, SFT_KINDS, Batch, Row, length_batches, pad, response_row
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models
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

    @property
    def likelihood_tokens(self) -> int:
        """Tokens of the chosen response that the likelihood term trains."""
        return sum(kind in SFT_KINDS for kind in self.chosen.kinds)


@dataclass(frozen=True)
class PairBatch:
    """Chosen rows, then rejected rows, and what does not depend on the policy.

    Attributes:
        reference_chosen, reference_rejected: the reference's log-probabilities of the responses, [pairs].
        pairs_per_token: pairs over trained chosen tokens, of the whole step that this batch may be a part of.
    """

    rows: Batch
    reference_chosen: Tensor
    reference_rejected: Tensor
    pairs_per_token: float


def pair_batch(
    pairs: Sequence[Pair], filler: int, device: torch.device, step: Sequence[Pair] | None = None
) -> PairBatch:
    """A batch of pairs; `step` is all pairs of its step if they are more than these."""
    rows = pad([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], filler, device)
    reference = torch.tensor([pair.reference for pair in pairs], device=device)
    step = pairs if step is None else step
    scale = len(step) / max(1, sum(pair.likelihood_tokens for pair in step))
    return PairBatch(rows, reference[:, 0], reference[:, 1], scale)


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
    likelihood = -logprobs[row_of < pairs].sum() * batch.pairs_per_token
    margins = beta * ((chosen - batch.reference_chosen) - (rejected - batch.reference_rejected)).detach()
    shown = {"margin": margins.sum(), "accuracy": (margins > 0).sum(), "nll": likelihood.detach()}
    return Loss(losses.sum() + nll * likelihood, float(pairs), {name: float(value) for name, value in shown.items()})


@torch.inference_mode()
def with_reference(model: Llama, pairs: Sequence[Pair], filler: int, device: torch.device) -> list[Pair]:
    """The pairs with the log-probabilities that the reference model gives them, computed once before training."""
    done: dict[int, Pair] = {}
    for batch in length_batches([pair.tokens for pair in pairs], REFERENCE_TOKENS):
        members = [pairs[index] for index in batch]
        sums, _, _ = response_logprobs(model, pair_batch(members, filler, device).rows)
        for index, chosen, rejected in zip(
            batch, sums[: len(batch)].tolist(), sums[len(batch) :].tolist(), strict=True
        ):
            done[index] = Pair(pairs[index].chosen, pairs[index].rejected, (chosen, rejected))
    return [done[index] for index in range(len(pairs))]


def preference_pair(tokenizer: Tokenizer, preference: Preference) -> Pair:
    """The best of the ranked responses against the worst."""
    best, worst = preference.responses[0], preference.responses[-1]
    return Pair(response_row(tokenizer, preference.messages, best), response_row(tokenizer, preference.messages, worst))


def train_dpo(
    base: Path,
    preferences: Sequence[Preference],
    tokenizer: Tokenizer,
    options: DpoOptions,
    setting: Setting,
    out: Path,
) -> None:
    """Trains the model in `base` on preferences, itself the reference, and saves the average of the models in `out`.

    Nothing is done if `out` is there.
    """
    if out.exists():
        return
    pairs = [preference_pair(tokenizer, preference) for preference in preferences]
    known = setting.scratch / "dpo" / "reference.json"
    if not known.exists():
        measured = with_reference(load_model(base, setting.device), pairs, setting.filler, setting.device)
        write_json(known, [pair.reference for pair in measured])
    pairs = [Pair(p.chosen, p.rejected, (c, r)) for p, (c, r) in zip(pairs, read_json(known), strict=True)]

    def batch_of(items: Sequence[int], step: Sequence[int]) -> PairBatch:
        members, all_members = [pairs[item] for item in items], [pairs[item] for item in step]
        return pair_batch(members, setting.filler, setting.device, all_members)

    folders = fine_tune(
        "dpo",
        start=lambda: load_model(base, setting.device),
        save=lambda model, folder: save_model(model, folder / MODEL),
        lengths=[pair.tokens for pair in pairs],
        batch_of=batch_of,
        loss_of=lambda model, batch: dpo_objective(model, batch, options.beta, options.nll),
        options=options,
        setting=setting,
    )
    average_models([folder / MODEL for folder in folders], out)
