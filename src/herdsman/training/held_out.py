"""What a model in training is measured on: held-out text in sequences, and needles in long ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.objective import Batch, Greedy, NextToken
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.token_course import micro_batches, without_weight


@dataclass(frozen=True)
class HeldOut:
    """Sequences of held-out documents: tokens and document numbers, [rows, length + 1] each."""

    tokens: np.ndarray
    documents: np.ndarray

    @staticmethod
    def of(documents: Path, tokenizer: Tokenizer, length: int, max_tokens: int) -> HeldOut:
        """The first held-out documents, in the order of their ids, laid end to end and cut into sequences.

        Raises:
            InputError: they do not fill one.
        """
        texts = sorted((row["id"], row["text"]) for row in read_documents(documents, "held_out", ["id", "text"]))
        tokens: list[int] = []
        owners: list[int] = []
        for number, (_, text) in enumerate(texts):
            ids = [tokenizer.bos, *tokenizer.encode(text), tokenizer.end_of_text]
            tokens += ids
            owners += [number] * len(ids)
            if len(tokens) > max_tokens + length:
                break
        count = min(len(tokens), max_tokens) // (length + 1)
        if count == 0:
            raise InputError(
                f"the held-out documents hold {len(tokens)} tokens, fewer than one sequence of {length}",
                where=documents,
                do="gather more pages or raise documents.held_out_share",
            )
        used, shape = count * (length + 1), (count, length + 1)
        return HeldOut(np.array(tokens[:used]).reshape(shape), np.array(owners[:used], np.int32).reshape(shape))

    def loss(self, model: ParallelModel, micro_batch_tokens: int) -> float:
        """Mean loss in nats a token; collective."""
        ranks, count = model.data_ranks, len(self.tokens)
        share = -(-count // ranks)
        first = min(count - 1, model.data_rank * share)
        mine = slice(first, min(count, first + share))
        uniform = share if model.mesh else None
        batches = micro_batches(self.tokens[mine], self.documents[mine], None, micro_batch_tokens, uniform)
        if model.data_rank * share >= count:
            batches = [without_weight(batch) for batch in batches]
        sums = model.evaluate([batch.to(model.device) for batch in batches], NextToken())
        return sums.total / sums.weight


def greedy_share(
    model: ParallelModel, questions: Iterable[tuple[Sequence[int], Sequence[int]]], micro_batch_tokens: int
) -> float:
    """The share of (context, answer) pairs whose answer is the model's likeliest continuation; collective.

    All pairs must have the same number of tokens together, as needles have.
    """
    rows = [([*context, *answer], len(answer)) for context, answer in questions]
    mine = rows[model.data_rank :: model.data_ranks] or rows[:1]
    share = -(-len(rows) // model.data_ranks)
    size = min(share, max(1, micro_batch_tokens // len(mine[0][0])))
    batches = []
    for start in range(0, share, size):
        part = [mine[min(number, len(mine) - 1)] for number in range(start, start + size)]
        ids = torch.tensor([row for row, _ in part])
        weights = torch.zeros(len(part), ids.shape[1] - 1)
        for number, (_, answer) in enumerate(part):
            counts = start + number < len(rows[model.data_rank :: model.data_ranks])
            weights[number, -answer:] = float(counts)
        batch = Batch(ids[:, :-1], None, {"targets": ids[:, 1:], "weights": weights})
        batches.append(batch.to(model.device))
    sums = model.evaluate(batches, Greedy())
    return sums.total / sums.weight
