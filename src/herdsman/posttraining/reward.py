"""The reward model: the pretrained model with a scalar in place of the vocabulary (paper, section 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import torch
from torch import Tensor

from herdsman.model.llama import Llama
from herdsman.model.store import load_model
from herdsman.posttraining.finetune import Setting, fine_tune
from herdsman.posttraining.options import FineTuneOptions
from herdsman.posttraining.preferences import Preference
from herdsman.posttraining.rows import Row, length_batches, response_row
from herdsman.tokens.chat import Message
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models
from herdsman.training.losses import Loss, ranking_loss
from herdsman.training.objective import Batch, Head
from herdsman.training.parallel.build import alone

SCORE_TOKENS = 8192


def preference_rows(tokenizer: Tokenizer, preference: Preference) -> list[Row]:
    """One row a response, best first."""
    return [response_row(tokenizer, preference.messages, response) for response in preference.responses]


def reward_batch(ranked: Sequence[Sequence[Row]], filler: int, device: torch.device) -> Batch:
    """A batch of the rows of several preferences, and all pairs in them: rows of the `better`, of the `worse` [pairs].

    Rows are whole dialogs; their reward is read at the token that ends them, where `last` is 1.
    """
    better: list[int] = []
    worse: list[int] = []
    start = 0
    for rows in ranked:
        for first, second in combinations(range(start, start + len(rows)), 2):
            better.append(first)
            worse.append(second)
        start += len(rows)
    every = [row for rows in ranked for row in rows]
    longest = max(len(row.ids) for row in every)
    tokens = torch.tensor([row.ids + [filler] * (longest - len(row.ids)) for row in every], device=device)
    last = torch.zeros(tokens.shape, device=device)
    last[torch.arange(len(every)), torch.tensor([len(row.ids) - 1 for row in every])] = 1.0
    pairs = {"better": torch.tensor(better, device=device), "worse": torch.tensor(worse, device=device)}
    return Batch(tokens, None, {"last": last}, pairs)


@dataclass(frozen=True)
class Ranking:
    """Ranking loss over all pairs of all preferences, without a margin."""

    figures: tuple[str, ...] = ("accuracy", "margin")
    by_row: bool = True

    def __call__(self, head: Head, hidden: Tensor, batch: Batch) -> Loss:
        rewards = head.row_sums(head.scores(hidden) * batch.by_token["last"])
        return ranking_loss(rewards[batch.by_row["better"]], rewards[batch.by_row["worse"]])


@torch.inference_mode()
def score_dialogs(
    model: Llama, tokenizer: Tokenizer, dialogs: Sequence[tuple[Sequence[Message], str]], device: torch.device
) -> list[float]:
    """Rewards of responses, each given as (prompt, response), in their order."""
    rows = [response_row(tokenizer, prompt, response) for prompt, response in dialogs]
    head = alone(model)
    rewards = [0.0] * len(rows)
    for members in length_batches([len(row.ids) for row in rows], SCORE_TOKENS):
        batch = reward_batch([[rows[index]] for index in members], tokenizer.pad, device)
        found = head.row_sums(head.scores(head.hidden(batch)) * batch.by_token["last"])
        for index, reward in zip(members, found.tolist(), strict=True):
            rewards[index] = reward
    return rewards


def reward_start(base: Path, device: torch.device) -> Llama:
    """The pretrained model with a single output of zeros: no preference before training, and no seed."""
    pretrained = load_model(base)
    model = Llama(pretrained.options, pretrained.vocab_size, scores=True)
    model.load_state_dict({**pretrained.state_dict(), "output.weight": torch.zeros(1, pretrained.options.dim)})
    return model.to(device)


def train_reward(
    base: Path,
    preferences: Sequence[Preference],
    tokenizer: Tokenizer,
    options: FineTuneOptions,
    setting: Setting,
    out: Path,
) -> None:
    """Trains a reward model from the pretrained model in `base` and saves the average of the models in `out`.

    Nothing is done if there is one.
    """
    if out.exists():
        return
    ranked = [preference_rows(tokenizer, preference) for preference in preferences]
    folders = fine_tune(
        "reward",
        start=lambda: reward_start(base, setting.device),
        lengths=[len(rows) * max(len(row.ids) for row in rows) for rows in ranked],
        batch_of=lambda items, _: reward_batch([ranked[item] for item in items], setting.filler, setting.device),
        objective=Ranking(),
        options=options,
        setting=setting,
    )
    average_models(folders, out)
