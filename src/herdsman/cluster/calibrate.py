"""Measures the present machine with the trainer's own code, and writes it down as hardware named `this`.

What step_time.py needs to know is measured apart: matrix products of the shapes that models of several widths have, and
attention, as they stand; operations element by element as what is left of a real block's time; long streams by the
optimizer's own update; what starting a block costs by one with hardly any tokens.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import psutil
import tomli_w
import torch
import torch.distributed as dist
from torch import Tensor

from herdsman.cluster.figure import Figure, Origin
from herdsman.cluster.hardware import THIS, Hardware, Precision, load_hardware, this_file
from herdsman.cluster.job import Job
from herdsman.cluster.memory import kept_bytes
from herdsman.cluster.step_time import DIM_PASSES, FFN_PASSES, OPTIMIZER_BYTES
from herdsman.files import write_text
from herdsman.model.attention import Sight, choose_backend
from herdsman.model.llama import initialise
from herdsman.model.options import ModelOptions
from herdsman.progress import SILENT, Progress
from herdsman.training.objective import Batch, NextToken
from herdsman.training.optimizer import make_optimizer, resolve_precision
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.model import ParallelModel
from herdsman.training.parallel.running import Running
from herdsman.training.peaks import peak_of

WIDTHS = {"cpu": (64, 128, 256, 512, 1024), "cuda": (512, 1024, 2048, 4096)}
ROWS, LENGTH, VOCAB = {"cpu": 8, "cuda": 32}, 256, 2048
HEAD_WIDTH, FEWEST, MOST = 64, 2, 6
"""Width of a head; layers of the two models whose difference is blocks alone."""
MEASURED_SECONDS, LEAST_RUNS = 0.4, 3
ALONE = Layout.of(LayoutOptions(), 1)


def calibrate(device: torch.device, progress: Progress = SILENT) -> Path:
    """Measures this machine and writes `hardware.this_file`: a minute on one core, on which nothing else should run."""
    hardware = measure(device, progress)
    table = {name: value for name, value in hardware.model_dump(exclude_none=True).items() if name != "name"}
    write_text(this_file(), "# Measured by herdsman plan --calibrate.\n\n" + tomli_w.dumps(table))
    return this_file()


def measure(device: torch.device, progress: Progress = SILENT) -> Hardware:
    """The present machine; what is not measured is taken from the file of one like it."""
    precision = resolve_precision("auto", device)
    name, rows = str(precision).removeprefix("torch."), ROWS[device.type]
    with progress.task("measure this machine", len(WIDTHS[device.type]) + 2, "parts") as task:
        hardware = _known(device)
        peak, stream = hardware.peak_flops(name), bandwidth(device)
        attention = attention_rate(device, precision)
        start = block_seconds(model_of(WIDTHS[device.type][0], FEWEST), 1, 32, device)
        task.update(1)
        widths, elementwise = [], []
        for number, width in enumerate(WIDTHS[device.type]):
            model = model_of(width, FEWEST)
            sizes = job_of(model, rows, LENGTH, device).sizes
            products = products_seconds(model, rows * LENGTH, device, precision)
            widths.append((width, 6 * sizes.matrices * rows * LENGTH / products / peak))
            looking = 12 * sizes.queries * LENGTH / 2 * rows * LENGTH / attention
            rest = block_seconds(model, rows, LENGTH, device) - products - looking - start
            moved = rows * LENGTH * precision.itemsize * (DIM_PASSES * sizes.dim + FFN_PASSES * sizes.ffn)
            elementwise.append(moved / rest if rest > 0 else float("inf"))
            task.update(2 + number)
        last = job_of(model_of(WIDTHS[device.type][-1], FEWEST), rows, LENGTH, device)
        update = last.sizes.total * OPTIMIZER_BYTES["adamw"] / step_seconds(last, device)[1]
        link = all_reduce_rate() if device.type == "cpu" else hardware.link_bandwidth.value
    reached = {
        "gemm": _of(median(share for _, share in widths), f"products of blocks in {name}"),
        "gemm_by_width": widths,
        "attention": _of(attention / peak, "attention alone"),
        "elementwise": _of(median(elementwise) / stream, "what is left of a block's time"),
        "memory": _of(update / stream, "the optimizer's update"),
        "link": _of(1.0, "as measured"),
        "block_seconds": Figure.exact(max(0.0, start), "s", "measured", "a block with 32 tokens"),
        "activations": _of(kept_ratio(device, precision), "tensors that a block saves"),
    }
    return hardware.model_copy(
        update={
            "name": THIS,
            "memory_bandwidth": Figure.exact(stream, "B/s", "measured", "copies of 64 MB"),
            "link_bandwidth": Figure.exact(link, "B/s", "measured", "all-reduce of two processes"),
            "efficiencies": hardware.efficiencies.model_copy(update=reached),
        }
    )


def model_of(width: int, layers: int) -> ModelOptions:
    heads = max(1, width // HEAD_WIDTH)
    return ModelOptions(
        layers=layers, dim=width, heads=heads, kv_heads=max(1, heads // 2), ffn_multiple_of=32, tied_embeddings=True
    )


def job_of(model: ModelOptions, rows: int, length: int, device: torch.device) -> Job:
    precision: Precision = "bfloat16" if resolve_precision("auto", device) is torch.bfloat16 else "float32"
    return Job(model, VOCAB, length, rows * length, rows * length, precision)


class Steps:
    """A job's real training steps on this process alone, on tokens by chance."""

    def __init__(self, job: Job, device: torch.device):
        precision = getattr(torch, job.precision)
        fill = partial(initialise, options=job.model, seed=1)
        running = Running(precision, recompute=job.recompute)
        self.model: ParallelModel = lay_out(job.model, job.vocab_size, ALONE, device, fill, running)
        options = OptimizerOptions(name=job.optimizer)
        self.optimizer = make_optimizer(self.model.named_parameters(), options, precision)
        self.device, self.batches = device, _batches(job, device)

    def train(self) -> None:
        """Forward and backward."""
        self.sums = self.model.train_step(self.batches, NextToken())

    def update(self) -> None:
        """As `training.loop` does it."""
        self.model.scale_gradients(1 / self.sums.weight)
        self.model.gradient_norm()
        self.model.scale_gradients(0.5)
        self.optimizer.step()
        self.model.after_update()


def step_seconds(job: Job, device: torch.device) -> tuple[float, float]:
    """Seconds of a job's forward and backward passes, and of its update."""
    steps = Steps(job, device)
    steps.train()
    steps.update()
    return seconds_of(steps.train, device), seconds_of(steps.update, device)


def block_seconds(model: ModelOptions, rows: int, length: int, device: torch.device) -> float:
    """Seconds of a block's forward and backward pass, the difference of two models' in which nothing else differs."""
    few, many = (
        step_seconds(job_of(model.model_copy(update={"layers": layers}), rows, length, device), device)[0]
        for layers in (FEWEST, MOST)
    )
    return (many - few) / (MOST - FEWEST)


def products_seconds(model: ModelOptions, tokens: int, device: torch.device, precision: torch.dtype) -> float:
    """Seconds of a block's matrix products, three for each matrix, and nothing else."""
    queries, keys = model.heads * model.head_width, model.kv_heads * model.head_width
    shapes = [(model.dim, queries), *[(model.dim, keys)] * 2, (queries, model.dim)]
    shapes += [*[(model.dim, model.ffn_dim)] * 2, (model.ffn_dim, model.dim)]
    total = 0.0
    for inputs, outputs in shapes:
        x, weight, gradient = (
            torch.randn(size, device=device).to(precision)
            for size in ((tokens, inputs), (outputs, inputs), (tokens, outputs))
        )

        def products(x: Tensor = x, weight: Tensor = weight, gradient: Tensor = gradient) -> None:
            x @ weight.T, gradient @ weight, gradient.T @ x

        total += seconds_of(products, device, MEASURED_SECONDS / len(shapes))
    return total


def attention_rate(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of attention over whole sequences, forward and backward, six products of half the keys."""
    rows, heads = ROWS[device.type], 4
    places = torch.arange(LENGTH, device=device)
    backend = choose_backend("auto", device, precision)
    documents = torch.zeros(rows, LENGTH, dtype=torch.long, device=device)
    prepared = backend.prepare(Sight(places, places, documents, documents))
    q, k, v = (
        torch.randn(rows, count, LENGTH, HEAD_WIDTH, device=device).to(precision).requires_grad_()
        for count in (heads, heads // 2, heads // 2)
    )

    def attend() -> None:
        backend.attend(q, k, v, prepared).sum().backward()

    flops = 12 * heads * HEAD_WIDTH * LENGTH / 2 * rows * LENGTH
    return flops / seconds_of(attend, device)


def bandwidth(device: torch.device) -> float:
    """Bytes a second of a copy, read and written."""
    source = torch.ones(1 << 24, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / seconds_of(lambda: target.copy_(source), device)


def kept_ratio(device: torch.device, precision: torch.dtype) -> float:
    """Bytes that a real block saves for its backward pass, over `memory.kept_bytes`."""
    kept = []
    for layers in (1, 2):
        job = job_of(model_of(WIDTHS[device.type][1], layers), ROWS[device.type], LENGTH, device)
        model, batch = Steps(job, device).model, _batches(job, device)[0]
        kept.append(saved_bytes(model, batch))
    matrices = precision.itemsize * job.sizes.matrices if precision.itemsize < 4 else 0  # autocast's copies
    tokens = job.micro_batch_tokens
    return (kept[1] - kept[0] - matrices) / tokens / kept_bytes(job, ALONE, load_hardware("cpu"))


def saved_bytes(model: ParallelModel, batch: Batch) -> int:
    """Of all tensors that autograd saves in a forward pass up to the last norm, but for the parameters."""
    parameters = {parameter.untyped_storage().data_ptr() for _, parameter in model.named_parameters()}
    seen: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = model.hidden(batch)
    del hidden
    return sum(seen.values())


def all_reduce_rate(ranks: int = 2) -> float:
    """Bytes a second that each of some processes on this machine sends in an all-reduce over gloo."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(_all_reduce, (ranks, folder), ranks)
        return float(Path(folder, "rate").read_text(encoding="utf-8"))


def _all_reduce(rank: int, ranks: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/store", rank=rank, world_size=ranks)
    numbers = torch.ones(1 << 22)
    least = float("inf")
    for _ in range(8):
        dist.barrier()
        started = time.perf_counter()
        dist.all_reduce(numbers)
        least = min(least, time.perf_counter() - started)
    if rank == 0:
        Path(folder, "rate").write_text(str(2 * (ranks - 1) / ranks * numbers.nbytes / least), encoding="utf-8")
    dist.destroy_process_group()


def seconds_of(work: Callable[[], object], device: torch.device, measured: float = MEASURED_SECONDS) -> float:
    """The least of some runs. Of one thread on a CPU its own seconds count, which other work disturbs less."""
    clock = time.process_time if device.type == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    least, spent, runs = float("inf"), 0.0, 0
    work()
    while spent < measured or runs < LEAST_RUNS:
        _wait(device)
        started = clock()
        work()
        _wait(device)
        taken = clock() - started
        least, spent, runs = min(least, taken), spent + taken, runs + 1
    return least


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _batches(job: Job, device: torch.device) -> list[Batch]:
    rows, length = job.micro_batch_tokens // job.sequence_length, job.sequence_length
    ids = torch.randint(0, job.vocab_size, (rows, length + 1), generator=torch.Generator().manual_seed(1))
    numbers = torch.arange(length) // int(job.document_tokens or length)
    fields = {"targets": ids[:, 1:].contiguous(), "weights": torch.ones(rows, length)}
    batch = Batch(ids[:, :-1].contiguous(), numbers.expand(rows, -1).contiguous(), fields).to(device)
    return [batch] * max(1, job.batch_tokens // job.micro_batch_tokens)


def _known(device: torch.device) -> Hardware:
    """What is published or assumed of a machine like this, with peaks and memory of this one."""
    like = load_hardware("cpu" if device.type == "cpu" else "h100")
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
