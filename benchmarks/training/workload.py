"""The model and the rows that training is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist

from herdsman.model.count import SPECIAL_TOKENS, visible_keys
from herdsman.model.options import ModelOptions
from herdsman.recipe import load_recipe
from herdsman.training.objective import Batch

RECIPE = Path(__file__).parents[2] / "recipes/1b.toml"
SMALL = ModelOptions(layers=2, dim=64, heads=4, kv_heads=2, ffn_multiple_of=32, context_length=64, tied_embeddings=True)
MEAN_DOCUMENT_TOKENS = 1000


@dataclass(frozen=True)
class Bench:
    """What is measured on.

    Attributes:
        rows: of a step on each process.
    """

    model: ModelOptions
    vocab_size: int
    length: int
    rows: int
    warmup: int
    steps: int
    device: torch.device

    @staticmethod
    def of(small: bool, steps: int, device: torch.device) -> Bench:
        if small:
            return Bench(SMALL, 512, 64, 4, 1, 2, device)
        recipe = load_recipe(RECIPE)
        return Bench(recipe.model, recipe.tokenizer.vocab_size + SPECIAL_TOKENS, 8192, 8, 5, steps, device)

    def documents(self, step: int) -> list[list[int]]:
        """Lengths of the documents in each row of a step; exponentially distributed, cut at the rows' ends."""
        generator = torch.Generator().manual_seed(10_000 * dist.get_rank() + step)
        mean = min(MEAN_DOCUMENT_TOKENS, self.length // 4)
        rows = []
        for _ in range(self.rows):
            lengths: list[int] = []
            while (left := self.length + 1 - sum(lengths)) > 0:
                lengths.append(min(left, 1 + int(torch.empty(1).exponential_(1 / mean, generator=generator))))
            rows.append(lengths)
        return rows

    def batches(self, step: int, rows_at_once: int) -> list[Batch]:
        """A step's rows of this process, as micro-batches."""
        generator = torch.Generator().manual_seed(20_000 * dist.get_rank() + step)
        tokens = torch.randint(0, self.vocab_size, (self.rows, self.length + 1), generator=generator)
        numbers = torch.stack(
            [torch.repeat_interleave(torch.arange(len(row)), torch.tensor(row)) for row in self.documents(step)]
        )
        weights = (numbers[:, 1:] == numbers[:, :-1]).float()
        fields = (tokens[:, :-1], numbers[:, :-1].int(), tokens[:, 1:], weights)
        return [
            Batch(t, d, {"targets": y, "weights": w}).to(self.device)
            for t, d, y, w in zip(*(field.split(rows_at_once) for field in fields), strict=True)
        ]

    def visible(self) -> float:
        """Keys that a query meets on average."""
        lengths = [length for step in range(self.warmup + self.steps) for row in self.documents(step) for length in row]
        return visible_keys(lengths)
