"""The two trainers that nanochat.py compares, each behind the same two calls: a training step, and the loss of rows.

Herdsman's is its recipe: model, optimizer, schedule and step are those of the pretrain stage. nanochat's are its model
and optimizer, imported from a checkout, with the hyperparameters that its scripts/base_train.py derives from depth and
batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from herdsman.model.count import count_parameters
from herdsman.model.llama import initialise
from herdsman.recipe import Recipe
from herdsman.tokens.loader import Rows, TokenOrder
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.turns import Segment
from herdsman.training.objective import Batch, NextToken
from herdsman.training.optimizer import make_optimizer, resolve_precision, set_learning_rate
from herdsman.training.options import Phase
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout
from herdsman.training.parallel.running import Running
from herdsman.training.schedule import Schedule, stream_shares
from herdsman.training.token_course import micro_batches

CPU = torch.device("cpu")
MICRO_BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Windows:
    """Held-out text, each window from one document: inputs and targets [rows, length]; targets of padding are -1."""

    inputs: Tensor
    targets: Tensor
    bytes: int


@dataclass(frozen=True)
class Stretch:
    """Steps of one batch: `tokens` in all, rows of `length`, from streams in these shares."""

    tokens: int
    batch_tokens: int
    length: int
    mix: dict[str, float]


class Trainer(Protocol):
    parameters: int

    def step(self, rows: Rows, number: int, tokens: int) -> None:
        """One update, after so many steps and tokens."""
        ...

    def nats(self, windows: Windows) -> float:
        """Summed loss of the targets."""
        ...


class Contestant(Protocol):
    """A trainer's settings."""

    @property
    def name(self) -> str:
        """Shown in tables."""
        ...

    def stretches(self, scale: float) -> list[Stretch]:
        """The run, its tokens multiplied by `scale`."""
        ...

    def trainer(self, seed: int, stretches: Sequence[Stretch]) -> Trainer: ...


def rows_of(streams: TokenStreams, stretches: Sequence[Stretch], seed: int) -> TokenOrder:
    return TokenOrder(streams, seed, [Segment(part.mix, part.tokens, part.length) for part in stretches])


@dataclass(frozen=True)
class Herdsman:
    """A recipe, its phases made shorter or longer together."""

    name: str
    recipe: Recipe
    vocab_size: int
    mixes: dict[str, dict[str, float]]

    def stretches(self, scale: float) -> list[Stretch]:
        return [
            Stretch(phase.steps * phase.batch_tokens, phase.batch_tokens, phase.sequence_length, mix)
            for phase in self._phases(scale)
            for mix in [stream_shares(phase, self.mixes)]
        ]

    def trainer(self, seed: int, stretches: Sequence[Stretch]) -> HerdsmanTrainer:
        phases = [
            phase.model_copy(update={"tokens": part.tokens})
            for phase, part in zip(self.recipe.pretrain.phases, stretches, strict=True)
        ]
        return HerdsmanTrainer(self.recipe, phases, self.vocab_size, seed)

    def _phases(self, scale: float) -> list[Phase]:
        return [
            phase.model_copy(update={"tokens": max(1, round(phase.tokens * scale))})
            for phase in self.recipe.pretrain.phases
        ]


class HerdsmanTrainer:
    """The step of herdsman.training.loop, without its checkpoints, health and logs."""

    def __init__(self, recipe: Recipe, phases: Sequence[Phase], vocab_size: int, seed: int):
        self.options = recipe.pretrain.model_copy(update={"phases": list(phases)})
        self.parameters = count_parameters(recipe.model, vocab_size).total
        self.schedule = Schedule(self.options, self.parameters)
        precision = resolve_precision(self.options.precision, CPU)
        running = Running(precision, self.options.attention, self.options.recompute, self.options.compile)
        fill = partial(initialise, options=recipe.model, seed=seed)
        self.model = lay_out(recipe.model, vocab_size, Layout.of(self.options.layout, 1), CPU, fill, running)
        self.objective = NextToken(self.options.z_loss)
        self.optimizer = make_optimizer(self.model.named_parameters(), self.options.optimizer, precision)

    def step(self, rows: Rows, number: int, tokens: int) -> None:
        batches = micro_batches(rows.tokens, rows.documents, None, self.options.micro_batch_tokens, None)
        sums = self.model.train_step(batches, self.objective)
        self.model.scale_gradients(1 / sums.weight)
        norm = self.model.gradient_norm()
        set_learning_rate(self.optimizer, self.schedule.learning_rate(number, tokens))
        if norm > self.options.optimizer.clip_norm:
            self.model.scale_gradients(self.options.optimizer.clip_norm / norm)
        self.optimizer.step()

    def nats(self, windows: Windows) -> float:
        size = MICRO_BATCH_TOKENS // windows.inputs.shape[1]
        batches = [
            Batch(inputs, None, {"targets": targets.clamp_min(0), "weights": (targets >= 0).float()})
            for inputs, targets in zip(windows.inputs.split(size), windows.targets.split(size), strict=True)
        ]
        return self.model.evaluate(batches, NextToken()).total


@dataclass(frozen=True)
class Nanochat:
    """nanochat at a depth, as its runs/runcpu.sh sets it up for a CPU (heads of 64, full attention).

    Attributes:
        tokens: of a run at scale 1.
        aspect_ratio: width for each layer.
        rate: multiplies all learning rates; 1 is what base_train.py derives.
    """

    name: str
    vocab_size: int
    mix: dict[str, float]
    tokens: int
    depth: int
    batch_tokens: int
    length: int = 256
    aspect_ratio: int = 64
    head_dim: int = 64
    rate: float = 1.0

    def stretches(self, scale: float) -> list[Stretch]:
        steps = max(1, round(self.tokens * scale / self.batch_tokens))
        return [Stretch(steps * self.batch_tokens, self.batch_tokens, self.length, self.mix)]

    def trainer(self, seed: int, stretches: Sequence[Stretch]) -> NanochatTrainer:
        return NanochatTrainer(self, seed, stretches[0].tokens // self.batch_tokens)


class NanochatTrainer:
    """Hyperparameters and schedule as scripts/base_train.py has them by default (commit 437943b of 2026).

    Rates grow with the root of the batch, from 2**19 tokens on; decay with that and with the tokens that twelve times
    the scaling parameters of depth 12 are, over those of this depth. Warmup over 40 steps; over the last 65% of the
    steps rates fall to 5%. Muon's momentum rises from 0.85 to 0.97 in 400 steps and falls to 0.9; its decay falls to 0.
    """

    BATCH, DECAY, REFERENCE_DEPTH = 2**19, 0.28, 12
    RATES: ClassVar = {"unembedding_lr": 0.008, "embedding_lr": 0.3, "scalar_lr": 0.5, "matrix_lr": 0.02}
    WARMUP_STEPS, WARMDOWN, FINAL = 40, 0.65, 0.05

    def __init__(self, settings: Nanochat, seed: int, steps: int):
        from nanochat.gpt import GPT  # type: ignore[import-not-found]

        torch.manual_seed(seed)
        self.steps = steps
        self.model = GPT(self._config(settings, settings.depth), CPU)
        reference = GPT(self._config(settings, self.REFERENCE_DEPTH), torch.device("meta"))
        batch = (settings.batch_tokens / self.BATCH) ** 0.5
        self.decay = self.DECAY * batch * self._scaling_parameters(reference) / self._scaling_parameters(self.model)
        rates = {name: rate * batch * settings.rate for name, rate in self.RATES.items()}
        self.optimizer = self.model.setup_optimizer(weight_decay=self.decay, **rates)
        self.parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self.forward = torch.compile(self.model.forward, dynamic=False)
        torch._dynamo.config.recompile_limit = 256  # several depths in one process

    @staticmethod
    def _config(settings: Nanochat, depth: int) -> Any:
        from nanochat.gpt import GPTConfig

        heads = -(-depth * settings.aspect_ratio // settings.head_dim)
        return GPTConfig(settings.length, settings.vocab_size, depth, heads, heads, heads * settings.head_dim, "L")

    @staticmethod
    def _scaling_parameters(model: Any) -> int:
        counts = model.num_scaling_params()
        return int(counts["transformer_matrices"] + counts["lm_head"])

    def step(self, rows: Rows, number: int, tokens: int) -> None:
        inputs = torch.as_tensor(rows.tokens[:, :-1])
        same = rows.documents[:, 1:] == rows.documents[:, :-1]
        targets = torch.as_tensor(np.where(same, rows.tokens[:, 1:], -1))
        size = MICRO_BATCH_TOKENS // inputs.shape[1]
        parts = list(zip(inputs.split(size), targets.split(size), strict=True))
        for part in parts:
            (self.forward(*part) / len(parts)).backward()
        warmdown = round(self.WARMDOWN * self.steps)
        begun = max(0.0, (number - (self.steps - warmdown)) / warmdown) if warmdown else 0.0
        rate = (
            min(1.0, (number + 1) / self.WARMUP_STEPS) if number < self.WARMUP_STEPS else 1 - begun * (1 - self.FINAL)
        )
        momentum = 0.85 + 0.12 * number / 400 if number < 400 else 0.97 - 0.07 * begun
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate
            if group["kind"] == "muon":
                group["momentum"] = momentum
                group["weight_decay"] = self.decay * 0.5 * (1 + math.cos(math.pi * number / self.steps))
        self.optimizer.step()
        self.optimizer.zero_grad()

    @torch.no_grad()
    def nats(self, windows: Windows) -> float:
        size = MICRO_BATCH_TOKENS // windows.inputs.shape[1]
        parts = zip(windows.inputs.split(size), windows.targets.split(size), strict=True)
        return sum(float(self.model.forward(*part, loss_reduction="sum")) for part in parts)
