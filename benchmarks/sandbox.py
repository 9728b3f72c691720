"""What a call in the sandbox costs: the time of an empty program, in each way there is to run one.

    python benchmarks/sandbox.py                # both sandboxes
    python benchmarks/sandbox.py --calls 200

The ways take turns of a few calls, so that all of them meet the same load; beside them runs the same Python without a
sandbox. Writes a table in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from herdsman.errors import HerdsmanError
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.judge import Judge
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import Sandbox
from herdsman.tools.sandbox.wasm import Wasm

PROGRAM = "x = 1"
CALLS_A_TURN = 5


def ways(sandbox: Sandbox) -> dict[str, Callable[[], object]]:
    """Ways to run something small, warm where they can be."""
    limits = Limits()
    session, jobs, judge = sandbox.session(limits), sandbox.jobs(limits), Judge(sandbox, limits)
    cases = [([1, 2], 3), ([2, 2], 4)]
    return {
        f"{sandbox.name}: one program in a sandbox of its own (`run`)": lambda: sandbox.run(PROGRAM, limits),
        f"{sandbox.name}: a call in a session": lambda: session.run(PROGRAM),
        f"{sandbox.name}: a job of a fork server": lambda: jobs.run(PROGRAM),
        f"{sandbox.name}: a verdict on two values": lambda: judge.values("def add(a, b): return a + b", "add", cases),
    }


def measured(calls: int) -> list[str]:
    """Rows of the table."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM]
    all_ways: dict[str, Callable[[], object]] = {
        "no sandbox: `python -I -S -c`": lambda: subprocess.run(command, check=True)
    }
    for make in (Bubblewrap, Wasm):
        try:
            all_ways.update(ways(make()))
        except HerdsmanError as error:
            print(f"{make.__name__}: {error}", file=sys.stderr)
    seconds: dict[str, list[float]] = {name: [] for name in all_ways}
    for call in all_ways.values():
        call()  # what is made once
    for _ in range(calls // CALLS_A_TURN):
        for name, call in all_ways.items():
            for _ in range(CALLS_A_TURN):
                started = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - started)
    return [
        f"| {name} | {1000 * statistics.median(times):.1f} | {1000 * min(times):.1f} "
        f"| {1000 * statistics.quantiles(times, n=10)[8]:.1f} |"
        for name, times in seconds.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100)
    calls = parser.parse_args().calls
    rows = measured(calls)
    print(f"{time.strftime('%Y-%m-%d')}, Python {platform.python_version()}, {calls} calls each\n")
    print("| way | median, ms | least, ms | 9 of 10 within, ms |\n|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
