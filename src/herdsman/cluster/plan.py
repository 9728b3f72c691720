"""What pretraining a recipe takes, before it is paid for: figures by chapter and by phase of the schedule. No torch.

Ranges come from what the models behind the figures missed on published runs, from gates that may prolong phases, and
from the ranges of what is assumed; see docs/plan.md.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from herdsman.cluster.energy import energy_figures
from herdsman.cluster.figure import Figure
from herdsman.cluster.hardware import THIS, Hardware, list_hardware, load_hardware
from herdsman.cluster.layouts import FULLEST
from herdsman.cluster.limits import Standing, standings
from herdsman.cluster.memory import SPREAD as MEMORY_SPREAD
from herdsman.cluster.memory import estimate_memory
from herdsman.cluster.phase_layouts import job_of
from herdsman.cluster.reliability import reliability_figures
from herdsman.cluster.step_time import estimate_step, spread
from herdsman.cluster.storage import checkpoint_bytes, storage_figures
from herdsman.model.count import SPECIAL_TOKENS, count_parameters, training_flops
from herdsman.model.options import ModelOptions
from herdsman.training.hyperparameters import Hyperparameters
from herdsman.training.options import Phase, PretrainOptions
from herdsman.training.parallel.layout import Layout
from herdsman.training.schedule import Schedule

CHINCHILLA_TOKENS_PER_PARAMETER = 20


LONGEST_DAYS, ASSUMED_MFU = 90, 0.4
CPU_FLOPS = 1e17
"""Training operations up to which a recipe is planned for a CPU: some days of one."""


@dataclass(frozen=True)
class PhasePlan:
    """One row of the schedule, with what it takes.

    Attributes:
        tokens: from those of the schedule to those that its gate may add.
        step_parts: seconds of a step, by part.
        memory_parts: bytes of the fullest GPU, by part.
    """

    name: str
    steps: int
    batch_tokens: int
    sequence_length: int
    layout: Layout
    tokens: Figure
    flops: Figure
    step_seconds: Figure
    seconds: Figure
    mfu: Figure
    step_parts: dict[str, Figure]
    memory: Figure
    memory_parts: dict[str, Figure]


@dataclass(frozen=True)
class Plan:
    """Figures by chapter, by phase, and what laws say of so much computing.

    Attributes:
        rates: learning rates and warmup, and which of them follow from the size.
        warnings: sentences about what will not work as it is planned.
    """

    name: str
    hardware: str
    device: str
    gpus: int
    chapters: dict[str, dict[str, Figure]]
    phases: list[PhasePlan]
    limits: list[Standing]
    rates: Hyperparameters
    warnings: list[str]

    @property
    def longest(self) -> PhasePlan:
        """The phase that takes most of the time."""
        return max(self.phases, key=lambda phase: phase.seconds.value)

    def as_json(self) -> dict[str, Any]:
        limits = [standing.as_json() for standing in self.limits]
        return asdict(self) | {"limits": limits, "longest": self.longest.name}


def default_hardware(flops: float, device: str) -> Hardware:
    """The present machine for what a CPU can train in days, as calibrated or assumed; else H100s."""
    if device == "cpu" or (device == "auto" and flops < CPU_FLOPS):
        return load_hardware(THIS if THIS in list_hardware() else "cpu")
    return load_hardware("h100")


def default_gpus(flops: float, pretrain: PretrainOptions, hardware: Hardware) -> int:
    """The least power of two of GPUs that trains for so many operations within 90 days at 40% of their peak, and that
    the recipe's layouts can be spread over."""
    layouts = [phase.layout or pretrain.layout for phase in pretrain.phases]
    gpus = max(each.tensor * each.context * each.pipeline * (each.data or 1) for each in layouts)
    if hardware.device == "cpu":
        return gpus
    rate = hardware.peak_flops(pretrain.precision) * ASSUMED_MFU
    while flops / (rate * gpus) > LONGEST_DAYS * 86_400:
        gpus *= 2
    return gpus


def make_plan(
    name: str,
    model: ModelOptions,
    bpe_tokens: int,
    pretrain: PretrainOptions,
    hardware: Hardware,
    gpus: int,
    carbon_grams_per_kwh: float,
) -> Plan:
    """Plans pretraining on so many GPUs, or processes of a CPU.

    Args:
        name: of the recipe.
        bpe_tokens: tokens of the vocabulary without the special ones.

    Raises:
        RecipeError: a layout does not fit the model, its sequences or the GPUs.
        InputError: the hardware does not multiply in the recipe's precision.
    """
    vocab_size = bpe_tokens + SPECIAL_TOKENS
    count = count_parameters(model, vocab_size)
    schedule = Schedule(pretrain, count.total)
    phases = [_phase(phase, pretrain, model, vocab_size, hardware, gpus) for phase in pretrain.phases]
    training = phases[0].seconds
    for phase in phases[1:]:
        training = training.plus(phase.seconds)
    training = Figure(training.value, "s", "derived", training.low, training.high, "all steps, without interruption")
    more_tokens = sum(phase.tokens.high - phase.tokens.value for phase in phases)
    tokens = Figure(
        schedule.tokens,
        "tokens",
        "derived",
        schedule.tokens,
        schedule.tokens + more_tokens,
        "the schedule; gates may add some" if more_tokens else "the schedule",
    )
    compute = _compute(model, vocab_size, count.total, tokens, phases)
    servers = 1 if hardware.device == "cpu" else -(-gpus // hardware.gpus_per_server)
    saved_bytes = checkpoint_bytes(count, pretrain.optimizer.name) / gpus
    validation = _validation(pretrain, phases)
    busy = training.plus(validation)
    reliability = reliability_figures(pretrain.checkpoints, gpus, servers, saved_bytes, busy)
    elapsed = busy.over(reliability["effective_share"], "s")
    reliability["effective_share"] = reliability["effective_share"].times(training.value / busy.value, "share")
    gpu_hours = elapsed.times(gpus / 3600, "GPU-hours", "with interruptions")
    fullest = max((phase.memory for phase in phases), key=lambda memory: memory.value)
    mean_mfu = compute["flops_causal"].value / (training.value * gpus * hardware.peak_flops(pretrain.precision))
    chapters = {
        "model": {
            part: Figure.exact(number, "parameters")
            for part, number in (("total", count.total), *asdict(count).items())
        }
        | {"vocabulary": Figure.exact(vocab_size, "rows")},
        "compute": compute,
        "time": {
            "days": elapsed.over(86_400, "days", "with interruptions"),
            "gpu_hours": gpu_hours,
            "training_seconds": training,
            "validation_seconds": validation,
            "mfu": Figure(
                mean_mfu, "share", "derived", mean_mfu * training.value / training.high,
                mean_mfu * training.value / training.low, "attention counted causally, as Llama 3 does",
            ),
            "steps": Figure.exact(schedule.steps, "steps"),
        },
        "memory": {"fullest": fullest, "there_is": hardware.memory_bytes},
        "reliability": reliability,
        "energy": energy_figures(hardware, gpus, gpu_hours, carbon_grams_per_kwh),
        "storage": storage_figures(pretrain, count, vocab_size, gpus, int(tokens.value), elapsed),
    }  # fmt: skip
    cluster = Figure.exact(gpus * hardware.peak_flops(pretrain.precision), "FLOP/s")
    limits = standings({"training_flops": _counted(compute), "cluster_flops_per_second": cluster})
    return Plan(
        name, hardware.name, hardware.device, gpus, chapters, phases, limits, schedule.rates,
        _warnings(phases, hardware, reliability),
    )  # fmt: skip


def _phase(
    phase: Phase, pretrain: PretrainOptions, model: ModelOptions, vocab_size: int, hardware: Hardware, gpus: int
) -> PhasePlan:
    layout = Layout.of(phase.layout or pretrain.layout, gpus)
    layout.check(model, [phase.sequence_length])
    job = job_of(phase, pretrain, model, vocab_size, hardware)
    step, memory = estimate_step(job, layout, hardware), estimate_memory(job, layout, hardware)
    precision = hardware.resolve(pretrain.precision)
    least, most = spread(hardware, precision)
    peak = hardware.peaks[precision]
    least, most = least * peak.value / peak.high, most * peak.value / peak.low

    def seconds(value: float) -> Figure:
        return Figure(value, "s", "derived", value * least, value * most, "amounts over rates of the hardware")

    def stored(value: float) -> Figure:
        return Figure(
            value, "B", "derived", value * MEMORY_SPREAD[0], value * MEMORY_SPREAD[1], "what the trainer keeps"
        )

    tokens = phase.steps * phase.batch_tokens
    with_gate = tokens + (phase.gate.most_tokens if phase.gate else 0)
    figure = Figure(tokens, "tokens", "derived", tokens, with_gate, "the schedule")
    return PhasePlan(
        phase.name,
        phase.steps,
        phase.batch_tokens,
        phase.sequence_length,
        layout,
        figure,
        figure.times(step.flops_whole / step.tokens, "FLOP", "attention counted whole"),
        seconds(step.seconds),
        seconds(step.seconds).times(figure.over(phase.batch_tokens, "steps"), "s", "its steps"),
        Figure(
            step.mfu_causal, "share", "derived", step.mfu_causal / most, step.mfu_causal / least, "attention causal"
        ),
        {part: seconds(value) for part, value in step.parts.items()},
        stored(memory.total_bytes),
        {part: stored(value) for part, value in memory.parts.items() if value},
    )


def _validation(pretrain: PretrainOptions, phases: list[PhasePlan]) -> Figure:
    """Measurements of the held-out loss on the way: forward passes over sequences as long as the first phase's."""
    first = phases[0]
    tokens = pretrain.validations * pretrain.validation_tokens
    return first.step_seconds.times(
        tokens / first.batch_tokens / 3, "s", "at most: a third of training on these tokens"
    )


def _compute(
    model: ModelOptions, vocab_size: int, parameters: int, tokens: Figure, phases: list[PhasePlan]
) -> dict[str, Figure]:
    """Tokens and operations, by the three ways of counting that are in use."""
    whole, causal = Figure.exact(0.0, "FLOP"), Figure.exact(0.0, "FLOP")
    for phase in phases:
        whole = whole.plus(phase.flops)
        half = training_flops(model, vocab_size, 1, phase.sequence_length // 2)
        causal = causal.plus(phase.tokens.times(half, "FLOP"))
    return {
        "tokens": tokens,
        "chinchilla_multiple": tokens.over(
            CHINCHILLA_TOKENS_PER_PARAMETER * parameters, "x", "of 20 tokens a parameter (Hoffmann et al. 2022)"
        ),
        "flops_6nd": tokens.times(6 * parameters, "FLOP", "6 x parameters x tokens"),
        "flops_causal": Figure(
            causal.value,
            "FLOP",
            "derived",
            causal.low,
            causal.high,
            "matrices and half of attention, as Llama 3 counts",
        ),
        "flops_whole": Figure(
            whole.value, "FLOP", "derived", whole.low, whole.high, "matrices and all of attention, as most count"
        ),
    }


def _counted(compute: dict[str, Figure]) -> Figure:
    """Training operations, in the range of the conventions."""
    ways = [compute[name] for name in ("flops_6nd", "flops_causal", "flops_whole")]
    low, high = min(way.low for way in ways), max(way.high for way in ways)
    return Figure(ways[0].value, "FLOP", "derived", low, high, "6ND; range over the ways of counting")


def _warnings(phases: list[PhasePlan], hardware: Hardware, reliability: dict[str, Figure]) -> list[str]:
    found = []
    room = FULLEST * hardware.memory_bytes.value
    full = [phase for phase in phases if phase.memory.value > room]
    if full:
        worst = max(full, key=lambda phase: phase.memory.value)
        needed, there = worst.memory.value / 1e9, hardware.memory_bytes.value / 1e9
        found.append(
            f"the phase {worst.name} takes {needed:,.1f} GB of the {there:,.0f} a device has ({len(full)} of "
            f"{len(phases)} phases do not fit): choose another layout (--layouts shows some that fit), recompute, or "
            "smaller micro-batches"
        )
    idle = [phase for phase in phases if phase.batch_tokens // phase.sequence_length < phase.layout.data]
    if idle:
        worst = max(idle, key=lambda phase: phase.layout.data * phase.sequence_length / phase.batch_tokens)
        rows = worst.batch_tokens // worst.sequence_length
        found.append(
            f"the phase {worst.name} has {rows:,} sequences a step for {worst.layout.data:,} data ranks: some idle"
        )
    if reliability["effective_share"].value < 0.5:
        found.append("more than half of the time is lost to interruptions: save more often, or restart faster")
    return found
