"""Power, energy, carbon and money.

Energy and carbon are counted as the Llama model cards do: GPU-hours by the power a GPU is made for, by the carbon of
the grid. What a site draws for them, with hosts, network and cooling, stands beside it.
"""

from __future__ import annotations

from herdsman.cluster.figure import Figure
from herdsman.cluster.hardware import Hardware

SITE_OVERHEAD = Figure(1.25, "", "assumed", 1.1, 1.5, "power of a site over that of its servers (PUE), industry range")


def energy_figures(hardware: Hardware, gpus: int, gpu_hours: Figure, carbon_grams_per_kwh: float) -> dict[str, Figure]:
    """Power in W, energy in kWh, carbon in kg, cost in dollars of so many GPU-hours on so many GPUs."""
    energy = gpu_hours.times(hardware.watts, "kWh").over(
        1000, "kWh", "GPUs alone, at their full power, as model cards count"
    )
    server = hardware.server_watts.over(hardware.gpus_per_server, "W")
    site_watts = server.times(SITE_OVERHEAD, "W")
    swing = hardware.watts.value - hardware.idle_watts.value
    return {
        "power_watts": hardware.watts.times(gpus, "W", "GPUs alone"),
        "site_power_watts": site_watts.times(gpus, "W", "servers at full load, cooling"),
        "power_swing_watts": Figure.exact(swing * gpus, "W", source="when all GPUs stop and start together"),
        "energy_kwh": energy,
        "site_energy_kwh": gpu_hours.times(site_watts, "kWh").over(1000, "kWh", "servers at full load, cooling"),
        "carbon_kg": energy.times(
            carbon_grams_per_kwh / 1000, "kg", f"{carbon_grams_per_kwh:g} g a kWh, location-based"
        ),
        "cost_dollars": gpu_hours.times(hardware.dollars_per_gpu_hour, "$", hardware.dollars_per_gpu_hour.source),
    }
