"""Last chapters: the release with its card, what it all cost, and how to get the same again."""

from __future__ import annotations

import json

from herdsman.release import figures
from herdsman.release.blocks import Bar, Bars, Block, Example, Figure, Figures, Fold, Prose, Table, Texts
from herdsman.release.cost import Cost, costs, total
from herdsman.release.journey import Journey


def cost_lead(journey: Journey) -> str:
    whole = total(costs(journey))
    return (
        f"{figures.duration(whole.wall_seconds)} of waiting, {figures.duration(whole.cpu_seconds)} of computing on CPU cores, "
        f"about {figures.watt_hours(whole.energy_watt_hours)} of electricity."
    )


def cost_blocks(journey: Journey) -> list[Block]:
    parts, options = costs(journey), journey.options
    whole = total(parts)
    bars = [Bar(part.stage, part.wall_seconds, figures.duration(part.wall_seconds), colour="hay") for part in parts]
    return [
        Figures(
            [
                Figure(figures.duration(whole.wall_seconds), "wall time"),
                Figure(f"{whole.cpu_seconds / 3600:.2g}", "CPU-hours"),
                Figure(figures.size(whole.peak_memory_bytes), "peak memory", "of the main process"),
                Figure(figures.watt_hours(whole.energy_watt_hours), "energy", f"{figures.grams(whole.carbon_grams)} of CO₂ equivalent"),
            ]
        ),
        Bars("Where the time went", bars),
        Table(
            "By stage",
            ("stage", "wall", "CPU", "peak memory", "written", "energy", "CO₂e"),
            [_row(part) for part in [*parts, whole]],
            f"Time and memory are measured, over all sessions a stage took. Energy assumes {options.cpu_watts_per_core:g} W a busy "
            f"core, carbon {options.carbon_grams_per_kwh:g} g a kWh; both are set under [release] in the recipe.",
        ),
    ]  # fmt: skip


def _row(cost: Cost) -> tuple[str, ...]:
    return (
        cost.stage, figures.duration(cost.wall_seconds), figures.duration(cost.cpu_seconds), figures.size(cost.peak_memory_bytes),
        figures.size(cost.written_bytes), figures.watt_hours(cost.energy_watt_hours), figures.grams(cost.carbon_grams),
    )  # fmt: skip


REPRODUCE_LEAD = (
    "The same recipe and seed give the same bytes. Compare digests, stage by stage, to see that yours is the same herd."
)


def reproduce_blocks(journey: Journey) -> list[Block]:
    finished = journey.finished
    digests = [
        (record.stage, record.manifest.get("digest", "")[:16], record.manifest.get("fingerprint", "")[:16],
         figures.count(len(record.manifest.get("outputs", {}))), record.manifest.get("sessions", 1))
        for record in finished
    ]  # fmt: skip
    software = {name: version for record in finished for name, version in record.manifest.get("software", {}).items()}
    recipe = json.dumps(journey.recipe, indent=2, ensure_ascii=False)
    return [
        Table(
            "Digests",
            ("stage", "digest of its files", "fingerprint", "files", "sessions"),
            digests,
            "The digest is over the SHA-256 of every file a stage wrote (first 16 hex digits; the manifests hold them whole). "
            "The fingerprint is over what the result depends on: options, seed, inputs, the stage's version.",
        ),
        Table("Software", ("package", "version"), sorted(software.items())),
        Fold("The recipe as it was resolved", [Texts("recipe.json", [Example(f"seed {journey.recipe.get('seed', '?')}", recipe)])]),
    ]  # fmt: skip


def release_lead(journey: Journey) -> str:
    return "Packed for others: a folder that Hugging Face's tools load, with its model card."


def release_blocks(journey: Journey, card: str) -> list[Block]:
    record = journey["release"]
    files = [(entry["path"], figures.size(entry["bytes"])) for entry in record.get("files", [])]
    found: list[Block] = [
        Prose("release/huggingface is ready to upload or to load with transformers.AutoModelForCausalLM.from_pretrained."),
        Table("Files", ("file", "size"), files),
    ]
    checks = [(check["name"], check["result"]) for check in record.get("checks", [])]
    if checks:
        found.append(Table("Checked before release", ("check", "result"), checks, text_columns=(0, 1)))
    return [*found, Fold("The model card", [Texts("README.md", [Example(journey.name, card)])])]
