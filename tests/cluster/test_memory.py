"""The memory model against the trainer's own tensors: what a forward pass keeps, and what a step takes at most."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from herdsman.cluster.hardware import load_hardware
from herdsman.cluster.job import Job, Rank, Share, ranks_of
from herdsman.cluster.memory import _parts, block_bytes
from herdsman.model.llama import initialise
from herdsman.model.options import ModelOptions
from herdsman.recipe import load_recipe
from herdsman.training.objective import Batch, NextToken
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.parallel.running import Running
from tests.processes import run

CPU, VOCAB = torch.device("cpu"), 1024
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def options(dim: int, layers: int) -> ModelOptions:
    heads = max(4, dim // 64)
    return ModelOptions(layers=layers, dim=dim, heads=heads, kv_heads=heads // 2, ffn_multiple_of=32)


def job_of(model: ModelOptions, rows: int, length: int, batches: int, precision: Any, recompute: Any) -> Job:
    tokens = rows * length
    return Job(model, VOCAB, length, batches * tokens, tokens, precision, recompute, document_tokens=length / 2)


def make(job: Job, layout: Layout) -> ParallelModel:
    running = Running(PRECISIONS[job.precision], recompute=job.recompute)
    fill = partial(initialise, options=job.model, seed=1)
    return lay_out(job.model, VOCAB, layout, CPU, fill, running)


def batch_of(job: Job) -> Batch:
    rows, length = job.micro_batch_tokens // job.sequence_length, job.sequence_length
    ids = torch.randint(0, VOCAB, (rows, length + 1), generator=torch.Generator().manual_seed(1))
    documents = (torch.arange(length) >= length // 2).long().expand(rows, -1)
    return Batch(ids[:, :-1], documents, {"targets": ids[:, 1:], "weights": torch.ones(rows, length)})


def allocated(work: Callable[[], object]) -> tuple[int, int]:
    """Bytes that are allocated when the work is done, and at most on the way, beyond those before."""
    gc.collect()  # what an earlier call left in cycles would be freed in this one's time
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        held = work()
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = [event.nbytes() for event in sorted(events, key=lambda e: e.start_ns()) if event.name() == "[memory]"]
    now = most = 0
    for change in changes:
        now += change
        most = max(most, now)
    del held
    return now, most


def beyond_states(job: Job, layout: Layout, rank: Rank) -> dict[str, float]:
    """What a step adds to weights in float32 and optimizer states, by part."""
    hardware = load_hardware("cpu")
    parts = _parts(job, layout, hardware, Share.of(job, layout), rank, block_bytes(job, layout, hardware))
    s = job.sizes
    local = (rank.blocks * s.block + (rank.is_first + rank.is_last) * s.end) / layout.tensor
    parts["weights"] -= 4 * local / layout.shards / layout.context
    del parts["optimizer"]
    return parts


def kept(model: ParallelModel, batch: Batch) -> object:
    with model._precision():
        hidden = model.modules[0](batch.tokens, None, batch.documents)
        return NextToken()(model, hidden, batch)


ALONE = Layout.of(LayoutOptions(), 1)
SIZES = [(96, 3, 8, 256), (128, 4, 8, 256), (256, 4, 4, 512), (384, 2, 8, 256), (512, 2, 4, 512)]
"""Width, layers, rows, length. None was used to find the model's numbers but the second and the last."""


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(("dim", "layers", "rows", "length"), SIZES)
def test_activations_are_those_that_the_trainer_keeps(
    dim: int, layers: int, rows: int, length: int, precision: str
) -> None:
    job = job_of(options(dim, layers), rows, length, 1, precision, "none")
    model, batch = make(job, ALONE), batch_of(job)
    parts = beyond_states(job, ALONE, Rank(0, layers, True, True))
    measured, _ = allocated(partial(kept, model, batch))
    assert parts["activations"] == pytest.approx(measured - parts["weights"], rel=0.05)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_what_is_computed_again_is_not_kept(recompute: str, precision: str) -> None:
    """And the most that a step of two micro-batches takes, gradients and passing buffers with it."""
    job = job_of(options(384, 3), 4, 256, 2, precision, recompute)
    model, batch = make(job, ALONE), batch_of(job)
    parts = beyond_states(job, ALONE, Rank(0, 3, True, True))
    measured, _ = allocated(partial(kept, model, batch))
    copies = parts["weights"] if recompute == "none" else 0
    assert parts["activations"] == pytest.approx(measured - copies, rel=0.05)
    _, most = allocated(lambda: model.train_step([batch] * 2, NextToken()))
    assert 0.85 * sum(parts.values()) <= most <= 1.1 * sum(parts.values())


MESHES: dict[str, tuple[dict[str, Any], str]] = {
    "shards": ({}, "none"),
    "shards, freed in between": ({"reshard_after_forward": True}, "none"),
    "tensor": ({"tensor": 2}, "none"),
    "tensor, selective": ({"tensor": 2}, "selective"),
    "context": ({"context": 2}, "none"),
    "pipeline": ({"pipeline": 2, "schedule": "1F1B"}, "none"),
    "pipeline of several stages": ({"pipeline": 2, "stages_per_rank": 2}, "none"),
    "pipeline of many stages, full": ({"pipeline": 2, "stages_per_rank": 4}, "full"),
}


def most_of_steps(names: list[str]) -> dict[str, tuple[float, float]]:
    """What a step takes at most on this rank, measured and reckoned; run by every rank.

    The least of two steps: what gloo has on its way comes and goes with the other rank's haste.
    """
    found = {}
    for name in names:
        degrees, recompute = MESHES[name]
        layout = Layout.of(LayoutOptions(**degrees), 2)
        job = job_of(options(128, 6), 4, 128, 4 * layout.data, "bfloat16", recompute)
        model, batch = make(job, layout), batch_of(job)
        rank = ranks_of(job, layout)[model.mesh.pipeline.get_local_rank() if model.mesh else 0]
        most = float("inf")
        for number in range(3):
            _, this = allocated(partial(model.train_step, [batch] * 4, NextToken()))
            for module in model.modules:
                module.zero_grad()
            most = min(most, this) if number else most  # the first makes what stays
        parts = beyond_states(job, layout, rank)
        if layout.pipeline > 1:
            stages = layout.stages // layout.pipeline
            received = 4 * (2 * stages - rank.is_first - rank.is_last) * 4 * 128 * 128 * 2
            parts["buffers"] -= received  # made with the first step
        found[name] = (most, sum(parts.values()))
    return found


def test_layouts_take_what_is_reckoned() -> None:
    ranks = run(most_of_steps, 2, list(MESHES), timeout_seconds=120)
    for name in MESHES:
        for measured, reckoned in (rank[name] for rank in ranks):
            assert 0.85 <= measured / reckoned <= 1.15, (
                f"{name}: {measured / 1e6:.1f} MB, reckoned {reckoned / 1e6:.1f}"
            )


@pytest.mark.parametrize(("recipe", "dims"), [("8b", 41.0), ("405b", 38.25)])
def test_a_block_keeps_as_many_bytes_as_its_tensors_have(recipe: str, dims: float) -> None:
    """Two-byte activations counted by hand, in units of the model's width; grouped-query attention and SwiGLU."""
    model = load_recipe(Path(__file__).parents[2] / "recipes" / f"{recipe}.toml").model
    h100, layout = load_hardware("h100"), Layout.of(LayoutOptions(), 8)
    job = Job(model, 128_256, 8192, 1 << 20)
    assert block_bytes(job, layout, h100) == pytest.approx(dims * model.dim + 8)
    paper = Job(model, 128_256, 8192, 1 << 20, trainer="paper")
    if recipe == "405b":
        assert block_bytes(paper, layout, h100) == 21.25 * model.dim
