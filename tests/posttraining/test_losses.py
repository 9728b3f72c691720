"""SFT, reward and DPO losses and their gradients against formulas written out here, token by token."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import torch
from torch import Tensor

from herdsman.model.llama import Llama
from herdsman.model.store import save_model
from herdsman.posttraining.dpo import Pair, Preferring, pair_batch, with_reference
from herdsman.posttraining.preferences import Preference
from herdsman.posttraining.reward import Ranking, preference_rows, reward_batch, reward_start, score_dialogs
from herdsman.posttraining.rows import Row, dialog_row, pad, response_row
from herdsman.posttraining.sft import OBJECTIVE
from herdsman.tokens.chat import Message
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.losses import Loss
from herdsman.training.objective import Batch, Objective
from herdsman.training.parallel.build import alone
from tests.posttraining.herd import random_model

CPU = torch.device("cpu")
BETA, NLL = 0.1, 0.2
ASKED = [Message("user", "Which of these is a list?")]
EXCHANGES = [
    (ASKED, "The first of them, and only that one.", "None."),
    ([Message("user", "Add 3 and 4.")], "7", "It is eight, or nine, and I cannot say which of them it is."),
    ([Message("system", "Be brief."), *ASKED, Message("assistant", "No."), Message("user", "Why?")], "Because.", "So."),
]


def loss_of(objective: Objective, model: Llama, batch: Batch) -> Loss:
    head = alone(model)
    return objective(head, head.hidden(batch), batch)


def lively(tokenizer: Tokenizer, seed: int) -> Llama:
    """Weights large enough that logits differ."""
    model = random_model(tokenizer, seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(1.5)
    return model


def responses(tokenizer: Tokenizer) -> list[tuple[Row, Row]]:
    return [
        (response_row(tokenizer, asked, good), response_row(tokenizer, asked, bad)) for asked, good, bad in EXCHANGES
    ]


def logprob_of_places(model: Llama, row: Row, places: range | list[int]) -> list[Tensor]:
    """Log-probability of the tokens at these places of one unpadded row, one by one."""
    logits = model.logits(model(torch.tensor([row.ids])))[0]
    return [torch.log_softmax(logits[place - 1], -1)[row.ids[place]] for place in places]


def body_places(tokenizer: Tokenizer, row: Row) -> list[int]:
    """Places of the answer's text, found by its tokens: after the last header, before the last end."""
    header = max(place for place, token in enumerate(row.ids) if token == tokenizer.end_header)
    newlines = len(tokenizer.encode("\n\n"))
    assert row.ids[-1] == tokenizer.eot
    return list(range(header + 1 + newlines, len(row.ids) - 1))


def gradients(model: torch.nn.Module, loss: Tensor) -> Tensor:
    model.zero_grad(set_to_none=True)
    loss.backward()
    found = [p.grad if p.grad is not None else torch.zeros_like(p) for p in model.parameters()]
    return torch.cat([gradient.flatten() for gradient in found]).clone()


def assert_same(model: torch.nn.Module, ours: Callable[[], Tensor], written_out: Callable[[], Tensor]) -> None:
    first, second = ours(), written_out()
    assert float(first.detach()) == pytest.approx(float(second.detach()), abs=2e-6, rel=1e-6)
    one, two = gradients(model, ours()), gradients(model, written_out())
    assert float(one.norm()) > 1e-3
    assert torch.allclose(one, two, atol=2e-6 * float(two.abs().max() + 1), rtol=1e-4)


def plain_dpo(tokenizer: Tokenizer, model: Llama, reference: Llama) -> Tensor:
    """TRL's sigmoid loss with the Llama 3 masks, plus the mean negative log-likelihood of the chosen tokens."""
    losses, likelihoods = [], []
    for chosen, rejected in responses(tokenizer):
        sums = {}
        for name, policy in (("policy", model), ("reference", reference)):
            with torch.set_grad_enabled(name == "policy"):
                for side, row in (("chosen", chosen), ("rejected", rejected)):
                    places = body_places(tokenizer, row)
                    sums[name, side] = torch.stack(logprob_of_places(policy, row, places)).sum()
        pi_logratios = sums["policy", "chosen"] - sums["policy", "rejected"]
        ref_logratios = sums["reference", "chosen"] - sums["reference", "rejected"]
        losses.append(-torch.log(1 / (1 + torch.exp(-BETA * (pi_logratios - ref_logratios)))))
        trained = [*body_places(tokenizer, chosen), len(chosen.ids) - 1]
        likelihoods += logprob_of_places(model, chosen, trained)
    return torch.stack(losses).mean() + NLL * -torch.stack(likelihoods).mean()


def test_dpo_equals_the_formula(tokenizer: Tokenizer) -> None:
    model, reference = lively(tokenizer, 1), lively(tokenizer, 2)
    pairs = with_reference(reference, [Pair(*rows) for rows in responses(tokenizer)], tokenizer.pad, CPU)

    def ours() -> Tensor:
        loss = loss_of(Preferring(BETA, NLL), model, pair_batch(pairs, tokenizer.pad, CPU))
        return loss.total / loss.weight

    assert_same(model, ours, lambda: plain_dpo(tokenizer, model, reference))


def test_dpo_at_the_reference_is_log_2(tokenizer: Tokenizer) -> None:
    model = lively(tokenizer, 1)
    pairs = with_reference(model, [Pair(*rows) for rows in responses(tokenizer)], tokenizer.pad, CPU)
    loss = loss_of(Preferring(BETA, 0.0), model, pair_batch(pairs, tokenizer.pad, CPU))
    assert float(loss.total.detach()) / loss.weight == pytest.approx(math.log(2), abs=1e-5)
    assert loss.sums["margin"] == pytest.approx(0, abs=1e-3)


def test_reference_computed_once_equals_the_live_one(tokenizer: Tokenizer) -> None:
    reference = lively(tokenizer, 2)
    pairs = with_reference(reference, [Pair(*rows) for rows in responses(tokenizer)] * 40, tokenizer.pad, CPU)
    for pair, (chosen, rejected) in zip(pairs, responses(tokenizer) * 40, strict=True):
        assert (pair.chosen, pair.rejected) == (chosen, rejected)
    with torch.no_grad():
        for pair in pairs[:3]:
            live = [
                float(torch.stack(logprob_of_places(reference, row, body_places(tokenizer, row))).sum())
                for row in (pair.chosen, pair.rejected)
            ]
            assert list(pair.reference) == pytest.approx(live, abs=1e-4)


@pytest.mark.parametrize("cuts", [[1, 2], [2, 1], [1, 1, 1]])
def test_micro_batches_do_not_change_dpo(tokenizer: Tokenizer, cuts: list[int]) -> None:
    model, reference = lively(tokenizer, 1), lively(tokenizer, 2)
    pairs = with_reference(reference, [Pair(*rows) for rows in responses(tokenizer)], tokenizer.pad, CPU)

    def in_parts() -> Tensor:
        start, total, weight = 0, torch.zeros(()), 0.0
        for size in cuts:
            part = pairs[start : start + size]
            loss = loss_of(Preferring(BETA, NLL), model, pair_batch(part, tokenizer.pad, CPU, pairs))
            start, total, weight = start + size, total + loss.total, weight + loss.weight
        return total / weight

    assert_same(model, in_parts, lambda: plain_dpo(tokenizer, model, reference))


def test_sft_equals_the_formula(tokenizer: Tokenizer) -> None:
    model = lively(tokenizer, 3)
    dialogs = [[*asked, Message("assistant", good)] for asked, good, _ in EXCHANGES]

    def ours() -> Tensor:
        loss = loss_of(OBJECTIVE, model, pad([dialog_row(tokenizer, dialog) for dialog in dialogs], tokenizer.pad, CPU))
        return loss.total / loss.weight

    def written_out() -> Tensor:
        likelihoods = []
        for dialog in dialogs:
            row = dialog_row(tokenizer, dialog)
            end = 0
            for message in dialog:
                end = row.ids.index(tokenizer.eot, end) + 1
                if message.role == "assistant":
                    body = len(tokenizer.encode(message.content))
                    likelihoods += logprob_of_places(model, row, range(end - 1 - body, end))
        return -torch.stack(likelihoods).mean()

    assert_same(model, ours, written_out)


def test_reward_equals_the_formula_over_all_pairs_of_a_ranking(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_model(lively(tokenizer, 4), tmp_path / "base")
    model = reward_start(tmp_path / "base", CPU)
    torch.nn.init.normal_(model.output_weight, std=0.1, generator=torch.Generator().manual_seed(1))
    ranked = [
        Preference(tuple(ASKED), "tasks", "x", ("The first.", "The first of the four.", "No!"), "better"),
        Preference(tuple(ASKED), "tasks", "x", ("Yes.", "I could not say that for the world."), "better"),
    ]

    def reward(row: Row) -> Tensor:
        return model.logits(model(torch.tensor([row.ids]))[0, -1])[0]

    def written_out() -> Tensor:
        losses = []
        for preference in ranked:
            rewards = [reward(row) for row in preference_rows(tokenizer, preference)]
            losses += [torch.log(1 + torch.exp(worse - better)) for better, worse in combinations(rewards, 2)]
        assert len(losses) == 4
        return torch.stack(losses).mean()

    def ours() -> Tensor:
        batch = reward_batch([preference_rows(tokenizer, preference) for preference in ranked], tokenizer.pad, CPU)
        loss = loss_of(Ranking(), model, batch)
        return loss.total / loss.weight

    assert_same(model, ours, written_out)
    dialogs = [(preference.messages, text) for preference in ranked for text in preference.responses]
    rows = [row for preference in ranked for row in preference_rows(tokenizer, preference)]
    with torch.no_grad():
        expected = [float(reward(row)) for row in rows]
    assert score_dialogs(model.eval(), tokenizer, dialogs, CPU) == pytest.approx(expected, abs=1e-4)


def test_the_filling_does_not_matter(tokenizer: Tokenizer) -> None:
    model = lively(tokenizer, 5)
    pairs = [Pair(*rows, (-20.0, -30.0)) for rows in responses(tokenizer)]
    totals = [
        float(loss_of(Preferring(BETA, NLL), model, pair_batch(pairs, filler, CPU)).total.detach())
        for filler in (tokenizer.pad, tokenizer.eot, 5)
    ]
    assert totals[0] == totals[1] == totals[2]
    rows = [row for pair in pairs for row in (pair.chosen, pair.rejected)]
    together = [float(loss_of(OBJECTIVE, model, pad([row], tokenizer.eot, CPU)).total.detach()) for row in rows]
    assert sum(together) == pytest.approx(float(loss_of(OBJECTIVE, model, pad(rows, 5, CPU)).total.detach()), rel=1e-5)


def test_an_untrained_reward_model_prefers_nothing(tokenizer: Tokenizer, tmp_path: Path) -> None:
    save_model(lively(tokenizer, 6), tmp_path / "base")
    model = reward_start(tmp_path / "base", CPU)
    assert score_dialogs(model, tokenizer, [(ASKED, "a"), (ASKED, "b c d")], CPU) == [0.0, 0.0]
