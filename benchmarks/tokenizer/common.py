"""What the tokenizer's benchmarks share: texts, runs in turns that are processes of their own, tables."""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as parquet

ONE_THREAD = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1"}


def read_texts(path: Path, megabytes: float) -> tuple[list[str], int]:
    """The first texts of the file, up to a number of megabytes, and how many bytes they are."""
    texts: list[str] = []
    total = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(1000, columns=["text"]):
            for text in batch["text"].to_pylist():
                if total >= megabytes * 1e6:
                    return texts, total
                texts.append(text)
                total += len(text.encode())
    return texts, total


def peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_turns(script: str, runs: list[list[str]], rounds: int) -> list[dict[str, Any]]:
    """Runs the script once for each list of arguments, on one thread, then all of them again; the medians of each.

    A run prints one line of JSON; where a number differs between rounds, its median is taken.
    """
    lines: list[list[dict[str, Any]]] = [[] for _ in runs]
    for _ in range(rounds):
        for number, arguments in enumerate(runs):
            command = [sys.executable, script, *arguments]
            done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, stdout=subprocess.PIPE, check=True)
            lines[number].append(json.loads(done.stdout))
            print("  ".join(f"{key}={value}" for key, value in lines[number][-1].items()), file=sys.stderr)
    return [{key: _middle([line[key] for line in found]) for key in found[0]} for found in lines]


def _middle(values: list[Any]) -> Any:
    return median(values) if isinstance(values[0], float) else values[-1]


def show(rows: list[dict[str, Any]], out: Path | None, **facts: Any) -> None:
    """Prints the rows as a Markdown table and writes them, with the versions that gave them, to a JSON file."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for row in rows:
        print(
            "| " + " | ".join(f"{cell:,.6g}" if isinstance(cell, float) else str(cell) for cell in row.values()) + " |"
        )
    if out:
        machine = {"python": platform.python_version(), "cores": os.cpu_count(), "processor": processor()}
        versions = {}
        for name in ("tiktoken", "tokenizers", "fastokens", "gigatoken", "rustbpe"):
            try:
                versions[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                continue
        out.write_text(json.dumps({**facts, **machine, "versions": versions, "rows": rows}, indent=2) + "\n")


def processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def arguments(description: str, add: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("texts", type=Path, help="made by texts.py")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--one", nargs="+", help=argparse.SUPPRESS)
    add(parser)
    return parser.parse_args()
