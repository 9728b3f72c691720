"""The whole journey on a small recipe: undisturbed, killed again and again, done already; then used."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from herdsman.stages import STAGE_NAMES
from herdsman.workspace import Workspace
from tests.conftest import Herdsman

RECIPE = """
name = "small"

[pages]
sources = [{folder!r}]

[documents]
held_out_share = 0.1

[tokenizer]
vocab_size = 700

[model]
layers = 2
dim = 32
heads = 2
kv_heads = 1
ffn_multiple_of = 16
tied_embeddings = true
context_length = 256
initial_std = 0.15

[pretrain]
peak_learning_rate = 1e-2
final_learning_rate = 1e-3
warmup_steps = 10
validations = 3
validation_tokens = 4096
samples = 2

[pretrain.checkpoints]
every_seconds = 0.5

[[pretrain.phases]]
name = "main"
tokens = 120_000
batch_tokens = 1024
sequence_length = 128

[[pretrain.phases]]
name = "anneal"
tokens = 40_000
batch_tokens = 1024
sequence_length = 128
learning_rate = "linear_to_zero"
mix = "anneal"
average_checkpoints = 3

[posttrain]
checkpoint_seconds = 0.5

[posttrain.prompts]
tasks = 120
open_book = 10
closed_book = 10
conversation = 60
harmful = 10
borderline = 10
held_out = 24
difficulty = 1
annotated_share = 0.4
preference_share = 0.4

[posttrain.sampling]
samples_per_prompt = 4
temperature = 1.0
top_p = 1.0
max_new_tokens = 32

[posttrain.seed_policy]
learning_rate = 3e-3
epochs = 3
batch_tokens = 1024
average = 1

[posttrain.reward]
learning_rate = 1e-3
batch_tokens = 1024
average = 1

[posttrain.sft]
learning_rate = 3e-3
batch_tokens = 1024
average = 2

[posttrain.dpo]
learning_rate = 1e-4
batch_tokens = 1024
average = 1

[evaluate]
held_out_bytes = 20_000
examples = 12
shots = 1
max_new_tokens = 24

[safety]
prompts = 20
max_new_tokens = 16
"""


@dataclass
class Raised:
    """An undisturbed herd: its workspace, recipe file, and seconds by stage."""

    space: Workspace
    recipe: Path
    seconds: dict[str, float]


@pytest.fixture(scope="module")
def raised(tmp_path_factory: pytest.TempPathFactory, html_folder: Path) -> Raised:
    root = tmp_path_factory.mktemp("journey")
    recipe = root / "small.toml"
    recipe.write_text(RECIPE.format(folder=str(html_folder)))
    space = Workspace(root / "straight")
    result = subprocess.run(command(recipe, space.root), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return Raised(space, recipe, {name: space.manifest(name)["wall_seconds"] for name in STAGE_NAMES})


def command(recipe: Path, workspace: Path) -> list[str]:
    return [sys.executable, "-m", "herdsman", "raise", str(recipe), "--workspace", str(workspace)]


def digests(space: Workspace) -> dict[str, dict[str, str]]:
    """SHA-256 of every result file, by stage."""
    return {
        name: {path: entry["sha256"] for path, entry in space.manifest(name)["outputs"].items()} for name in STAGE_NAMES
    }


def running_stage(space: Workspace) -> str | None:
    """The stage that is running now, by the events so far."""
    events = space.root / "events.jsonl"
    lines = events.read_text().splitlines() if events.exists() else []
    last = json.loads(lines[-1]) if lines else {}
    return last["stage"] if last.get("event") == "started" else None


def raise_and_kill(raised: Raised, space: Workspace, stage: str, share: float) -> bool:
    """Starts the journey and kills it, with -9 and all its workers, when `share` of the stage's time is over.

    Returns False if the stage was over before.
    """
    process = subprocess.Popen(
        command(raised.recipe, space.root), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and running_stage(space) != stage and space.manifest(stage) is None:
        time.sleep(0.02)
    time.sleep(share * raised.seconds[stage])
    struck = process.poll() is None and space.manifest(stage) is None
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return struck


@pytest.mark.slow
def test_killed_in_every_stage_ends_with_the_same_bytes(raised: Raised, tmp_path: Path) -> None:
    space = Workspace(tmp_path / "killed")
    moments = random.Random(1)
    long = [name for name in STAGE_NAMES if raised.seconds[name] > 3]
    points = [(name, moments.uniform(0.05, 0.9)) for name in STAGE_NAMES for _ in range(2 if name in long else 1)]
    struck = [stage for stage, share in points if raise_and_kill(raised, space, stage, share)]
    assert len(set(struck)) >= 6, f"only killed in {struck}"
    result = subprocess.run(command(raised.recipe, space.root), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert digests(space) == digests(raised.space)
    assert not list(space.root.rglob("*.partial"))
    assert not list(space.root.rglob("scratch"))


def test_done_already(raised: Raised, herdsman: Herdsman) -> None:
    before = {path: path.stat().st_mtime_ns for path in raised.space.root.rglob("*") if path.is_file()}
    result = herdsman("raise", raised.recipe, "--workspace", raised.space.root)
    assert result.returncode == 0
    assert "Nothing to do" in result.stderr
    changed = {path.name for path, time_ns in before.items() if path.exists() and path.stat().st_mtime_ns != time_ns}
    assert changed <= {"recipe.json"}


def test_a_change_redoes_only_what_depends_on_it(raised: Raised, herdsman: Herdsman, tmp_path: Path) -> None:
    before = digests(raised.space)
    result = herdsman("raise", raised.recipe, "--workspace", raised.space.root, "--set", "safety.prompts=10")
    assert result.returncode == 0, result.stderr
    assert "9/10 safety" in result.stderr
    assert "8/10 evaluate" not in result.stderr
    assert digests(raised.space)["evaluate"] == before["evaluate"]
    assert herdsman("raise", raised.recipe, "--workspace", raised.space.root).returncode == 0
    assert digests(raised.space) == before, "back to the first recipe, back to the first results"


def test_learning_shows(raised: Raised) -> None:
    bits = raised.space.manifest("evaluate")["metrics"]["bits_per_byte"]
    assert bits["base"] < bits["untrained"] - 0.5


def test_every_command_reads_the_result(raised: Raised, herdsman: Herdsman, tmp_path: Path) -> None:
    root = raised.space.root
    assert json.loads(herdsman("status", root, "--json").stdout)["next"] is None
    assert herdsman("report", root, "--to", tmp_path / "page.html").returncode == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")
    for view in ("dropped", "duplicates", "samples"):
        result = herdsman("inspect", root, view, "--json", "--limit", "3")
        assert result.returncode == 0, result.stderr
        assert isinstance(json.loads(result.stdout), list)
    samples = json.loads(herdsman("inspect", root, "samples", "--json", "--limit", "3").stdout)
    assert len(samples) == 3
    chat = subprocess.run(
        [sys.executable, "-m", "herdsman", "chat", str(root), "--max-tokens", "20"],
        input="hello\nwhat is 3 + 4?\n", capture_output=True, text=True,
    )  # fmt: skip
    assert chat.returncode == 0, chat.stderr
    assert len(chat.stdout.splitlines()) >= 2
