"""Supervised fine-tuning: cross-entropy on what the assistant says and on its stopping (paper, section 4.1.3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from herdsman.model.store import load_model
from herdsman.posttraining.finetune import Setting, fine_tune
from herdsman.posttraining.options import FineTuneOptions
from herdsman.posttraining.rows import dialog_row, pad
from herdsman.synthesis.sample import Sample
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.averaging import average_models
from herdsman.training.objective import NextToken

OBJECTIVE = NextToken(few=True)
"""Mean negative log-likelihood of the assistant's tokens; the vocabulary is only computed where one is trained."""


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
        lengths=[len(row.ids) for row in rows],
        batch_of=lambda items, _: pad([rows[item] for item in items], setting.filler, setting.device),
        objective=OBJECTIVE,
        options=options,
        setting=setting,
    )
    average_models(folders, out)
