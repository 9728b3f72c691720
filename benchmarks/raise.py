"""What raising a herd takes: time and memory of every stage, and of a second run that finds nothing to do.

    python benchmarks/raise.py herds/tiny                   # the default recipe, with the Python that runs this
    python benchmarks/raise.py herds/tiny -- make raise     # any command that raises into that workspace

The workspace must not exist. Memory is the proportional set size of the command and its children together, sampled
twice a second. Writes a table in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil

SAMPLE_SECONDS = 0.5


def measured(command: list[str]) -> tuple[float, int]:
    """Wall seconds and peak memory in bytes of a command with all its children."""
    started, peak = time.monotonic(), 0
    process = psutil.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, sum(map(memory, [process, *children(process)])))
        time.sleep(SAMPLE_SECONDS)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed")
    return time.monotonic() - started, peak


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def memory(process: psutil.Process) -> int:
    try:
        full = process.memory_full_info()
        return getattr(full, "pss", full.rss)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return 0


def processor() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("command", nargs="*", help="default: herdsman raise recipes/tiny.toml --workspace WORKSPACE")
    arguments = parser.parse_args()
    if arguments.workspace.exists():
        sys.exit(f"{arguments.workspace} exists already")
    raising = [sys.executable, "-m", "herdsman", "raise", "recipes/tiny.toml", "--workspace", str(arguments.workspace)]
    command = arguments.command or raising
    wall, peak = measured(command)
    again, _ = measured(command)
    stages = [json.loads(path.read_text()) for path in arguments.workspace.glob("*/manifest.json")]
    events = [json.loads(line) for line in (arguments.workspace / "events.jsonl").read_text().splitlines()]
    order = [event["stage"] for event in events if event["event"] == "finished"]
    stages.sort(key=lambda manifest: order.index(manifest["stage"]))
    used = sum(path.stat().st_size for path in arguments.workspace.rglob("*") if path.is_file())

    print(f"{time.strftime('%Y-%m-%d')}, {psutil.cpu_count()} cores of {processor()}, ", end="")
    print(f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}, ", end="")
    print(f"torch {stages[-1]['software']['torch']}\n")
    print("| stage | wall | CPU |\n|---|---|---|")
    for manifest in stages:
        print(f"| {manifest['stage']} | {manifest['wall_seconds']:.0f} s | {manifest['cpu_seconds']:.0f} s |")
    totals = [sum(manifest[key] for manifest in stages) for key in ("wall_seconds", "cpu_seconds")]
    print(f"| **all stages** | **{totals[0]:.0f} s** | **{totals[1]:.0f} s** |")
    print(f"\nThe whole of `{' '.join(arguments.command) or 'herdsman raise'}`: {wall:.0f} s.", end="")
    free = shutil.disk_usage(arguments.workspace).free
    print(f" Peak memory {peak / 2**30:.2f} GiB; workspace {used / 1e6:.0f} MB ({free / 2**30:.0f} GiB were free).")
    print(f"A second run, with nothing to do: {again:.1f} s.")


if __name__ == "__main__":
    main()
