"""Supervised fine-tuning: cross-entropy on what the assistant says and on its stopping (paper, section 4.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_model
from herdsman.posttraining.finetune import MODEL, Setting, fine_tune
from herdsman.posttraining.options import FineTuneOptions
from herdsman.posttraining.rows import SFT_KINDS, Batch, dialog_row, pad
from herdsman.synthesis.sample import Sample
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models
from herdsman.training.losses import Loss, cross_entropy


def sft_loss(model: Llama, batch: Batch) -> Loss:
    """Mean negative log-likelihood of the assistant's tokens; the vocabulary is only computed where one is trained."""
    trained = batch.trained(SFT_KINDS)
    return cross_entropy(model.logits(model(batch.tokens)[trained]), batch.targets[trained])


def train_sft(
    name: str,
    base: Path,
    samples: Sequence[Sample],
    tokenizer: Tokenizer,
    options: FineTuneOptions,
    setting: Setting,
    out: Path,
) -> None:
    """Fine-tunes the model in `base` on dialogs and saves the average of the models in `out`, unless it is there."""
    if out.exists():
        return
    rows = [dialog_row(tokenizer, sample.messages) for sample in samples]
    folders = fine_tune(
        name,
        start=lambda: load_model(base, setting.device),
        save=lambda model, folder: save_model(model, folder / MODEL),
        lengths=[len(row.ids) for row in rows],
        batch_of=lambda items, _: pad([rows[item] for item in items], setting.filler, setting.device),
        loss_of=sft_loss,
        options=options,
        setting=setting,
    )
    average_models([folder / MODEL for folder in folders], out)
