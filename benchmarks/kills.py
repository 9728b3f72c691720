"""Kills a small pretraining with -9 at random steps and compares what it learns with a run that nobody disturbed.

    python benchmarks/kills.py                          # 50 kills of a rank of two, then 50 of a single process
    python benchmarks/kills.py --kills 5 --processes 2

Time is from the kill to the end of the first step after it. Writes a table in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import platform
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from herdsman.cluster.goodput import goodput
from tests.conftest import write_site
from tests.raising import Raise, events, kill_again_and_again, learnt, weights
from tests.test_journey import RECIPE

MAIN_TOKENS = 360_000
SETTINGS = ("pretrain.checkpoints.every_seconds=600", "pretrain.checkpoints.every_tokens=10240", "machine.threads=1")
SEED = 1


def measured(recipe: Path, folder: Path, processes: int, kills: int) -> list[str]:
    """A row of the table: the run with kills beside the one without."""
    settings = (*SETTINGS, f"machine.processes={processes}")
    straight, disturbed = folder / f"straight-{processes}", folder / f"killed-{processes}"
    status, errors = Raise(recipe, straight, *settings, data=folder / "data").end(1800)
    if status:
        sys.exit(errors)
    expected, draw = learnt(straight), random.Random(SEED)
    steps = sorted(draw.sample(range(2, len(expected) - 5), kills))
    raising, seconds, given_up = kill_again_and_again(
        lambda: Raise(recipe, disturbed, *settings, data=folder / "data"), steps, draw
    )
    status, errors = raising.end(1800)
    if status:
        sys.exit(errors)
    found = learnt(disturbed)
    if len(found) != len(expected):
        sys.exit(f"{len(found)} steps in place of {len(expected)}")
    difference = max(
        abs(a - b) for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    )
    account = goodput(events(disturbed))
    lost = account.recomputed / max(account.productive + account.recomputed, 1e-9)
    return [
        f"{processes}", f"{len(seconds)}", f"{len(found)}", f"{difference:.0e}" if difference else "0, bit for bit",
        "the same bytes" if weights(disturbed) == weights(straight) else "OTHER",
        f"{statistics.median(seconds):.1f} s", f"{max(seconds):.1f} s", f"{lost:.0%}", f"{given_up}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--folder", type=Path, help="an empty one to work in, and to look into afterwards")
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 1])
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.folder or Path(name)
        write_site(folder / "site")
        recipe = folder / "small.toml"
        text = RECIPE.format(folder=str(folder / "site")).replace("tokens = 120_000", f"tokens = {MAIN_TOKENS}")
        recipe.write_text(text)
        status, errors = Raise(recipe, folder / "data", until="tokens").end()
        if status:
            sys.exit(errors)
        rows = [measured(recipe, folder, processes, arguments.kills) for processes in arguments.processes]
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    print(
        f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} cores of {names[0] if names else platform.processor()}, ",
        end="",
    )
    print(f"Python {platform.python_version()}, torch {torch.__version__}\n")
    head = (
        "processes", "kills", "steps", "largest difference of loss or gradient norm", "weights at the end",
        "kill to first new step, median", "longest", "steps done again", "launcher gave up",
    )  # fmt: skip
    for row in (head, ["---"] * len(head), *rows):
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
