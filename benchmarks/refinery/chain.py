"""The whole chain, pages to mixed documents, against datatrove's published recipe on the same files.

    python benchmarks/refinery/chain.py CORPUS OUT --peers ENV/bin/python [--pages 20000] [--rounds 3]
    python benchmarks/refinery/chain.py CORPUS OUT --memory 5000 20000 80000

CORPUS is what `corpus.py` made. Chains run one after the other, in turns, each as a command of its own from start to
exit. CPU is that of its whole process tree, taken from the kernel's account of every process that ended; memory is the
largest sum of proportional set sizes of the tree, looked at twice a second. Results: OUT/chain.json and chain.md.
"""

from __future__ import annotations

import argparse
import ctypes
import gzip
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
RECIPE = HERE.parents[1] / "recipes" / "tiny.toml"
PAGES_A_FILE = 1_000


def records(path: Path) -> Iterator[bytes]:
    """The gzip members of a WARC file, as they are stored."""
    data = memoryview(path.read_bytes())
    while data:
        unpack = zlib.decompressobj(31)
        unpack.decompress(data)
        size = len(data) - len(unpack.unused_data)
        yield bytes(data[:size])
        data = data[size:]


def subset(corpus: Path, pages: int, folder: Path) -> Path:
    """The first pages of the corpus, in files of a thousand."""
    if folder.exists():
        return folder
    beside = folder.with_suffix(".partial")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    held: list[bytes] = []
    number = 0
    for path in sorted((corpus / "warc").glob("part-*.warc.gz")):
        for record in records(path):
            held.append(record)
            number += 1
            if len(held) == PAGES_A_FILE or number == pages:
                (beside / f"part-{(number - 1) // PAGES_A_FILE:05d}.warc.gz").write_bytes(b"".join(held))
                held = []
            if number == pages:
                beside.rename(folder)
                return folder
    raise SystemExit(f"the corpus holds only {number} pages")


def tree_memory(root: int) -> int:
    """Sum of the proportional set sizes of a process and all below it, in bytes."""
    total = 0
    try:
        processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.Error:
        return 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, OSError):
            continue
    return total


def measured(command: list[str], log: Path, settings: dict[str, str]) -> dict[str, float]:
    """Runs a command; CPU and wall seconds and peak memory of its tree.

    Descendants that outlive their parents become children of this process (a subreaper), so the kernel adds them too.
    """
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
    before, started, peak = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic(), 0
    with open(log, "wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env={**os.environ, **settings})
        while process.poll() is None:
            peak = max(peak, tree_memory(process.pid))
            time.sleep(0.5)
    wall = time.monotonic() - started
    try:
        while True:
            os.wait()
    except ChildProcessError:
        pass
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed, see {log}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu_seconds": round(cpu, 2), "wall_seconds": round(wall, 2), "peak_bytes": peak}


def run_herdsman(warc: Path, work: Path, arguments: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "herdsman", "raise", str(RECIPE), "--workspace", str(work), "--until", "documents"]
    for setting in [f'pages.sources=["{warc}/*.warc.gz"]', "machine.workers=2", *arguments]:
        command += ["--set", setting]
    result: dict[str, Any] = measured(command, work.with_suffix(".log"), {})
    manifests = {stage: json.loads((work / stage / "manifest.json").read_text()) for stage in ("pages", "documents")}
    counts = manifests["documents"]["counts"]
    stages = {stage: manifest["cpu_seconds"] for stage, manifest in manifests.items()}
    return result | {"pages": counts["pages"], "kept": counts["documents"], "stages_cpu_seconds": stages}


def run_datatrove(python: str, extractor: str, warc: Path, work: Path) -> dict[str, Any]:
    script = str(HERE / "datatrove_chain.py")
    settings = {"HF_HOME": str(work.parent / "datatrove-home"), "HF_HUB_OFFLINE": "1"}
    result: dict[str, Any] = measured(
        [python, script, str(warc), str(work), extractor], work.with_suffix(".log"), settings
    )
    kept = 0
    for path in (work / "final").glob("*.jsonl.gz"):
        with gzip.open(path) as file:
            kept += sum(1 for _ in file)
    return result | {"kept": kept}


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def compare(options: argparse.Namespace) -> None:
    runs: dict[str, list[dict[str, Any]]] = {}
    for number in range(options.rounds):
        for name in ("herdsman", "resiliparse", "trafilatura"):
            pages = options.trafilatura if name == "trafilatura" else options.pages
            if not pages or (name != "herdsman" and not options.peers):
                continue
            if name == "trafilatura" and number >= options.trafilatura_rounds:
                continue
            warc = subset(options.corpus, pages, options.out / f"pages-{pages}")
            work = options.out / f"{name}-{number}"
            shutil.rmtree(work, ignore_errors=True)
            if name == "herdsman":
                run = run_herdsman(warc, work, options.set)
            else:
                run = run_datatrove(options.peers, name, warc, work)
            shutil.rmtree(work)
            run |= {"pages": pages, "pages_per_cpu_second": round(pages / run["cpu_seconds"], 2)}
            runs.setdefault(name if name == "herdsman" else f"datatrove, {name}", []).append(run)
            print(name, run, flush=True)
    ours = median(runs["herdsman"], "pages_per_cpu_second")
    lines = ["| chain | pages | kept | CPU s | wall s | peak memory | pages per CPU s | herdsman is |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for name, some in runs.items():
        rate = median(some, "pages_per_cpu_second")
        lines.append(
            f"| {name} | {some[0]['pages']:,} | {some[0]['kept']:,} | {median(some, 'cpu_seconds'):,.1f} | "
            f"{median(some, 'wall_seconds'):,.1f} | {median(some, 'peak_bytes') / 2**20:,.0f} MiB | {rate:,.0f} | "
            f"{ours / rate:.2f} times as fast |"
        )
    write(options.out / "chain", runs, lines)


def memory(options: argparse.Namespace) -> None:
    runs, lines = [], ["| pages | peak memory | CPU s | wall s |", "|---|---|---|---|"]
    for pages in options.memory:
        warc = subset(options.corpus, pages, options.out / f"pages-{pages}")
        work = options.out / f"memory-{pages}"
        shutil.rmtree(work, ignore_errors=True)
        run = run_herdsman(warc, work, options.set)
        shutil.rmtree(work)
        runs.append(run)
        print(run, flush=True)
        peak, cpu, wall = run["peak_bytes"] / 2**20, run["cpu_seconds"], run["wall_seconds"]
        lines.append(f"| {pages:,} | {peak:,.0f} MiB | {cpu:,.1f} | {wall:,.1f} |")
    write(options.out / "memory", runs, lines)


def write(path: Path, runs: object, lines: list[str]) -> None:
    path.with_suffix(".json").write_text(json.dumps(runs, indent=1) + "\n")
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures the whole chain beside datatrove.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--peers", help="python of the environment that has datatrove")
    parser.add_argument("--pages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--trafilatura", type=int, default=20_000, help="pages for datatrove with trafilatura; 0: none")
    parser.add_argument("--trafilatura-rounds", type=int, default=1)
    parser.add_argument("--memory", type=int, nargs="+", help="measure only herdsman's memory, at these sizes")
    parser.add_argument("--set", action="append", default=[], help="a recipe setting for herdsman")
    options = parser.parse_args()
    options.corpus, options.out = options.corpus.resolve(), options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    (memory if options.memory else compare)(options)


if __name__ == "__main__":
    main()
