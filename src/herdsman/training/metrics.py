"""What is measured of every training step, as rows of plain numbers.

A row holds, for its step:

    step, phase             its number, from 0, and the phase of the schedule it belongs to
    tokens                  trained on after it
    batch_tokens, sequence_length
    loss, loss.STREAM       nats a token, over all of them and over those of one stream
    share.STREAM            of the trained tokens
    learning_rate
    gradient_norm           before clipping
    seconds, data_seconds   it took, and of these waiting for its batch
    and the objective's other figures, each a mean over what the loss is a mean over;

over the last `window_steps` steps, which together took the options' `interval_seconds`:

    tokens_per_second, tokens_per_second_per_device
    data_share              of the time, waiting for batches
    mfu_KEYS, hfu_KEYS      model and hardware FLOPs utilisation: operations that the mathematics asks for, and those
                            really done, over what all devices could have done in that time (model/count.py, peaks.py).
                            KEYS says which keys attention is counted to meet: `whole`, the sequence (as MosaicML,
                            torchtitan and nanochat count); `causal`, half of it (as Megatron does); `visible`, those
                            of the same document and before (only where the loop says how many these are);

and memory of this process's device when it was last looked at, once an interval:

    memory_allocated_bytes, memory_reserved_bytes    CUDA: the highest so far by tensors; held by torch now
    memory_resident_bytes                            otherwise: of the process
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch

from herdsman.model.count import model_flops, recomputed_flops
from herdsman.model.options import ModelOptions
from herdsman.training.parallel.recompute import Recompute
from herdsman.training.peaks import Peak
from herdsman.training.sinks import Sink

Row = dict[str, Any]
DIGITS = 6  # of rates: a long run's curve would otherwise be twice as large for noise
RATES = ("tokens_per_second", "data_share", "mfu_", "hfu_")  # what their names begin with
STATE = (
    "step",
    "phase",
    "tokens",
    "batch_tokens",
    "sequence_length",
    "learning_rate",
    "window_steps",
    "memory_",
    *RATES,
)


class Utilisation:
    """MFU and HFU of a model on some devices.

    Args:
        devices: that train it.
        peak: of one of them.
        recompute: of the blocks.
    """

    def __init__(self, model: ModelOptions, vocab_size: int, devices: int, peak: Peak, recompute: Recompute = "none"):
        self.flops_per_second = devices * peak.flops_per_second
        # Both are linear in the keys: operations a token without any, and those that each key adds.
        without, one = (
            (model_flops(model, vocab_size, keys), recomputed_flops(model, vocab_size, keys, recompute == "full"))
            for keys in (0, 1)
        )
        self._once, self._once_a_key = without[0], one[0] - without[0]
        self._again, self._again_a_key = without[1], one[1] - without[1]

    def seconds_at_peak(self, tokens: int, sequence_length: int, visible: float | None = None) -> dict[str, float]:
        """Time that this many tokens would take at the devices' peak, by the names of the figures in a row.

        Args:
            visible: keys that a query meets on average in the batch's documents, if known.
        """
        keys = {"whole": float(sequence_length), "causal": sequence_length / 2}
        if visible is not None:
            keys["visible"] = visible
        seconds = {}
        for name, count in keys.items():
            once = self._once + self._once_a_key * count
            done = once + self._again + self._again_a_key * count
            seconds[f"mfu_{name}"] = once * tokens / self.flops_per_second
            seconds[f"hfu_{name}"] = done * tokens / self.flops_per_second
        return seconds


class Metrics:
    """Makes the rows of a run, on the one process that keeps its log, and tells the sinks about them.

    Args:
        utilisation: None where operations are not counted.
        devices: that train the model.
        device: of this process.
        sinks: get a point every `interval_seconds`, which stands for all steps since the one before.
    """

    def __init__(
        self,
        utilisation: Utilisation | None,
        devices: int,
        device: torch.device,
        sinks: Sequence[Sink] = (),
        interval_seconds: float = 5.0,
    ):
        self.utilisation, self.devices, self.sinks = utilisation, devices, sinks
        self.interval_seconds = interval_seconds
        self._memory_of = _memory_of(device)
        self._window = _Window(interval_seconds)
        self._untold: list[Row] = []
        self._untold_seconds = 0.0

    def step(
        self,
        *,
        step: int,
        phase: str,
        tokens: int,
        batch_tokens: int,
        sequence_length: int,
        loss: float,
        weight: float,
        learning_rate: float,
        gradient_norm: float,
        seconds: float,
        data_seconds: float,
        figures: Mapping[str, float],
        visible: float | None = None,
    ) -> Row:
        """The row of a step, which has been told to the sinks as well.

        Args:
            tokens: trained on after it, over all ranks, as `batch_tokens` is.
            loss: mean over `weight`.
            figures: the objective's sums over all ranks.
            visible: keys that a query meets on average within its document (`visible_keys`), if known.
        """
        ideal = self.utilisation.seconds_at_peak(batch_tokens, sequence_length, visible) if self.utilisation else {}
        taken = {"tokens_per_second": batch_tokens, "data_share": data_seconds, **ideal}
        self._window.add(seconds, taken)
        if not self._untold:
            self._memory = self._memory_of()
        row: Row = {
            "step": step,
            "phase": phase,
            "tokens": tokens,
            "batch_tokens": batch_tokens,
            "sequence_length": sequence_length,
            "loss": loss,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
            "seconds": _rounded(seconds),
            "data_seconds": _rounded(data_seconds),
            **_means(figures, weight),
            **self._window.rates(),
            "window_steps": len(self._window.steps),
            **self._memory,
        }
        row["tokens_per_second_per_device"] = _rounded(row["tokens_per_second"] / self.devices)
        self._untold.append(row)
        self._untold_seconds += seconds
        if self._untold_seconds >= self.interval_seconds:
            self._tell()
        return row

    def rewind(self, step: int) -> None:
        """Training goes back: `step` is the next that will come."""
        self._window = _Window(self.interval_seconds)
        self._untold, self._untold_seconds = [], 0.0
        for sink in self.sinks:
            sink.rewind(step)

    def close(self) -> None:
        """Tells the sinks what they have not been told yet, and closes them."""
        self._tell()
        for sink in self.sinks:
            sink.close()

    def _tell(self) -> None:
        if self._untold and self.sinks:
            step, point = self._untold[-1]["step"], point_of(self._untold)
            for sink in self.sinks:
                sink.write(step, point)
        self._untold, self._untold_seconds = [], 0.0


class _Window:
    """The last steps that together took at least so many seconds, or the last one alone if it took longer."""

    def __init__(self, least_seconds: float):
        self.least_seconds = least_seconds
        self.steps: deque[tuple[float, dict[str, float]]] = deque()
        self.seconds = 0.0
        self.sums: dict[str, float] = {}

    def add(self, seconds: float, taken: dict[str, float]) -> None:
        if self.steps and self.steps[-1][1].keys() != taken.keys():
            self.steps.clear()
            self.seconds, self.sums = 0.0, {}
        self.steps.append((seconds, taken))
        self._count(seconds, taken, 1)
        while len(self.steps) > 1 and self.seconds - self.steps[0][0] >= self.least_seconds:
            self._count(*self.steps.popleft(), -1)

    def rates(self) -> dict[str, float]:
        seconds = max(self.seconds, 1e-9)
        return {name: _rounded(total / seconds) for name, total in self.sums.items()}

    def _count(self, seconds: float, taken: dict[str, float], sign: int) -> None:
        self.seconds += sign * seconds
        for name, value in taken.items():
            self.sums[name] = self.sums.get(name, 0.0) + sign * value


def point_of(rows: Sequence[Row]) -> dict[str, float]:
    """One point for several rows: what describes a state as in the last, the rest as means over finite values.

    The losses of streams are weighted by their shares. `gradient_norm_highest` is of all the rows.
    """
    point: dict[str, float] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        if name.startswith(STATE):
            if name in rows[-1] and name not in ("step", "phase"):
                point[name] = rows[-1][name]
            continue
        share = name.replace("loss.", "share.", 1) if name.startswith("loss.") else ""
        pairs = [(row[name], row.get(share, 1.0)) for row in rows if math.isfinite(row.get(name, math.nan))]
        total = sum(weight for _, weight in pairs)
        point[name] = sum(value * weight for value, weight in pairs) / total if total else math.nan
    norms = [row["gradient_norm"] for row in rows if math.isfinite(row["gradient_norm"])]
    point["gradient_norm_highest"] = max(norms, default=math.nan)
    return point


def typical_rates(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """What a step of each phase typically reached: medians of the rates in the rows of a curve, and the highest memory.

    Medians, since a run's first steps, its stops and its hiccups are the event log's business.
    """
    phases: dict[str, list[Row]] = {}
    for row in rows:
        phases.setdefault(row["phase"], []).append(row)
    found = []
    for phase, its in phases.items():
        entry: dict[str, Any] = {"phase": phase, "steps": len(its)}
        for name in its[-1]:
            values = [row[name] for row in its if name in row]
            if name == "seconds" or name.startswith(RATES):
                entry[name] = statistics.median(values)
            elif name.startswith("memory_"):
                entry[name] = max(values)
        found.append(entry)
    return found


def _means(figures: Mapping[str, float], weight: float) -> dict[str, float]:
    """Sums of figures as means: those of a stream over its own weight, all others over the step's."""
    means: dict[str, float] = {}
    if not weight:
        return means
    for name, value in figures.items():
        kind, _, stream = name.partition(".")
        if kind == "weight":
            means[f"share.{stream}"] = _rounded(value / weight)
        elif over := figures.get(f"weight.{stream}", weight) if kind == "loss" else weight:
            means[name] = _rounded(value / over)
    return means


def _memory_of(device: torch.device) -> Callable[[], dict[str, int]]:
    if device.type == "cuda":
        return lambda: {
            "memory_allocated_bytes": torch.cuda.max_memory_allocated(device),
            "memory_reserved_bytes": torch.cuda.memory_reserved(device),
        }
    process = psutil.Process()
    return lambda: {"memory_resident_bytes": process.memory_info().rss}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
