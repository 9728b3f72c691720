"""Measures the present machine and writes it down as hardware named `this`.

What step_time.py needs to know is measured apart: matrix products of the shapes that models of several widths have, and
attention, as they stand; operations element by element as what is left of a real block's time; long streams by the
optimizer's own update; what starting a block costs by one with hardly any tokens.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import psutil
import tomli_w
import torch

from herdsman.cluster.figure import Figure, Origin
from herdsman.cluster.hardware import THIS, Hardware, hardware_of, load_hardware, this_file
from herdsman.cluster.measure import (
    FEWEST,
    LENGTH,
    ROWS,
    all_reduce_rate,
    attention_rate,
    bandwidth,
    block_seconds,
    job_of,
    kept_ratio,
    model_of,
    products_seconds,
    step_seconds,
)
from herdsman.cluster.step_time import DIM_PASSES, FFN_PASSES, OPTIMIZER_BYTES, attention_flops
from herdsman.files import write_text
from herdsman.progress import SILENT, Progress
from herdsman.training.optimizer import resolve_precision
from herdsman.training.peaks import peak_of

WIDTHS = {"cpu": (64, 128, 256, 512, 1024), "cuda": (512, 1024, 2048, 4096)}
HEAD_WIDTHS = (32, 64, 128)  # the second is that of the models measured


def calibrate(device: torch.device, progress: Progress = SILENT) -> Path:
    """Measures this machine and writes `hardware.this_file`: a minute on one core, on which nothing else should run."""
    hardware = present_machine(device, progress)
    table = {name: value for name, value in hardware.model_dump(exclude_none=True).items() if name != "name"}
    write_text(this_file(), "# Measured by herdsman plan --calibrate.\n\n" + tomli_w.dumps(table))
    return this_file()


def present_machine(device: torch.device, progress: Progress = SILENT) -> Hardware:
    """The present machine; what is not measured is taken from the file of one like it."""
    precision = resolve_precision("auto", device)
    name, rows = str(precision).removeprefix("torch."), ROWS[device.type]
    with progress.task("measure this machine", len(WIDTHS[device.type]) + 2, "parts") as task:
        hardware = _known(device)
        peak, stream = hardware.peak_flops(name), bandwidth(device)
        looks = [(width, attention_rate(width, hardware, device, precision)) for width in HEAD_WIDTHS]
        start = block_seconds(model_of(WIDTHS[device.type][0], FEWEST), 1, 32, device, precision)
        task.update(1)
        widths, elementwise = [], []
        for number, width in enumerate(WIDTHS[device.type]):
            model = model_of(width, FEWEST)
            sizes = job_of(model, rows, LENGTH, precision).sizes
            products = products_seconds(model, rows * LENGTH, device, precision)
            widths.append((width, 6 * sizes.matrices * rows * LENGTH / products / peak))
            looking = attention_flops(job_of(model, rows, LENGTH, precision), hardware) * rows * LENGTH / looks[1][1]
            rest = block_seconds(model, rows, LENGTH, device, precision) - products - looking - start
            moved = rows * LENGTH * precision.itemsize * (DIM_PASSES * sizes.dim + FFN_PASSES * sizes.ffn)
            elementwise.append(moved / rest if rest > 0 else float("inf"))
            task.update(2 + number)
        last = job_of(model_of(WIDTHS[device.type][-1], FEWEST), rows, LENGTH, precision)
        update = last.sizes.total * OPTIMIZER_BYTES["adamw"] / step_seconds(last, device)[1]
        link = all_reduce_rate() if device.type == "cpu" else hardware.link_bandwidth.value
    reached = {
        "gemm": _of(median(share for _, share in widths), f"products of blocks in {name}"),
        "gemm_by_width": widths,
        "attention": _of(looks[1][1] / peak, "attention alone"),
        "attention_by_width": [(width, rate / peak) for width, rate in looks],
        "elementwise": _of(median(elementwise) / stream, "what is left of a block's time"),
        "memory": _of(update / stream, "the optimizer's update"),
        "link": _of(1.0, "as measured"),
        "block_seconds": Figure.exact(max(0.0, start), "s", "measured", "a block with 32 tokens"),
        "activations": _of(kept_ratio(WIDTHS[device.type][1], device, precision), "tensors that a block saves"),
    }
    return hardware.model_copy(
        update={
            "name": THIS,
            "memory_bandwidth": Figure.exact(stream, "B/s", "measured", "copies of 64 MB"),
            "link_bandwidth": Figure.exact(link, "B/s", "measured", "all-reduce of two processes"),
            "efficiencies": hardware.efficiencies.model_copy(update=reached),
        }
    )


def _known(device: torch.device) -> Hardware:
    """What is published or assumed of a machine like this, with peaks and memory of this one."""
    if device.type == "cuda":
        like = hardware_of(torch.cuda.get_device_name(device)) or load_hardware("h100")
    else:
        like = load_hardware("cpu")
    names = ["float32"] + (["bfloat16"] if resolve_precision("auto", device) is torch.bfloat16 else [])
    peaks: dict[str, Figure] = {}
    for name in names:
        peak = peak_of(device, getattr(torch, name))
        origin: Origin = "card" if peak.source.startswith("NVIDIA") else "measured"
        peaks[name] = Figure.exact(peak.flops_per_second, "FLOP/s", origin, peak.source)
    if device.type == "cuda":
        title, memory = torch.cuda.get_device_name(device), torch.cuda.get_device_properties(device).total_memory
        count = torch.cuda.device_count()
    else:
        count, memory = 1, psutil.virtual_memory().total
        title = f"this machine's CPU, {torch.get_num_threads()} threads"
    update = {
        "title": title,
        "peaks": peaks,
        "gpus_per_server": count,
        "memory_bytes": Figure.exact(float(memory), "B", "measured", "this machine"),
    }
    return like.model_copy(update=update)


def _of(share: float, source: str) -> Figure:
    return Figure.exact(share, "", "measured", source)
