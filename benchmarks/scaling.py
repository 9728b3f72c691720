"""A real IsoFLOP sweep on the sample: 5 budgets of 5 sizes, and a larger budget that the law must foretell.

    python benchmarks/scaling.py herds/scaling                  # --processes 2: so many runs at once

Goes on where it stopped. Writes tables in Markdown to standard output; the report with its charts is
`WORKSPACE/report.html`. The recipe is the default one with a mix for the longest run, so that no category is repeated
more often than it says.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

SETTINGS = ("documents.mix.tokens=12_000_000",)
RECIPE = Path(__file__).parents[1] / "recipes" / "tiny.toml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--processes", default="2")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "herdsman", "scale", str(RECIPE), "--workspace", str(arguments.workspace)]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    load = os.getloadavg()[0]
    subprocess.run([*command, "--processes", arguments.processes, "--json"], check=True, stdout=subprocess.DEVNULL)
    folder = arguments.workspace / "scaling"
    rows, law = (json.loads((folder / name).read_text()) for name in ("runs.json", "law.json"))
    manifests = [json.loads((folder / "runs" / row["name"] / "pretrain" / "manifest.json").read_text()) for row in rows]
    cpu, flops = sum(manifest["cpu_seconds"] for manifest in manifests), sum(row["flops"] for row in rows)
    print(f"{platform.machine()}, Python {platform.python_version()}, load {load:.1f} before it began")
    print(f"{len(rows)} runs, {flops:.3g} FLOPs, {cpu:,.0f} CPU-seconds, {flops / cpu:.3g} FLOPs a CPU-second\n")
    print(
        "| FLOPs | runs | parameters | best tokens (95% interval) | lowest loss | not used |\n|---|---|---|---|---|---|"
    )
    for curve in law["curves"]:
        at = f"| {curve['flops']:.3g} | {len(curve['points'])} |"
        if tokens := curve["tokens"]:
            interval = f"{tokens['value']:.3g} ({tokens['low']:.3g} to {tokens['high']:.3g})"
            print(at, f"{curve['best_parameters']:.3g} | {interval} | {curve['lowest_loss']:.4f} | |")
        else:
            print(at, f" | | | {curve['problem']} |")
    tokens, check = law["tokens"], law["check"]
    print(f"\ntokens = {tokens['coefficient']:.3g} x FLOPs^{tokens['exponent']:.3f}", end="")
    print(f" ({tokens['low_exponent']:.3f} to {tokens['high_exponent']:.3f}); noise of a run {law['noise']:.4f} nats")
    foretold, loss = check["foretold_tokens"], check["foretold_loss"]
    print(f"\n| at {check['flops']:.3g} FLOPs, not fitted | foretold (95% interval) | measured |\n|---|---|---|")
    interval = f"{foretold['value']:.3g} ({foretold['low']:.3g} to {foretold['high']:.3g})"
    print(f"| best tokens | {interval} | {check['curve']['best_tokens']:.3g} |")
    interval = f"{loss['value']:.4f} ({loss['low']:.4f} to {loss['high']:.4f})"
    print(f"| lowest loss | {interval} | {check['curve']['lowest_loss']:.4f} ({check['loss_error']:+.1%}) |")


if __name__ == "__main__":
    main()
