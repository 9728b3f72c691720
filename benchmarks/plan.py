"""What `herdsman plan` says against this machine: step times and activations of models that calibration has not seen.

    python benchmarks/plan.py [--threads 1] [--keep] [--rounds 3]

Calibrates (unless `--keep` takes the calibration that stands), then trains steps of five sizes with the trainer's own
code and sets what was measured beside what was predicted; then times the search of layouts for 405B. With one thread
times are CPU seconds, which other work on the machine disturbs less. Writes tables in Markdown to standard output.
"""

from __future__ import annotations

import argparse
import os
import time

import torch

from herdsman.cluster.calibrate import ALONE, Steps, calibrate, saved_bytes, step_seconds
from herdsman.cluster.hardware import load_hardware
from herdsman.cluster.job import Job
from herdsman.cluster.layouts import search
from herdsman.cluster.memory import estimate_memory
from herdsman.cluster.step_time import estimate_step
from herdsman.model.options import ModelOptions

SIZES = {
    "2M": (ModelOptions(layers=5, dim=160, heads=5, kv_heads=1, ffn_multiple_of=32), 2304, 256, 2, "muon"),
    "6M": (ModelOptions(layers=6, dim=256, heads=4, kv_heads=2, ffn_multiple_of=32), 4096, 512, 1, "adamw"),
    "13M": (ModelOptions(layers=8, dim=320, heads=5, kv_heads=5, ffn_multiple_of=32), 4096, 256, 2, "adamw"),
    "34M": (ModelOptions(layers=8, dim=512, heads=8, kv_heads=4, ffn_multiple_of=32), 8192, 512, 1, "muon"),
    "57M": (ModelOptions(layers=7, dim=768, heads=12, kv_heads=4, ffn_multiple_of=64), 4096, 1024, 1, "adamw"),
}
"""Model, vocabulary, sequence length, micro-batches a step, optimizer. Each micro-batch has 4,096 tokens."""
MICRO_BATCH_TOKENS = 4096


def jobs() -> dict[str, Job]:
    found = {}
    for name, (model, vocab_size, length, count, optimizer) in SIZES.items():
        tokens = count * MICRO_BATCH_TOKENS
        precision = load_hardware("this").resolve("auto")
        found[name] = Job(
            model, vocab_size, length, tokens, MICRO_BATCH_TOKENS, precision,
            optimizer=optimizer, document_tokens=200,
        )  # fmt: skip
    return found


def compare_steps(rounds: int) -> None:
    device, this = torch.device("cpu"), load_hardware("this")
    print("| model | measured s | predicted s | | by part (predicted) |\n|---|---|---|---|---|")
    for name, job in jobs().items():
        measured = min(sum(step_seconds(job, device)) for _ in range(rounds))
        step = estimate_step(job, ALONE, this)
        parts = ", ".join(f"{part} {seconds:.3f}" for part, seconds in step.parts.items())
        print(f"| {name} | {measured:.3f} | {step.seconds:.3f} | {step.seconds / measured - 1:+.0%} | {parts} |")


def compare_activations() -> None:
    device, this = torch.device("cpu"), load_hardware("this")
    print("\n| model | saved MB | predicted MB | |\n|---|---|---|---|")
    for name, job in jobs().items():
        steps = Steps(job, device)
        copies = job.bytes_each * job.sizes.matrices * job.sizes.layers if job.bytes_each < 4 else 0
        measured = saved_bytes(steps.model, steps.batches[0]) - copies
        predicted = estimate_memory(job, ALONE, this).parts["activations"]
        print(f"| {name} | {measured / 1e6:.1f} | {predicted / 1e6:.1f} | {predicted / measured - 1:+.1%} |")


def time_search() -> None:
    model = ModelOptions(layers=126, dim=16384, heads=128, kv_heads=8, ffn_width=53248, context_length=131072)
    h100 = load_hardware("h100")
    for length in (8192, 131072):
        started = time.process_time()
        found = search(Job(model, 128_256, length, 1 << 24), h100, 16384)
        spent = time.process_time() - started
        print(f"\n{found.considered:,} layouts of 405B at {length:,} tokens a sequence: {spent:.2f} CPU s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="take the calibration that stands")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if not arguments.keep:
        calibrate(torch.device("cpu"))
    print(f"load {os.getloadavg()[0]:.1f}, {arguments.threads} threads\n")
    compare_steps(arguments.rounds)
    compare_activations()
    time_search()


if __name__ == "__main__":
    main()
