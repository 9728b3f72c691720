"""The search of layouts: it finds what a search through everything finds, and says why the rest fell out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from herdsman.cluster.hardware import Hardware, load_hardware
from herdsman.cluster.job import Job, Share, ranks_of
from herdsman.cluster.layouts import FULLEST, RECOMPUTE, ROWS, Search, options_of, search
from herdsman.cluster.memory import estimate_memory
from herdsman.cluster.step_time import estimate_step
from herdsman.recipe import load_recipe
from herdsman.training.parallel.layout import Layout, LayoutOptions

RECIPES = Path(__file__).parents[2] / "recipes"
H100 = load_hardware("h100")


def job(recipe: str, sequence_length: int = 8192, batch_tokens: int = 1 << 24) -> Job:
    loaded = load_recipe(RECIPES / f"{recipe}.toml")
    return Job(loaded.model, loaded.tokenizer.vocab_size + 256, sequence_length, batch_tokens)


@pytest.fixture(scope="module")
def large() -> Search:
    return search(job("405b"), H100, 16384)


def test_every_layout_is_ranked_or_counted_with_a_reason(large: Search) -> None:
    assert large.considered > 100_000
    assert "it takes more than 92% of a GPU's memory" in large.infeasible
    assert sum(large.infeasible.values()) < large.considered
    seconds = [candidate.step.seconds for candidate in large.best]
    assert seconds == sorted(seconds)
    assert not large.best[0].why_not_first
    assert all("slower: " in candidate.why_not_first for candidate in large.best[1:])


def test_what_is_found_can_be_trained_and_fits(large: Search) -> None:
    for candidate in large.best:
        layout = candidate.layout
        assert Layout.of(options_of(layout), 16384) == layout
        layout.check(candidate.job.model, [8192])
        assert layout.tensor <= H100.gpus_per_server
        assert layout.context == 1
        assert candidate.memory.total_bytes <= FULLEST * H100.memory_bytes.value
        assert candidate.memory == estimate_memory(candidate.job, layout, H100)
        assert candidate.step == estimate_step(candidate.job, layout, H100)


def test_nothing_better_is_left_out() -> None:
    """Against a plain loop over degrees, micro-batches and recomputation on one server, without a pipeline."""
    given = job("8b", batch_tokens=1 << 20)
    best = 0.0
    for tensor in (1, 2, 4, 8):
        for reshard in (False, True):
            layout = Layout.of(LayoutOptions(tensor=tensor, schedule="1F1B", reshard_after_forward=reshard), 8)
            for rows in ROWS:
                for recompute in RECOMPUTE:
                    variant = replace(given, micro_batch_tokens=8192 * rows, recompute=recompute)
                    if estimate_memory(variant, layout, H100).total_bytes <= FULLEST * H100.memory_bytes.value:
                        best = max(best, estimate_step(variant, layout, H100).mfu_causal)
    found = search(given, H100, 8)
    assert max(c.step.mfu_causal for c in found.best if c.layout.pipeline == 1) == pytest.approx(best)


def test_reasons_name_what_must_change(large: Search) -> None:
    assert any("context parallelism" in reason for reason in large.infeasible)
    long = search(job("405b", 131072), H100, 16384)
    assert max(candidate.layout.context for candidate in long.best) > 1
    assert "more data ranks than sequences in a batch" in long.infeasible
    nothing = search(job("405b", batch_tokens=1 << 17), H100, 8)
    assert not nothing.best
    assert nothing.infeasible["it takes more than 92% of a GPU's memory"] > 0


def test_a_small_model_needs_no_layout() -> None:
    loaded = load_recipe(RECIPES / "tiny.toml")
    tiny = Job(loaded.model, 2304, 256, 2048, precision="float32")
    found = search(tiny, load_hardware("cpu"), 1)
    assert [(c.layout.processes, c.job.recompute) for c in found.best] == [(1, "none")]


@pytest.mark.parametrize("pipeline", [1, 4])
def test_no_rank_is_fuller_or_busier_than_those_looked_at(pipeline: int) -> None:
    """Memory is reckoned for the first, second and last rank only; here for all of them."""
    from herdsman.cluster import memory

    given = replace(job("70b"), recompute="full")
    layout = Layout.of(LayoutOptions(tensor=8, pipeline=pipeline, stages_per_rank=3), 64)
    share, block = Share.of(given, layout), memory.block_bytes(given, layout, H100)
    totals = [sum(memory._parts(given, layout, H100, share, rank, block).values()) for rank in ranks_of(given, layout)]
    assert estimate_memory(given, layout, H100).total_bytes == max(totals)


def test_hardware_with_more_memory_allows_more() -> None:
    def fit(hardware: Hardware) -> float:
        return search(job("70b"), hardware, 64).best[0].step.seconds

    assert fit(load_hardware("h200")) <= fit(H100)
