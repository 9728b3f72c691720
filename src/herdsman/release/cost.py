"""What a run took: time, computing, memory, energy and carbon, by stage and in all.

Times and memory are measured (the manifests hold them); energy is CPU time by an assumed power, carbon is energy by an
assumed intensity, both options of the release. Training computing is counted, not measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from herdsman.release.journey import Journey, Record
from herdsman.release.options import ReleaseOptions


@dataclass(frozen=True)
class Cost:
    """Cost of one stage or of several."""

    stage: str
    wall_seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    written_bytes: int
    energy_watt_hours: float
    carbon_grams: float


def stage_cost(record: Record, options: ReleaseOptions) -> Cost:
    manifest = record.manifest
    cpu_seconds = float(manifest.get("cpu_seconds", 0))
    energy = cpu_seconds / 3600 * options.cpu_watts_per_core
    return Cost(
        stage=record.stage,
        wall_seconds=float(manifest.get("wall_seconds", 0)),
        cpu_seconds=cpu_seconds,
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
        peak_memory_bytes=max((part.peak_memory_bytes for part in parts), default=0),
        written_bytes=sum(part.written_bytes for part in parts),
        energy_watt_hours=sum(part.energy_watt_hours for part in parts),
        carbon_grams=sum(part.carbon_grams for part in parts),
    )
