"""One step of the refinery, file by file, on four engines: the process pool, Ray tasks, Daft, and Daft on Ray.

    pip install 'herdsman[cluster]' 'daft[ray]'
    python benchmarks/refinery/engines.py PAGES OUT [--files 8] [--rounds 2]

PAGES is the `pages` folder of a workspace with files of about the same size. The step is the costliest one, page to
document with all filters; on every engine it is the same function over the same files, two at a time. Each run is a
command of its own, in turns. CPU seconds are looked up ten times a second for every process below it, for Ray's workers
end in a way that the kernel adds to nobody's account; memory is the sum of proportional set sizes.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import psutil
from chain import tree_memory, write

QUIET = {"DO_NOT_TRACK": "1", "SCARF_NO_ANALYTICS": "true", "RAY_USAGE_STATS_ENABLED": "0", "DAFT_PROGRESS_BAR": "0"}
WORKERS = 2
ENGINES = ("pool", "ray", "daft", "daft-ray")


def run(engine: str, files: list[Path], out: Path) -> None:
    from herdsman.documents.options import DocumentsOptions
    from herdsman.documents.units import Unit, extract_unit
    from herdsman.parallel import connect_ray, map_ordered

    units = [Unit(path.stem, path, out) for path in files]
    step = partial(extract_unit, DocumentsOptions())
    if engine == "pool":
        list(map_ordered(step, units, WORKERS))
    elif engine == "ray":
        list(map_ordered(step, units, connect_ray(None, WORKERS), "ray"))
    else:
        on_daft(engine, step, units)
    if len(list((out / "extracted").iterdir())) != len(files):
        raise SystemExit(f"{engine} left out files")


def on_daft(engine: str, step: partial[Any], units: list[Any]) -> None:
    import daft

    if engine == "daft-ray":
        import ray

        ray.init(num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        daft.set_runner_ray()

    @daft.cls(use_process=engine == "daft", max_concurrency=WORKERS)
    class Step:
        @daft.method(return_dtype=daft.DataType.int64())
        def run(self, at: int) -> int:
            step(units[at])
            return at

    places = {"at": list(range(len(units)))}
    if engine == "daft-ray":
        table = daft.from_pydict(places).into_partitions(len(units))
    else:
        table = daft.from_pydict(places).into_batches(1)
    table.select(Step().run(daft.col("at"))).collect()


def watched(command: list[str], log: Path) -> dict[str, float]:
    """Runs a command; CPU and wall seconds and peak memory of its tree."""
    spent: dict[tuple[int, float], float] = {}
    started, peak, looks = time.monotonic(), 0, 0
    with open(log, "wb") as output:
        process = psutil.Popen(command, stdout=output, stderr=output, env={**os.environ, **QUIET})
        while process.poll() is None:
            with suppress(psutil.Error):
                for one in [process, *process.children(recursive=True)]:
                    with suppress(psutil.Error):
                        times = one.cpu_times()
                        spent[one.pid, one.create_time()] = times.user + times.system
            if looks % 10 == 0:
                peak = max(peak, tree_memory(process.pid))
            looks += 1
            time.sleep(0.1)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} failed, see {log}")
    return {"cpu_seconds": sum(spent.values()), "wall_seconds": time.monotonic() - started, "peak_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures engines for the refinery's units of work.")
    parser.add_argument("pages", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--engine", choices=ENGINES, help="run only this one, unmeasured")
    options = parser.parse_args()
    files = sorted(options.pages.resolve().glob("*.parquet"))[: options.files]
    options.out.mkdir(parents=True, exist_ok=True)
    if options.engine:
        run(options.engine, files, options.out.resolve() / "work")
        return
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ENGINES}
    for _ in range(options.rounds):
        for name in ENGINES:
            shutil.rmtree(options.out / "work", ignore_errors=True)
            command = [sys.executable, __file__, str(options.pages), str(options.out), "--files", str(options.files)]
            runs[name].append(watched([*command, "--engine", name], options.out / f"{name}.log"))
            print(name, runs[name][-1], flush=True)
    lines = ["| engine | CPU s | wall s | peak memory |", "|---|---|---|---|"]
    for name, some in runs.items():
        cpu, wall, peak = (median(one[key] for one in some) for key in ("cpu_seconds", "wall_seconds", "peak_bytes"))
        lines.append(f"| {name} | {cpu:,.1f} | {wall:,.1f} | {peak / 2**20:,.0f} MiB |")
    write(options.out / "engines", runs, lines)


if __name__ == "__main__":
    os.environ.update(QUIET)
    main()
