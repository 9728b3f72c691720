"""Direct preference optimisation with the paper's two changes: masked format tokens and a likelihood term (4.1.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from herdsman.files import read_json, write_json
from herdsman.model.llama import Llama
from herdsman.model.store import load_model
from herdsman.posttraining.finetune import Setting, fine_tune
from herdsman.posttraining.options import DpoOptions
from herdsman.posttraining.preferences import Preference
from herdsman.posttraining.rows import DPO_KINDS, SFT_KINDS, Row, are, length_batches, pad, response_row
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models
from herdsman.training.losses import Loss, dpo_loss
from herdsman.training.objective import Batch, Head
from herdsman.training.parallel.build import alone

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


def pair_batch(pairs: Sequence[Pair], filler: int, device: torch.device, step: Sequence[Pair] | None = None) -> Batch:
    """Chosen rows, then rejected rows, and what does not depend on the policy: `reference_chosen` and
    `reference_rejected`, the reference's log-probabilities [pairs], and `pairs_per_token`, pairs over trained chosen
    tokens of the whole step.

    Args:
        step: all pairs of the step if they are more than these.
    """
    rows = pad([pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], filler, device)
    chosen, rejected = torch.tensor([pair.reference for pair in pairs], device=device).unbind(1)
    step = pairs if step is None else step
    scale = torch.tensor(len(step) / max(1, sum(pair.likelihood_tokens for pair in step)), device=device)
    by_row = {"reference_chosen": chosen, "reference_rejected": rejected, "pairs_per_token": scale}
    return Batch(rows.tokens, None, rows.by_token, by_row)


def response_logprobs(head: Head, hidden: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """What a model gives the responses of a batch: log-probability of each row's body, and of all its trained tokens,
    [rows] each. The vocabulary is only computed where a token is trained."""
    trained = batch.by_token["weights"] > 0
    found, _ = head.logprobs(hidden[trained], batch.by_token["targets"][trained])
    logprobs = torch.zeros(trained.shape, device=found.device).masked_scatter(trained, found)
    bodies = logprobs * are(batch.by_token["kinds"], DPO_KINDS)
    return head.row_sums(bodies), head.row_sums(logprobs)


@dataclass(frozen=True)
class Preferring:
    """DPO's loss a pair plus `nll` times the chosen responses' mean negative log-likelihood a token.

    The mean is over all chosen tokens of the step. Header and terminator count in neither response's log-ratio; the
    terminator does count in the likelihood term, or nothing would train it.
    """

    beta: float
    nll: float
    figures: tuple[str, ...] = ("margin", "accuracy", "nll")
    by_row: bool = True

    def __call__(self, head: Head, hidden: Tensor, batch: Batch) -> Loss:
        bodies, whole = response_logprobs(head, hidden, batch)
        chosen, rejected = bodies.chunk(2)
        references = batch.by_row["reference_chosen"], batch.by_row["reference_rejected"]
        losses = dpo_loss(chosen, rejected, *references, self.beta)
        likelihood = -whole[: len(chosen)].sum() * batch.by_row["pairs_per_token"]
        margins = self.beta * ((chosen - references[0]) - (rejected - references[1])).detach()
        sums = {"margin": margins.sum(), "accuracy": (margins > 0).sum(), "nll": likelihood.detach()}
        return Loss(losses.sum() + self.nll * likelihood, float(len(chosen)), sums)


@torch.inference_mode()
def with_reference(model: Llama, pairs: Sequence[Pair], filler: int, device: torch.device) -> list[Pair]:
    """The pairs with the log-probabilities that the reference model gives them, computed once before training."""
    head, done = alone(model), dict[int, Pair]()
    for members in length_batches([pair.tokens for pair in pairs], REFERENCE_TOKENS):
        batch = pair_batch([pairs[index] for index in members], filler, device)
        bodies, _ = response_logprobs(head, head.hidden(batch), batch)
        for index, chosen, rejected in zip(members, *(part.tolist() for part in bodies.chunk(2)), strict=True):
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

    def batch_of(items: Sequence[int], step: Sequence[int]) -> Batch:
        members, all_members = [pairs[item] for item in items], [pairs[item] for item in step]
        return pair_batch(members, setting.filler, setting.device, all_members)

    folders = fine_tune(
        "dpo",
        start=lambda: load_model(base, setting.device),
        lengths=[pair.tokens for pair in pairs],
        batch_of=batch_of,
        objective=Preferring(options.beta, options.nll),
        options=options,
        setting=setting,
    )
    average_models(folders, out)
