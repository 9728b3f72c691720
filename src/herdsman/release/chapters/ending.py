"""Last chapters: the release with its card, what it all cost, and how to get the same again."""

from __future__ import annotations

import json

from herdsman.release import figures
from herdsman.release.blocks import Bar, Bars, Block, Example, Figure, Figures, Fold, Prose, Table, Texts
from herdsman.release.cost import Cost, assumption, costs, total
from herdsman.release.journey import Journey, Record


def cost_lead(journey: Journey) -> str:
    whole = total(costs(journey))
    return (
        f"{figures.duration(whole.wall_seconds)} of waiting, {figures.duration(whole.cpu_seconds)} of computing on CPU "
        f"cores, about {figures.watt_hours(whole.energy_watt_hours)} of electricity."
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
                Figure(
                    figures.watt_hours(whole.energy_watt_hours),
                    "energy",
                    f"{figures.grams(whole.carbon_grams)} of CO₂ equivalent",
                ),
            ]
        ),
        Bars("Where the time went", bars),
        Table(
            "By stage",
            ("stage", "wall", "CPU", "peak memory", "written", "energy", "CO₂e"),
            [_row(part) for part in [*parts, whole]],
            f"Time and memory are measured, over all sessions a stage took. {assumption(options)} These are set under "
            "[release] in the recipe.",
        ),
    ]


def _row(cost: Cost) -> tuple[str, ...]:
    return (
        cost.stage,
        figures.duration(cost.wall_seconds),
        figures.duration(cost.cpu_seconds),
        figures.size(cost.peak_memory_bytes),
        figures.size(cost.written_bytes),
        figures.watt_hours(cost.energy_watt_hours),
        figures.grams(cost.carbon_grams),
    )


REPRODUCE_LEAD = (
    "The same recipe and seed give the same bytes. Compare digests, stage by stage, to see that yours is the same herd."
)


def reproduce_blocks(journey: Journey) -> list[Block]:
    finished = journey.finished
    digests = [
        (
            record.stage,
            record.manifest.get("digest", "")[:16],
            record.manifest.get("fingerprint", "")[:16],
            figures.count(len(record.manifest.get("outputs", {}))),
            record.manifest.get("sessions", 1),
        )
        for record in finished
    ]
    software = {name: version for record in finished for name, version in record.manifest.get("software", {}).items()}
    recipe = json.dumps(journey.recipe, indent=2, ensure_ascii=False)
    return [
        Table(
            "Digests",
            ("stage", "digest of its files", "fingerprint", "files", "sessions"),
            digests,
            "The digest is over the SHA-256 of every file a stage wrote (first 16 hex digits; the manifests hold them "
            "whole). The fingerprint is over what the result depends on: options, seed, inputs, the stage's version.",
        ),
        Table("Software", ("package", "version"), sorted(software.items())),
        Fold(
            "The recipe as it was resolved",
            [Texts("recipe.json", [Example(f"seed {journey.recipe.get('seed', '?')}", recipe)])],
        ),
    ]


RELEASE_TITLE = "Release"
CARD_LEAD = "What the model is, what it is for, what it cannot do, and what all that rests on."


def release_lead(record: Record) -> str:
    size = sum(entry["bytes"] for entry in record.get("files", []))
    return f"A folder of {figures.size(size)} that Hugging Face's tools load, compared with the model it was made from."


def release_blocks(journey: Journey) -> list[Block]:
    record = journey["release"]
    checks = [(check["name"], check["result"]) for check in record.get("checks", [])]
    files = [(entry["path"], figures.size(entry["bytes"])) for entry in record.get("files", [])]
    return [
        Table("Checked before release", ("check", "on"), checks, text_columns=(0, 1)),
        Table("Files", ("file", "size"), files),
        Prose(
            "The card among them leaves out measured times, so that two runs give the same bytes; logs/README.md "
            "beside them is the card with them."
        ),
    ]
