"""A recipe for another size: the same data, vocabulary and stages, with another model and a schedule for it."""

from __future__ import annotations

import math
from typing import Any

import tomli_w

from herdsman.model.options import ModelOptions
from herdsman.options import Options
from herdsman.training.hyperparameters import published_peak
from herdsman.training.options import GateOptions, Phase, PretrainOptions
from herdsman.training.schedule import Schedule

BATCHES = ((6e18, 250_000), (1e22, 4_000_000), (3.8e25, 16_777_216))
"""FLOPs of training, and tokens of the batch: scaling-law runs and the 405B of the Llama 3 paper (3.2.1, 3.4.1)."""


def batch_tokens_for(flops: float) -> int:
    """Tokens of the largest batch by training FLOPs: between the published points, and beyond them, straight lines in
    the logarithms; a power of two."""
    points = [(math.log(flops), math.log(tokens)) for flops, tokens in BATCHES]
    left, right = points[:2] if flops < BATCHES[1][0] else points[1:]
    slope = (right[1] - left[1]) / (right[0] - left[0])
    return 2 ** round((left[1] + slope * (math.log(flops) - left[0])) / math.log(2))


def scaled_schedule(
    pretrain: PretrainOptions, parameters: int, new_parameters: int, tokens: int, batch_tokens: int
) -> PretrainOptions:
    """The same phases for a model of another size and another number of tokens: each keeps its share of them, its
    sequences and its mix.

    Batches keep their proportions to the largest, in whole sequences; gates shrink and grow with their phases. Learning
    rates that the recipe gives change as the published ones do between the two sizes; warmup keeps its share.

    Args:
        parameters: of the model that `pretrain` is for.
        batch_tokens: of the largest batch.
    """
    before = sum(phase.tokens for phase in pretrain.phases)
    factor = tokens / before
    by_batch = batch_tokens / max(phase.batch_tokens for phase in pretrain.phases)
    by_size = published_peak(new_parameters) / published_peak(parameters)
    phases = _renamed([_scaled(phase, factor, by_batch) for phase in pretrain.phases], pretrain.phases)
    update: dict[str, Any] = {
        "phases": phases,
        "peak_learning_rate": _times(pretrain.peak_learning_rate, by_size),
        "final_learning_rate": _times(pretrain.final_learning_rate, by_size),
        "cosine_steps": None,
        "cosine_tokens": pretrain.cosine_tokens and max(1, round(pretrain.cosine_tokens * factor)),
        "warmup_tokens": pretrain.warmup_tokens and max(1, round(pretrain.warmup_tokens * factor)),
        "validation_tokens": max(phases[0].sequence_length, min(pretrain.validation_tokens, tokens // 20)),
    }
    if pretrain.warmup_tokens is None:
        share = Schedule(pretrain, parameters).warmup / sum(phase.steps for phase in pretrain.phases)
        update["warmup_steps"] = max(1, round(share * sum(phase.steps for phase in phases)))
    return pretrain.model_copy(update=update)


def _times(rate: float | None, factor: float) -> float | None:
    return None if rate is None else float(f"{rate * factor:.3g}")


def _scaled(phase: Phase, factor: float, by_batch: float) -> Phase:
    gate = phase.gate
    return phase.model_copy(
        update={
            "tokens": max(1, round(phase.tokens * factor)),
            "batch_tokens": phase.sequence_length * _rows(phase.batch_tokens * by_batch / phase.sequence_length),
            "gate": gate and _scaled_gate(gate, factor),
        }
    )


def _renamed(phases: list[Phase], before: list[Phase]) -> list[Phase]:
    """Phases named for their batches, as the presets' are, are named for their new ones, where these still differ."""
    pairs = zip(phases, before, strict=True)
    names = [
        _batch_name(new.batch_tokens) if old.name == _batch_name(old.batch_tokens) else old.name for new, old in pairs
    ]
    if len(set(names)) < len(names):
        return phases
    return [phase.model_copy(update={"name": name}) for phase, name in zip(phases, names, strict=True)]


def _batch_name(tokens: int) -> str:
    """As in "4M": 4 x 2**20 tokens, or "512K"."""
    return f"{round(tokens / 2**20)}M" if tokens >= 2**20 else f"{round(tokens / 2**10)}K"


def _rows(wanted: float) -> int:
    """About so many sequences, a multiple of a power of two, so that data ranks can share them."""
    unit = 2 ** max(0, math.floor(math.log2(max(1.0, wanted))) - 2)
    return unit * max(1, round(wanted / unit))


def _scaled_gate(gate: GateOptions, factor: float) -> GateOptions:
    return gate.model_copy(
        update={name: max(1, round(getattr(gate, name) * factor)) for name in ("every_tokens", "most_tokens")}
    )


def table_of(options: Options) -> dict[str, Any]:
    """What a file must say for these options: what differs from the defaults."""
    return options.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


def resized(
    recipe: Options, name: str, description: str, model: ModelOptions, pretrain: PretrainOptions
) -> dict[str, Any]:
    """The table of a recipe with another model and schedule; its mix is made for that schedule's tokens."""
    table = table_of(recipe)
    table |= {"name": name, "description": description, "model": table_of(model), "pretrain": table_of(pretrain)}
    mix = table.get("documents", {}).get("mix", {})
    if "tokens" in mix:
        mix["tokens"] = sum(phase.tokens for phase in pretrain.phases)
    return table


def recipe_text(table: dict[str, Any], *comments: str) -> str:
    """A recipe's TOML, with comments on top."""
    return "".join(f"# {comment}\n" for comment in comments) + "\n" + tomli_w.dumps(table)
