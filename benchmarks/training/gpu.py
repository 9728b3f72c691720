"""What training reaches on one machine with H100 or H200 GPUs, and whether what is fast there is also right.

    python benchmarks/training/gpu.py --out gpu.json                                  # one GPU
    torchrun --nproc-per-node 8 benchmarks/training/gpu.py --out gpu.json             # eight, weights sharded over them
    python benchmarks/training/gpu.py --small                                         # the script itself, on any CPU

A model in the dimensions of `recipes/1b.toml` takes sequences of 8,192 tokens whose attention stops at the borders of
documents. First every way to compute attention must give the loss and the gradient norm of the dense one, and that one
those of float32; else the script ends there with status 1. Then whole steps are timed (forward, backward, norm,
clipping, AdamW), one setting changed at a time: the median of the steps after the warm-up. MFU counts attention as
meeting all keys of the sequence, half of them, or those that the documents leave visible (`training/metrics.py`).
`transformers` is timed beside it if it is installed and there is one GPU. Prints tables in Markdown and writes JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from workload import Bench

from herdsman.model.attention import BACKENDS, Varlen, choose_backend
from herdsman.model.huggingface import to_config
from herdsman.model.llama import initialise
from herdsman.training.metrics import Utilisation
from herdsman.training.objective import Batch, NextToken
from herdsman.training.optimizer import make_optimizer
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.model import ParallelModel, Sums
from herdsman.training.parallel.running import Running
from herdsman.training.peaks import Peak, peak_of

BF16 = torch.bfloat16
CLIP_NORM = 1.0
LOSS_TOLERANCE, NORM_TOLERANCE = 1e-3, 2e-2
"""Relative, between back-ends; twice as much between bfloat16 and float32."""


@dataclass(frozen=True)
class Setting:
    """A way to run the model, and rows of a micro-batch."""

    name: str
    running: Running
    rows_at_once: int = 1


def settings(device: torch.device) -> list[Setting]:
    """The plain one, and others that differ from it in one thing, or in what only pays together."""
    plain = Running(BF16)
    cuda = device.type == "cuda"
    found = [Setting("plain: attention auto, bfloat16", plain)]
    found += [Setting(f"attention {name}", replace(plain, attention=name)) for name in backends(device)]
    found += [Setting("recompute selective", replace(plain, recompute="selective"))]
    found += [Setting("recompute full", replace(plain, recompute="full"))]
    found += [Setting(f"micro-batches of {rows} rows", plain, rows) for rows in (2, 4)]
    if cuda:
        found += [Setting("compile", replace(plain, compile=True))]
        found += [Setting("compile, recompute selective", replace(plain, compile=True, recompute="selective"))]
    if find_spec("torchao"):
        found += [Setting("float8", replace(plain, fp8=True))]
        if cuda:
            found += [Setting("float8, compile", replace(plain, fp8=True, compile=True))]
    return found


def backends(device: torch.device) -> list[str]:
    """Those that can train on the device."""
    if device.type != "cuda":
        return ["dense", "tiled"]
    # What is chosen for half precision is flash attention over documents wherever torch has it.
    varlen = isinstance(choose_backend("auto", device, BF16), Varlen)
    return [name for name in BACKENDS if name != "varlen" or varlen]


def make(bench: Bench, running: Running) -> ParallelModel:
    fill = partial(initialise, options=bench.model, seed=0)
    layout = Layout.of(LayoutOptions(), dist.get_world_size())
    return lay_out(bench.model, bench.vocab_size, layout, bench.device, fill, running)


def check(bench: Bench) -> list[dict[str, Any]]:
    """Loss and gradient norm of one row by precision and back-end, and how far they are from what they must equal."""
    rows: list[dict[str, Any]] = []

    def measure(precision: torch.dtype, attention: str, reference: int, slack: float) -> None:
        model = make(bench, Running(precision, attention))
        sums = model.train_step(bench.batches(0, 1)[:1], NextToken())
        loss, norm = sums.total / sums.weight, model.gradient_norm() / sums.weight
        expected = rows[reference] if rows else {"loss": loss, "norm": norm}
        off = {"loss_off": abs(loss / expected["loss"] - 1), "norm_off": abs(norm / expected["norm"] - 1)}
        right = off["loss_off"] <= slack * LOSS_TOLERANCE and off["norm_off"] <= slack * NORM_TOLERANCE
        rows.append({"precision": _name(precision), "attention": attention, "loss": loss, "norm": norm, **off})
        rows[-1]["right"] = right
        del model
        _free()

    measure(torch.float32, "dense", 0, 0)
    measure(BF16, "dense", 0, 2)
    for name in backends(bench.device):
        if name != "dense":
            measure(BF16, name, 1, 1)
    return rows


def train(model: ParallelModel, optimizer: torch.optim.Optimizer, batches: list[Batch]) -> Sums:
    """What the loop does in a step."""
    sums = model.train_step(batches, NextToken())
    model.scale_gradients(1 / sums.weight)
    norm = model.gradient_norm()
    if norm > CLIP_NORM:
        model.scale_gradients(CLIP_NORM / norm)
    optimizer.step()
    model.after_update()
    return sums


def measure(bench: Bench, setting: Setting) -> dict[str, Any]:
    """Median seconds of a step, and what follows from them; or why there is none."""

    def steps() -> Iterator[Callable[[], object]]:
        model = make(bench, setting.running)
        optimizer = make_optimizer(model.named_parameters(), OptimizerOptions())
        for group in optimizer.param_groups:
            group["lr"] = 3e-4
        for number in range(bench.warmup + bench.steps):
            batches = bench.batches(number, setting.rows_at_once)
            yield partial(train, model, optimizer, batches)

    rate = _timed(bench, steps(), setting.running.fp8, masked=True)
    return {"setting": setting.name, **_described(setting.running), "rows_at_once": setting.rows_at_once, **rate}


def measure_peer(bench: Bench) -> dict[str, Any]:
    """`transformers`: the same dimensions and rows under autocast, causal attention without a document mask."""
    import transformers

    def steps() -> Iterator[Callable[[], object]]:
        config = transformers.LlamaConfig(**to_config(bench.model, bench.vocab_size), attn_implementation="sdpa")
        with bench.device:
            model = transformers.LlamaForCausalLM(config).train()
        adam = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)

        def step(batches: list[Batch]) -> None:
            for batch in batches:
                with torch.autocast(bench.device.type, BF16):
                    loss = model(input_ids=batch.tokens, labels=batch.tokens, use_cache=False).loss
                (loss / len(batches)).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            adam.step()
            adam.zero_grad()

        for number in range(bench.warmup + bench.steps):
            yield partial(step, bench.batches(number, 1))

    return {
        "setting": f"transformers {transformers.__version__}",
        "rows_at_once": 1,
        **_timed(bench, steps(), False, masked=False),
    }


def _timed(bench: Bench, steps: Iterator[Callable[[], object]], fp8: bool, masked: bool) -> dict[str, Any]:
    _free()  # of what was measured before
    seconds: list[float] = []
    cuda = bench.device.type == "cuda"
    try:
        for step in steps:
            if cuda:
                if len(seconds) == bench.warmup:
                    torch.cuda.reset_peak_memory_stats()
                torch.cuda.synchronize()
            dist.barrier()
            started = time.perf_counter()
            step()
            if cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
    except torch.OutOfMemoryError:
        if dist.get_world_size() > 1:
            raise  # the others wait in a collective
        return {"failed": "out of memory"}
    median = statistics.median(seconds[bench.warmup :])
    processes = dist.get_world_size()
    tokens = processes * bench.rows * bench.length
    use = Utilisation(bench.model, bench.vocab_size, processes, peak(bench.device, fp8))
    shares = use.seconds_at_peak(tokens, bench.length, bench.visible() if masked else None)
    return {
        "seconds": median,
        "spread": max(seconds[bench.warmup :]) / min(seconds[bench.warmup :]),
        "first_seconds": seconds[0],
        "tokens_per_second_per_device": tokens / median / processes,
        **{name: value / median for name, value in shares.items() if name.startswith("mfu")},
        "memory_bytes": torch.cuda.max_memory_allocated() if cuda else None,
    }


@cache
def peak(device: torch.device, fp8: bool) -> Peak:
    return peak_of(device, BF16, fp8)


def _described(running: Running) -> dict[str, Any]:
    return {**asdict(running), "precision": "float8" if running.fp8 else _name(running.precision)}


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _free() -> None:
    gc.collect()
    torch.compiler.reset()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def table(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Markdown, of columns and how their values are written."""

    def cell(row: dict[str, Any], name: str, form: str) -> str:
        value = row.get(name)
        return "" if value is None else format(value, form)

    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell(row, name, form) for name, form in columns.items()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def start(device: torch.device) -> None:
    """A group even of one process: FSDP's mixed precision, which training uses on GPUs, is not there without."""
    if "RANK" not in os.environ:
        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="a tiny model on the CPU: tests this script")
    parser.add_argument("--out", type=Path, help="JSON file for the results")
    parser.add_argument("--steps", type=int, default=10, help="steps that are timed")
    args = parser.parse_args()
    if not args.small and not torch.cuda.is_available():
        sys.exit("there is no GPU here; --small runs the script on a CPU")
    device = torch.device("cpu") if args.small else torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
    start(device)
    first = dist.get_rank() == 0
    bench = Bench.of(args.small, args.steps, device)
    results: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "processes": dist.get_world_size(),
        "torch": torch.__version__,
        "model": bench.model.model_dump(),
        "sequence_length": bench.length,
        "visible_keys": bench.visible(),
        "peak": asdict(peak(device, False)),
        "correctness": check(bench),
    }
    if first:
        print(f"{results['processes']} x {results['device']}, torch {results['torch']}, {results['peak']['source']}\n")
        columns = {"precision": "", "attention": "", "loss": ".5f", "norm": ".4f", "loss_off": ".1e", "norm_off": ".1e"}
        print(table(results["correctness"], columns | {"right": ""}) + "\n")
    right = all(row["right"] for row in results["correctness"])
    if right:
        rows = results["speed"] = [measure(bench, setting) for setting in settings(device)]
        if find_spec("transformers") and dist.get_world_size() == 1:
            rows.append(measure_peer(bench))
        columns = {"setting": "", "seconds": ".3f", "tokens_per_second_per_device": ",.0f", "mfu_whole": ".1%"}
        columns |= {"mfu_causal": ".1%", "mfu_visible": ".1%", "memory_bytes": ",", "failed": ""}
        if first:
            print(table(rows, columns))
    if first and args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")
    dist.destroy_process_group()
    if not right:
        sys.exit("attention is not right here: nothing was timed")


if __name__ == "__main__":
    main()
