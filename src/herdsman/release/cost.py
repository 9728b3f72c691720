"""What a run took: time, computing, memory, energy and carbon, by stage and in all.

Times and memory are measured (the manifests hold them); energy is processor time by an assumed power, carbon is energy
by an assumed intensity, all options of the release. Training computing is counted, not measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from herdsman.release.journey import Journey, Record
from herdsman.release.options import ReleaseOptions

MODEL_STAGES = ("pretrain", "posttrain", "evaluate", "safety")
"""Stages that run models, and hold the GPUs of a machine that has some."""


@dataclass(frozen=True)
class Cost:
    """Cost of one stage or of several."""

    stage: str
    wall_seconds: float
    cpu_seconds: float
    gpu_seconds: float
    peak_memory_bytes: int
    written_bytes: int
    energy_watt_hours: float
    carbon_grams: float


def stage_cost(record: Record, options: ReleaseOptions) -> Cost:
    """Measured time and memory of a finished stage, with energy and carbon by the options' assumptions.

    GPU time is the wall time of the stages that run models, times the options' number of GPUs: what a cluster bills.
    """
    manifest = record.manifest
    cpu_seconds, wall_seconds = float(manifest.get("cpu_seconds", 0)), float(manifest.get("wall_seconds", 0))
    gpu_seconds = wall_seconds * options.gpus if record.stage in MODEL_STAGES else 0.0
    energy = (cpu_seconds * options.cpu_watts_per_core + gpu_seconds * options.gpu_watts) / 3600
    return Cost(
        stage=record.stage,
        wall_seconds=wall_seconds,
        cpu_seconds=cpu_seconds,
        gpu_seconds=gpu_seconds,
        peak_memory_bytes=int(manifest.get("peak_memory_bytes", 0)),
        written_bytes=sum(entry["bytes"] for entry in manifest.get("outputs", {}).values()),
        energy_watt_hours=energy,
        carbon_grams=energy / 1000 * options.carbon_grams_per_kwh,
    )


def costs(journey: Journey) -> list[Cost]:
    """Costs of the finished stages, in order."""
    return [stage_cost(record, journey.options) for record in journey.finished]


def total(parts: Iterable[Cost]) -> Cost:
    """The sum; for memory the largest."""
    parts = list(parts)
    return Cost(
        stage="all",
        wall_seconds=sum(part.wall_seconds for part in parts),
        cpu_seconds=sum(part.cpu_seconds for part in parts),
        gpu_seconds=sum(part.gpu_seconds for part in parts),
        peak_memory_bytes=max((part.peak_memory_bytes for part in parts), default=0),
        written_bytes=sum(part.written_bytes for part in parts),
        energy_watt_hours=sum(part.energy_watt_hours for part in parts),
        carbon_grams=sum(part.carbon_grams for part in parts),
    )


def assumption(options: ReleaseOptions) -> str:
    """In one sentence, what the energy and carbon figures rest on."""
    gpus = f" and {options.gpu_watts:g} W for each of {options.gpus:,} GPUs" if options.gpus else ""
    return (
        f"Energy is not metered: it assumes {options.cpu_watts_per_core:g} W for a busy CPU core{gpus}; carbon assumes "
        f"{options.carbon_grams_per_kwh:g} g of CO₂ equivalent a kWh."
    )
