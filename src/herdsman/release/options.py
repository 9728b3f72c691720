"""What the report and the model card say of the release, and the assumptions behind energy and carbon."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class ReleaseOptions(Options):
    """Name and licence of the release, and what turns measured time into energy and carbon."""

    name: str = Field("", description="Name of the model on its card and in the report; the herd's own name if empty.")
    licence: str = Field(
        "other", description="Licence of the weights, as a Hugging Face licence tag (apache-2.0, mit, other, ...)."
    )
    cpu_watts_per_core: float = Field(
        10.0, gt=0, description="Power of one busy CPU core with its share of the machine, in watts."
    )
    gpus: int = Field(0, ge=0, description="GPUs that the stages which run models held; 0 for a run on CPUs.")
    gpu_watts: float = Field(700.0, gt=0, description="Power of one GPU in use, in watts (700 on the Llama 3.1 card).")
    carbon_grams_per_kwh: float = Field(
        414.0,
        ge=0,
        description="Carbon intensity of the electricity, in grams of CO2 equivalent per kWh; 414 is what the "
        "Llama 3.1 card implies (11,390 t for 39.3 million hours of a 700 W GPU).",
    )
