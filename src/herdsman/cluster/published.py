"""Published runs as data, and what the models of time and memory say of them. Needs no torch.

`published/*.toml` beside this file hold what others have printed. `check` compares: a prediction beside what was
published, within the tolerance we claim, if any; and what contradicts itself in the source, found by arithmetic. One
number is fitted for each of two kinds of hardware, on the rows that say so; no other prediction has seen its row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from herdsman.cluster.figure import Figure
from herdsman.cluster.hardware import Efficiencies, Hardware, load_hardware
from herdsman.cluster.job import Job
from herdsman.cluster.memory import estimate_memory
from herdsman.cluster.published_rows import Card, Goodput, PublishedFile, Run, Tally, TallyRow, published_files
from herdsman.cluster.reliability import (
    CLUSTER_BLOCKED_SECONDS,
    CLUSTER_RESTART_SECONDS,
    DAY_SECONDS,
    best_interval,
    effective_share,
)
from herdsman.cluster.step_time import StepTime, estimate_step
from herdsman.model.count import SPECIAL_TOKENS, count_parameters, training_flops
from herdsman.training.parallel.layout import Layout

FITS = "memory of one GPU"


@dataclass(frozen=True)
class Compared:
    """A line of `check`.

    Attributes:
        published, predicted: None where there is no such side, as where only the source is checked against itself.
        tolerance: relative; None where nothing is claimed.
        contradiction: what the source says against itself, or nothing.
    """

    source: str
    what: str
    unit: str
    published: float | None
    predicted: float | None
    tolerance: float | None = None
    contradiction: str = ""

    @property
    def difference(self) -> float | None:
        """Of the prediction from what was published, relatively."""
        if self.published is None or self.predicted is None:
            return None
        return self.predicted / self.published - 1

    @property
    def holds(self) -> bool | None:
        """Whether it is within the tolerance; None where nothing is claimed."""
        if self.tolerance is None or self.difference is None:
            return None
        if self.what.endswith(FITS):
            return self.difference <= self.tolerance
        return abs(self.difference) <= self.tolerance

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"difference": self.difference, "holds": self.holds}


def check() -> list[Compared]:
    """Every published row beside what is predicted, and what contradicts itself."""
    lines: list[Compared] = []
    for file in published_files():
        steps: dict[str, StepTime] = {}
        for run in file.runs:
            if contradiction := _contradiction(run):
                lines.append(Compared(run.source, run.name, "", None, None, contradiction=contradiction))
                continue
            steps[run.name] = step_of(file, run)
            lines += _speed(file, run, steps[run.name])
        for card in file.cards:
            lines += _costs(file, card, steps)
        for tally in file.tallies:
            lines += _counts(tally)
        for goodput in file.goodput:
            lines += _effective(goodput)
    return lines


def step_of(file: PublishedFile, run: Run, gemm: float | None = None) -> StepTime:
    """The estimate of a run's step.

    Args:
        gemm: share of the peak in matrix products, in place of the one in the files.
    """
    hardware = _hardware(file, run)
    if gemm is not None:
        hardware = _with(hardware, {"gemm": Figure.exact(gemm, "")})
    return estimate_step(_job(file, run), Layout.of(run.layout, run.gpus), hardware)


def fit_gemm(file: PublishedFile, run: Run) -> float:
    """The share of the peak in matrix products with which the estimate of a run is what was published."""
    low, high = 0.05, 2.0
    published = _published(run)[1]
    for _ in range(40):
        middle = (low + high) / 2
        step = step_of(file, run, middle)
        too_fast = _predicted(run, step) > published if run.seconds is None else step.seconds < published
        low, high = (low, middle) if too_fast else (middle, high)
    return middle


def _hardware(file: PublishedFile, run: Run) -> Hardware:
    return _with(load_hardware(run.hardware), file.efficiencies)


def _with(hardware: Hardware, efficiencies: dict[str, Any]) -> Hardware:
    changed = {name: getattr(hardware.efficiencies, name) for name in Efficiencies.model_fields} | efficiencies
    return hardware.model_copy(update={"efficiencies": hardware.efficiencies.model_copy(update=changed)})


def _job(file: PublishedFile, run: Run) -> Job:
    layout = Layout.of(run.layout, run.gpus)
    tokens = layout.data * run.batch_per_rank * run.sequence_length
    return Job(
        file.models[run.model], run.vocab_size, run.sequence_length, tokens,
        run.micro_batch_rows * run.sequence_length, run.precision, run.recompute, trainer=run.trainer,
    )  # fmt: skip


def _published(run: Run) -> tuple[str, float]:
    """Unit and value of what was printed."""
    for unit, value in (("TFLOP/s a GPU", run.tflops), ("s a step", run.seconds), ("tokens/s", run.tokens_per_second)):
        if value is not None:
            return unit, value
    raise ValueError(f"{run.source}, {run.name}: no published speed")


def _predicted(run: Run, step: StepTime) -> float:
    if run.tflops is not None:
        return step.flops_per_second / 1e12
    return step.seconds if run.seconds is not None else step.tokens / step.seconds / run.gpus


def _speed(file: PublishedFile, run: Run, step: StepTime) -> Iterator[Compared]:
    unit, published = _published(run)
    yield Compared(run.source, run.name, unit, published, _predicted(run, step), run.tolerance)
    hardware = _hardware(file, run)
    if run.printed_mfu and run.tflops:
        mfu = run.tflops * 1e12 / hardware.peak_flops(run.precision)
        if abs(mfu - run.printed_mfu) > 0.005:
            note = f"{run.tflops:g} TFLOP/s of {hardware.peak_flops(run.precision) / 1e12:g} are {mfu:.1%}, "
            note += f"printed as {run.printed_mfu:.0%}"
            yield Compared(run.source, f"{run.name}: MFU", "", run.printed_mfu, mfu, contradiction=note)
    if run.fits:
        memory = estimate_memory(_job(file, run), Layout.of(run.layout, run.gpus), hardware).total_bytes / 1e9
        yield Compared(run.source, f"{run.name}: {FITS}", "GB", hardware.memory_bytes.value / 1e9, memory, 0.0)


def _contradiction(run: Run) -> str:
    """What a run's printed degrees say against its printed GPUs and tokens, and which one degree would mend both."""
    if run.printed_batch_tokens is None:
        return ""
    layout, axes = run.layout, ("tensor", "context", "pipeline", "data")
    degrees = {axis: getattr(layout, axis) or 1 for axis in axes}

    def of(given: dict[str, int]) -> tuple[int, int]:
        gpus = given["tensor"] * given["context"] * given["pipeline"] * given["data"]
        return gpus, given["data"] * run.batch_per_rank * run.sequence_length

    wanted = (run.gpus, run.printed_batch_tokens)
    gpus, tokens = of(degrees)
    if (gpus, tokens) == wanted:
        return ""
    note = " x ".join(f"{axis} {degree}" for axis, degree in degrees.items())
    note += (
        f" make {gpus:,} GPUs and {tokens:,} tokens a step, printed are {run.gpus:,} and {run.printed_batch_tokens:,}"
    )
    for axis in axes:
        others = gpus // degrees[axis]
        if run.gpus % others == 0 and of(degrees | {axis: run.gpus // others}) == wanted:
            note += f"; {axis} {run.gpus // others} would make both"
    return note


def _costs(file: PublishedFile, card: Card, steps: dict[str, StepTime]) -> Iterator[Compared]:
    vocab_size = 128_000 + SPECIAL_TOKENS
    hardware = load_hardware("h100")
    for entry in card.models:
        model = file.models[entry.model]
        count = count_parameters(model, vocab_size).total
        yield Compared(card.source, f"{entry.model}: parameters", "", entry.printed_parameters, count, 0.0)
        if entry.trained:
            spent = sum(tokens / steps[run].tokens * steps[run].seconds * steps[run].processes
                        for run, tokens in entry.trained.items())  # fmt: skip
            hours = spent / entry.effective / 3600
            yield Compared(card.source, f"{entry.model}: GPU-hours", "h", entry.gpu_hours, hours, 0.06)
        else:
            flops = training_flops(model, vocab_size, int(entry.tokens))
            implied = flops / (entry.gpu_hours * 3600) / hardware.peak_flops("bfloat16")
            what = f"{entry.model}: MFU that {entry.gpu_hours / 1e6:g}M GPU-hours for 6ND imply"
            yield Compared(card.source, what, "", None, implied)
        tonnes = entry.gpu_hours * hardware.watts.value / 1e3 * card.kg_per_kwh / 1e3
        yield Compared(card.source, f"{entry.model}: CO2", "t", entry.tonnes_co2, tonnes, 0.01)


def _counts(tally: Tally) -> Iterator[Compared]:
    total = sum(row.count for row in tally.rows)
    yield Compared(tally.source, "sum of the counts", "", tally.total, total, 0.0)
    printed = sum(row.printed_percent for row in tally.rows)
    if abs(printed - 100) > 0.05 * len(tally.rows):
        yield _off(tally.source, "sum of the percentages", 100, printed)
    rows: Sequence[TallyRow] = [*tally.rows, *tally.groups]
    for row in rows:
        exact = 100 * row.count / total
        rounding = 0.1 if row.printed_percent % 1 else 0.5
        if abs(exact - row.printed_percent) > rounding:
            yield _off(tally.source, f"{row.what}, {row.count} of {total}", exact, row.printed_percent)


def _off(source: str, what: str, exact: float, printed: float) -> Compared:
    note = f"{exact:.1f}% by the counts, printed as {printed:.1f}%"
    return Compared(source, what, "%", printed, exact, contradiction=note)


def _effective(goodput: Goodput) -> Iterator[Compared]:
    """With saves and restarts as `reliability` assumes them, for the sources do not say how long these took."""
    interruptions = goodput.planned + goodput.unexpected
    yield Compared(goodput.source, "interruptions", "", goodput.printed_interruptions, interruptions, 0.0)
    between = goodput.days * DAY_SECONDS / interruptions
    blocked, restart = CLUSTER_BLOCKED_SECONDS.value, CLUSTER_RESTART_SECONDS.value
    share = effective_share(best_interval(blocked, between), blocked, restart, between)
    what = f"effective time, if saves block {blocked:g} s and restarts take {restart / 60:g} min"
    yield Compared(goodput.source, what, "share", goodput.printed_effective, share, 0.05)
