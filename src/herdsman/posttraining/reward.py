"""The reward model: the pretrained model with a scalar in place of the vocabulary (paper, section 4.1.2)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from herdsman.files import atomic_open
from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_model
from herdsman.posttraining.finetune import MODEL, Setting, fine_tune
from herdsman.posttraining.options import FineTuneOptions
from herdsman.posttraining.preferences import Preference
from herdsman.posttraining.rows import Batch, Row, length_batches, pad, response_row
from herdsman.tokens.chat import Message
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models
from herdsman.training.losses import Loss, ranking_loss

HEAD = "reward_head.safetensors"
SCORE_TOKENS = 8192


class RewardModel(nn.Module):
    """Reads a dialog and gives the reward of its last answer, at the token that ends it."""

    def __init__(self, backbone: Llama):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.options.dim, 1, bias=False)
        nn.init.zeros_(self.head.weight)  # No preference before training, and no random number to seed.

    def forward(self, tokens: Tensor, last: Tensor) -> Tensor:
        """tokens: [rows, seq] whole dialogs; last: [rows] places of their last tokens. Returns rewards [rows]."""
        hidden = self.backbone(tokens)
        return self.head(hidden[torch.arange(len(tokens), device=tokens.device), last].float())[:, 0]

    def save(self, folder: Path) -> None:
        """Writes head and backbone; the backbone last, so that a folder with a model in it is whole."""
        _save_head(self.head.weight, folder)
        save_model(self.backbone, folder / MODEL)

    @staticmethod
    def load(folder: Path, device: torch.device) -> RewardModel:
        model = RewardModel(load_model(folder / MODEL)).to(device)
        model.head.load_state_dict(load_file(folder / HEAD))
        return model.eval()


def average_rewards(folders: Sequence[Path], out: Path) -> None:
    """Saves the uniform average of reward models in `out`."""
    heads = [load_file(folder / HEAD)["weight"].double() for folder in folders]
    _save_head(sum(heads[1:], heads[0]) / len(heads), out)
    average_models([folder / MODEL for folder in folders], out / MODEL)


def preference_rows(tokenizer: Tokenizer, preference: Preference) -> list[Row]:
    """One row a response, best first."""
    return [response_row(tokenizer, preference.messages, response) for response in preference.responses]


def reward_batch(ranked: Sequence[Sequence[Row]], filler: int, device: torch.device) -> tuple[Batch, Tensor, Tensor]:
    """A batch of the rows of several preferences, and all pairs in them: rows of the better, of the worse [pairs]."""
    better: list[int] = []
    worse: list[int] = []
    start = 0
    for rows in ranked:
        for first, second in combinations(range(start, start + len(rows)), 2):
            better.append(first)
            worse.append(second)
        start += len(rows)
    batch = pad([row for rows in ranked for row in rows], filler, device)
    return batch, torch.tensor(better, device=device), torch.tensor(worse, device=device)


def reward_loss(model: RewardModel, batch: tuple[Batch, Tensor, Tensor]) -> Loss:
    """Ranking loss over all pairs of all preferences, without a margin."""
    rows, better, worse = batch
    rewards = model(_whole(rows), rows.last)
    return ranking_loss(rewards[better], rewards[worse])


@torch.inference_mode()
def score_dialogs(
    model: RewardModel, tokenizer: Tokenizer, dialogs: Sequence[tuple[Sequence[Message], str]], device: torch.device
) -> list[float]:
    """Rewards of responses, each given as (prompt, response), in their order."""
    rows = [response_row(tokenizer, prompt, response) for prompt, response in dialogs]
    rewards = [0.0] * len(rows)
    for members in length_batches([len(row.ids) for row in rows], SCORE_TOKENS):
        batch = pad([rows[index] for index in members], tokenizer.pad, device)
        for index, reward in zip(members, model(_whole(batch), batch.last).tolist(), strict=True):
            rewards[index] = reward
    return rewards


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
    if (out / MODEL).exists():
        return
    ranked = [preference_rows(tokenizer, preference) for preference in preferences]

    def batch_of(items: Sequence[int], _: Sequence[int]) -> tuple[Batch, Tensor, Tensor]:
        return reward_batch([ranked[item] for item in items], setting.filler, setting.device)

    folders = fine_tune(
        "reward",
        start=lambda: RewardModel(load_model(base)).to(setting.device),
        save=RewardModel.save,
        lengths=[len(rows) * max(len(row.ids) for row in rows) for rows in ranked],
        batch_of=batch_of,
        loss_of=reward_loss,
        options=options,
        setting=setting,
    )
    average_rewards(folders, out)


def _save_head(weight: Tensor, folder: Path) -> None:
    with atomic_open(folder / HEAD) as file:
        file.write(save({"weight": weight.detach().cpu().float().contiguous()}))


def _whole(batch: Batch) -> Tensor:
    """[rows, seq + 1]: the rows with their last tokens, which training on next tokens leaves out."""
    return torch.cat((batch.tokens, batch.targets[:, -1:]), dim=1)
