"""A recipe made small enough for this machine with its structure intact: what `herdsman rehearse` runs. Needs no torch.

Every stage and every row of the schedule stays, with the same proportions where small numbers allow it: sequence
lengths and batches keep their ratios, warmup and cosine their shares of the run, heads their grouping, each degree of
parallelism is 2 where it was more than 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from herdsman.model.options import ModelOptions
from herdsman.training.options import GateOptions, Phase, PretrainOptions
from herdsman.training.parallel.layout import ONE_STAGE, V_SHAPED, LayoutOptions

LONGEST_SEQUENCE, SHORTEST_SEQUENCE = 512, 64  # a needle with its question takes some 50 tokens
MOST_STEPS_A_PHASE, LEAST_STEPS_A_PHASE = 12, 3
MOST_ROWS = 16
HEAD_WIDTH, LARGEST_GROUP = 8, 4


def shrink_layout(layout: LayoutOptions) -> LayoutOptions:
    """Each degree at most 2; data parallelism takes the processes that are left."""
    clipped = {axis: min(2, getattr(layout, axis)) for axis in ("tensor", "context", "pipeline")}
    stages, shards = min(2, layout.stages_per_rank), None if layout.shards is None else 1
    return layout.model_copy(update={**clipped, "data": None, "shards": shards, "stages_per_rank": stages})


def processes(pretrain: PretrainOptions) -> int:
    """So many that every layout has at least two data ranks."""
    layouts = [phase.layout or pretrain.layout for phase in pretrain.phases]
    return 2 * max(layout.tensor * layout.context * layout.pipeline for layout in layouts)


def shrink_model(model: ModelOptions, layout: LayoutOptions, context_length: int) -> ModelOptions:
    """Layers for every stage of the pipeline, heads for every rank; grouped, tied and scaled as it was."""
    several = layout.schedule not in ONE_STAGE
    per_rank = 2 if layout.schedule in V_SHAPED else layout.stages_per_rank if several else 1
    group = min(LARGEST_GROUP, model.heads // model.kv_heads)
    kv_heads = min(2, model.kv_heads) if model.kv_heads > 1 else layout.tensor
    scaling = model.rope_scaling
    if scaling is not None:
        original = max(2, scaling.original_context * context_length // model.context_length)
        scaling = scaling.model_copy(update={"original_context": original})
    return model.model_copy(
        update={
            "layers": max(2, layout.pipeline * per_rank - 2, min(4, model.layers)),
            "dim": group * kv_heads * HEAD_WIDTH,
            "heads": group * kv_heads,
            "kv_heads": kv_heads,
            "head_dim": HEAD_WIDTH if model.head_dim else None,
            "ffn_multiple_of": 8,
            "ffn_width": None,
            "rope_scaling": scaling,
            "context_length": context_length,
            "initial_std": 0.1,
        }
    )


def shrink_phases(phases: list[Phase]) -> list[Phase]:
    """Sequence lengths in proportion between 64 and 512, batches of at most 16 rows, few steps each."""
    lengths = sorted({phase.sequence_length for phase in phases})
    longest, rows = lengths[-1], max(phase.batch_tokens // phase.sequence_length for phase in phases)
    most = max(phase.steps for phase in phases)
    small = []
    for phase in phases:
        length = max(SHORTEST_SEQUENCE, phase.sequence_length * LONGEST_SEQUENCE // longest // 8 * 8)
        share = phase.batch_tokens // phase.sequence_length / rows
        count = min(MOST_ROWS, max(2, phase.batch_tokens // phase.sequence_length, 2), max(2, round(MOST_ROWS * share)))
        steps = min(phase.steps, max(LEAST_STEPS_A_PHASE, round(MOST_STEPS_A_PHASE * phase.steps / most)))
        gate = phase.gate and _shrink_gate(phase.gate, phase, steps * count * length)
        update: dict[str, Any] = {
            "tokens": steps * count * length,
            "batch_tokens": count * length,
            "sequence_length": length,
            "gate": gate,
            "layout": phase.layout and shrink_layout(phase.layout),
        }
        small.append(phase.model_copy(update=update))
    return small


def _shrink_gate(gate: GateOptions, phase: Phase, tokens: int) -> GateOptions:
    """Prolongations in proportion. A model this small finds no needle: that the gate measures and decides is rehearsed,
    not that it passes."""
    factor = tokens / phase.tokens
    every = max(1, math.ceil(gate.every_tokens * factor))
    most = max(every, math.ceil(gate.most_tokens * factor))
    return gate.model_copy(update={"every_tokens": every, "most_tokens": most, "at_limit": "go_on"})


def shrink_pretrain(pretrain: PretrainOptions) -> PretrainOptions:
    phases = shrink_phases(pretrain.phases)
    steps = sum(phase.steps for phase in phases)
    update: dict[str, Any] = {
        "phases": phases,
        "peak_learning_rate": 2e-3,  # higher ones are unsteady: rounding grows from step to step, and hides equality
        "final_learning_rate": 2e-5,
        "warmup_steps": None if pretrain.warmup_tokens is not None else max(1, steps // 8),
        "warmup_tokens": None if pretrain.warmup_tokens is None else sum(p.tokens for p in phases) // 8,
        "cosine_steps": None,
        "cosine_tokens": None,
        "micro_batch_tokens": SHORTEST_SEQUENCE,  # a row, so that there are several
        "precision": "float32",  # equality is what is rehearsed
        "compile": False,
        "attention": "auto",
        "layout": shrink_layout(pretrain.layout),
        "validations": 3,
        "validation_tokens": 4096,
        "samples": 1,
    }
    return pretrain.model_copy(update=update)


SMALL_STAGES: Mapping[str, Mapping[str, Any]] = {
    "posttrain": {
        "prompts": {
            "tasks": 120, "open_book": 10, "closed_book": 10, "conversation": 60, "harmful": 10, "borderline": 10,
            "held_out": 24, "difficulty": 1, "annotated_share": 0.4, "preference_share": 0.4,
        },
        "sampling": {"samples_per_prompt": 4, "temperature": 1.0, "top_p": 1.0, "max_new_tokens": 32},
        "seed_policy": {"learning_rate": 3e-3, "epochs": 3, "batch_tokens": 1024, "average": 1},
        "reward": {"learning_rate": 1e-3, "batch_tokens": 1024, "average": 1},
        "sft": {"learning_rate": 3e-3, "batch_tokens": 1024, "average": 2},
        "dpo": {"learning_rate": 1e-4, "batch_tokens": 1024, "average": 1},
    },
    "evaluate": {"held_out_bytes": 20_000, "examples": 12, "shots": 1, "max_new_tokens": 24},
    "safety": {"prompts": 20, "max_new_tokens": 16},
}  # fmt: skip
"""What the later stages are given: the figures that a herd of some thousand parameters needs, not the recipe's."""
