"""What checkpoints cost training, and whether damage is ever missed.

    python benchmarks/checkpoints.py                  # seconds of blocking and writing, on 1 and on 4 processes
    python benchmarks/checkpoints.py --torn 1000      # damaged files of every kind: how many are loaded

The first compares, in turns on the same tensors (weights and two moments in float32): torch's synchronous save, torch's
asynchronous one, and ours, each while a thread of training would run; and the floor, the same bytes written and hashed
without more. Seconds are the median over rounds of the slowest process. Writes a table in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from torch import Tensor, distributed
from torch.distributed import checkpoint as dcp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from tests.processes import run
from tests.training.checkpoints.test_torn import WAYS

TENSORS = 64
ROUNDS = 5


def sharded(megabytes: int) -> dict[str, Tensor]:
    """Weights and moments of that size in all, one share a process."""
    mesh = init_device_mesh("cpu", (distributed.get_world_size(),))
    rows = megabytes * 1_000_000 // (3 * TENSORS) // 4 // 1000
    return {
        f"{kind}.{number}": distribute_tensor(torch.randn(rows, 1000), mesh, [Shard(0)])
        for kind in ("model", "optimizer.exp_avg", "optimizer.exp_avg_sq")
        for number in range(TENSORS)
    }


def measure(folder: Path, megabytes: int) -> dict[str, list[float]]:
    """Seconds of this process by what was measured, one a round."""
    tensors, rank = sharded(megabytes), distributed.get_rank()
    group = distributed.new_group(backend="gloo")
    checkpoints = Checkpoints(folder / "ours", CheckpointOptions(keep_last=1))
    seconds: dict[str, list[float]] = {}

    def took(name: str, since: float) -> None:
        seconds.setdefault(name, []).append(time.perf_counter() - since)

    content = b"".join(tensor.to_local().numpy().tobytes() for tensor in tensors.values())
    for number in range(ROUNDS + 1):
        distributed.barrier()
        started = time.perf_counter()
        with open(folder / f"floor-{rank}", "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        took("floor: write and sync", started)
        distributed.barrier()
        started = time.perf_counter()
        hashlib.sha256(content).digest()
        took("floor: SHA-256", started)
        distributed.barrier()
        started = time.perf_counter()
        dcp.save(tensors, checkpoint_id=folder / f"torch-{number}", process_group=group)
        took("torch, synchronous: blocked", started)
        distributed.barrier()
        started = time.perf_counter()
        future = dcp.async_save(tensors, checkpoint_id=folder / f"torch-async-{number}", process_group=group)
        took("torch, asynchronous: blocked", started)
        future.result()  # type: ignore[union-attr]
        took("torch, asynchronous: durable", started)
        distributed.barrier()
        if rank == 0:
            shutil.rmtree(folder / f"torch-{number}")
            shutil.rmtree(folder / f"torch-async-{number}")
        distributed.barrier()
        started = time.perf_counter()
        checkpoints.save(number, number, tensors, {})
        took("ours: blocked", started)
        checkpoints.wait()
        took("ours: durable", started)
    started = time.perf_counter()
    checkpoints.load(tensors)
    took("ours: verified and loaded", started)
    checkpoints.close()
    return seconds


def costs(megabytes: int) -> None:
    info = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in info if line.startswith("model name")), "")
    print(f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} cores of {model}, ", end="")
    print(f"Python {platform.python_version()}, torch {torch.__version__}, {megabytes} MB in all\n")
    worlds = (1, 4)
    table: dict[str, list[float]] = {}
    for world in worlds:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            ranks = run(measure, world, Path(folder).resolve(), megabytes, timeout_seconds=600)
        for name in ranks[0]:
            rounds = [max(times) for times in zip(*(rank[name] for rank in ranks), strict=True)]
            # The first round makes memory and loads code; a run of weeks does not care.
            table.setdefault(name, []).append(statistics.median(rounds[1:] or rounds))
    print("| | " + " | ".join(f"{world} process{'es'[: 2 * (world > 1)]}" for world in worlds) + " |")
    print("|---|" + "---|" * len(worlds))
    for name, times in table.items():
        print(f"| {name} | " + " | ".join(f"{seconds:.3f} s" for seconds in times) + " |")
    shares = zip(table["ours: blocked"], table["torch, synchronous: blocked"], strict=True)
    print("| ours blocks, of torch's synchronous save | " + " | ".join(f"{a / b:.1%}" for a, b in shares) + " |")


def save_two(folder: Path) -> None:
    checkpoints = Checkpoints(folder, CheckpointOptions())
    for step in (1, 2):
        tensors = {f"model.{distributed.get_rank()}": torch.full((2000,), float(step))}
        checkpoints.save(step, step, tensors, {"position": step})
        checkpoints.wait()


def torn(times: int) -> None:
    chance, refused, loaded_torn = random.Random(0), 0, 0
    with tempfile.TemporaryDirectory(dir=".") as name:
        whole, copy = Path(name).resolve() / "whole", Path(name).resolve() / "torn"
        run(save_two, 2, whole)
        files = sorted(path.name for path in (whole / "step-0000000002").iterdir())
        for _ in range(times):
            shutil.copytree(whole, copy)
            way, file = chance.choice(WAYS), chance.choice(files)
            way(copy / "step-0000000002" / file, chance)
            tensors = {f"model.{rank}": torch.zeros(2000) for rank in range(2)}
            loaded = Checkpoints(copy, CheckpointOptions()).load(tensors)
            good = loaded is not None and loaded.step == 1 and all((tensor == 1).all() for tensor in tensors.values())
            refused, loaded_torn = refused + good, loaded_torn + (not good)
            shutil.rmtree(copy)
    print(f"{times} damaged checkpoints ({len(files)} files, {len(set(WAYS))} ways): {loaded_torn} loaded, ", end="")
    print(f"{refused} refused with the one before loaded")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=400)
    parser.add_argument("--torn", type=int, metavar="TIMES")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torn(arguments.torn) if arguments.torn else costs(arguments.megabytes)


if __name__ == "__main__":
    main()
