"""Supervised fine-tuning: cross-entropy on what the assistant says and on its stopping (paper, section 4.1.3)."""

from __future__ import annotations

from herdsman.model.llama import Llama
from herdsman.posttraining.rows import SFT_KINDS, Batch
from herdsman.training.losses import Loss, cross_entropy


def sft_loss(model: Llama, batch: Batch) -> Loss:
    """Mean negative log-likelihood of the assistant's tokens; the vocabulary is only computed where one is trained."""
    trained = batch.trained(SFT_KINDS)
    return cross_entropy(model.logits(model(batch.tokens)[trained]), batch.targets[trained])
