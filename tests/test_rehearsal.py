"""Rehearsing: recipes shrink with their structure intact, and the rehearsal proves what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from herdsman.cluster.shrink import processes
from herdsman.events import read_events
from herdsman.recipe import load_recipe
from herdsman.rehearsal import shrink
from herdsman.training.parallel.layout import Layout

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.toml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_structure_stays_intact(path: Path) -> None:
    recipe = load_recipe(path)
    small = shrink(recipe)
    before, after = recipe.pretrain.phases, small.pretrain.phases
    assert [phase.name for phase in after] == [phase.name for phase in before]
    for kept in ("learning_rate", "mix", "shares", "average_checkpoints"):
        assert [getattr(phase, kept) for phase in after] == [getattr(phase, kept) for phase in before]
    assert [bool(phase.gate) for phase in after] == [bool(phase.gate) for phase in before]
    lengths = [(a.sequence_length, b.sequence_length) for a, b in zip(before, after, strict=True)]
    assert all((b2 >= b1) == (a2 >= a1) or b1 == b2 for a1, b1 in lengths for a2, b2 in lengths)
    world = processes(small.pretrain)
    assert world == small.machine.processes <= 16
    for was, phase in zip(before, after, strict=True):
        wanted, got = was.layout or recipe.pretrain.layout, phase.layout or small.pretrain.layout
        for axis in ("tensor", "context", "pipeline"):
            assert getattr(got, axis) == min(2, getattr(wanted, axis))
        layout = Layout.of(got, world)
        layout.check(small.model, [phase.sequence_length])
        assert layout.data >= 2
    assert (small.model.tied_embeddings, small.model.rope_theta) == (
        recipe.model.tied_embeddings,
        recipe.model.rope_theta,
    )
    assert (small.model.heads > small.model.kv_heads) == (recipe.model.heads > recipe.model.kv_heads)
    assert bool(small.model.rope_scaling) == bool(recipe.model.rope_scaling)
    assert small.pretrain.optimizer == recipe.pretrain.optimizer
    assert all(small.tokens.block_tokens % phase.sequence_length == 0 for phase in after)


@pytest.mark.slow
def test_a_rehearsal_proves_what_it_says(tmp_path: Path, html_folder: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(
        f"""
name = "small"
[pages]
sources = [{str(html_folder)!r}]
[model]
layers = 8
dim = 512
heads = 8
kv_heads = 2
tied_embeddings = true
context_length = 512
[pretrain]
warmup_steps = 10
peak_learning_rate = 1e-3
final_learning_rate = 1e-4
[pretrain.layout]
pipeline = 4
schedule = "1F1B"
[[pretrain.phases]]
name = "main"
tokens = 1_000_000
batch_tokens = 4096
sequence_length = 256
[[pretrain.phases]]
name = "anneal"
tokens = 200_000
batch_tokens = 4096
sequence_length = 512
learning_rate = "linear_to_zero"
mix = "anneal"
average_checkpoints = 2
"""
    )
    command = [sys.executable, "-m", "herdsman", "rehearse", str(recipe), "--workspace", str(tmp_path / "w"), "--json"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-3000:]
    proofs = json.loads(result.stdout[result.stdout.index("[") :])
    assert all(proof["holds"] for proof in proofs)
    assert len(proofs) >= 8
    events = read_events(tmp_path / "w/spread/events.jsonl", "pretrain")
    assert sum(event["event"] == "interruption" for event in events) == 1
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 0
