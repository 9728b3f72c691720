"""Training steps on a CPU, against transformers and litgpt: same weights, tokens, optimizer and threads.

    pip install --no-deps litgpt lightning lightning-utilities torchmetrics pytorch-lightning
    python benchmarks/training/speed.py [--sizes 5M 34M "128k vocabulary"] [--trainers ...] [--threads 1 2] [--rounds 5]

litgpt is left out where it is not installed. A step is forward, loss, backward, clipping and update. All contenders of
a size live in one process for each number of threads and take their steps in turns; the medians of the rounds count.
Rates are tokens a CPU second, which other work on the machine disturbs less than the clock; seconds by the clock stand
beside. Peak memory is that of a process of its own that takes two steps. All float32 losses must agree within 1e-4.
Writes a table in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import resource
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import torch
from contenders import CONTENDERS, SIZES

BASES = ("transformers, fp32", "litgpt, bf16")
PARITY = 1e-4


def names(only: list[str] | None, compiled: bool) -> list[str]:
    has_litgpt = importlib.util.find_spec("litgpt") is not None
    wanted = only or [name for name in CONTENDERS if compiled or "compiled" not in name]
    return [name for name in wanted if has_litgpt or not name.startswith("litgpt")]


def times(size_name: str, contenders: list[str], rounds: int) -> dict[str, Any]:
    """Of each contender: the first loss, CPU seconds until its second step is over, medians of CPU and clock."""
    size = SIZES[size_name]
    steps, found = {}, {}
    for name in contenders:
        started = time.process_time()
        steps[name] = CONTENDERS[name](size)
        found[name] = {"loss": steps[name]()}
        steps[name]()
        found[name]["start_seconds"] = time.process_time() - started
    exact = [found[name]["loss"] for name in contenders if "fp32" in name]
    if exact and max(exact) - min(exact) > PARITY:
        raise SystemExit(f"losses in float32 differ: {found}")
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in steps.items():
            cpu, clock = time.process_time(), time.perf_counter()
            step()
            taken[name].append((time.process_time() - cpu, time.perf_counter() - clock))
    for name, pairs in taken.items():
        found[name]["cpu_seconds"], found[name]["clock_seconds"] = (
            median(values) for values in zip(*pairs, strict=True)
        )
    return found


def memory(size_name: str, name: str) -> dict[str, Any]:
    step = CONTENDERS[name](SIZES[size_name])
    step()
    step()
    return {"peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


def child(threads: int, *arguments: str) -> dict[str, Any]:
    """Runs this script for one measurement in a process of its own."""
    # How threads wait for work: for all as in Herdsman.
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": "10000"}
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **waiting}
    command = [sys.executable, __file__, "--one", *arguments]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(size: str, threads: int, found: dict[str, Any], peaks: dict[str, int]) -> list[dict[str, Any]]:
    tokens, rows = SIZES[size].tokens, []
    for name, measured in found.items():
        row = {
            "model": size,
            "threads": threads,
            "trainer": name,
            "tokens a CPU second": round(tokens / measured["cpu_seconds"]),
            "ms a step": round(1e3 * measured["clock_seconds"]),
        }
        for base in BASES:
            ratio = found[base]["cpu_seconds"] / measured["cpu_seconds"] if base in found else None
            row[f"times {base}"] = f"{ratio:.2f}" if ratio else ""
        row["first loss"] = f"{measured['loss']:.5f}"
        row["CPU seconds of two first steps"] = round(measured["start_seconds"], 1)
        row["peak memory, MB"] = round(peaks[name] / 1e6) if name in peaks else ""
        rows.append(row)
    return rows


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    parser = argparse.ArgumentParser(description="Training steps on a CPU, against transformers and litgpt.")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--trainers", nargs="+", choices=CONTENDERS, help="all but the compiled if left out")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--compiled", action="store_true", help="also with torch.compile")
    parser.add_argument("--no-memory", action="store_true", help="leave the peak memory out")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, size, *rest = options.one
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        print(json.dumps(memory(size, *rest) if what == "memory" else times(size, rest[1:], int(rest[0]))))
        return
    contenders, rows = names(options.trainers, options.compiled), []
    for size in options.sizes:
        alone = [] if options.no_memory else contenders
        peaks = {name: child(1, "memory", size, name)["peak_bytes"] for name in alone}
        for threads in options.threads:
            found = child(threads, "times", size, str(options.rounds), *contenders)
            rows += table(size, threads, found, peaks)
            print(f"{size}, {threads} threads: done", file=sys.stderr)
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(str(cell) for cell in row.values()) + " |")
    if options.out:
        packages = [name for name in ("torch", "transformers", "litgpt") if importlib.util.find_spec(name)]
        facts = {
            "python": platform.python_version(),
            "processor": processor(),
            "cores": os.cpu_count(),
            "versions": {name: metadata.version(name) for name in packages},
            "rounds": options.rounds,
        }
        options.out.write_text(json.dumps({**facts, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
