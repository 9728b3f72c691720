"""Plans of recipes: for the machines that are asked for, that fit them, or that they are raised on. Needs no torch."""

from __future__ import annotations

import shutil
import subprocess

from herdsman.cluster.hardware import THIS, Hardware, list_hardware, load_hardware
from herdsman.cluster.plan import Plan, default_gpus, default_hardware, make_plan
from herdsman.model.count import SPECIAL_TOKENS, training_flops
from herdsman.recipe import MachineOptions, Recipe


def plan_recipe(recipe: Recipe, hardware: Hardware, gpus: int) -> Plan:
    """
    Raises:
        RecipeError: a layout does not fit the model, its sequences or the GPUs.
    """
    return make_plan(
        recipe.name, recipe.model, recipe.tokenizer.vocab_size, recipe.pretrain, hardware, gpus,
        recipe.release.carbon_grams_per_kwh,
    )  # fmt: skip


def machine_for(recipe: Recipe, gpu: str | None, gpus: int | None) -> tuple[Hardware, int]:
    """The hardware that is asked for, or fits the recipe, and how many devices."""
    tokens = sum(phase.tokens for phase in recipe.pretrain.phases)
    flops = training_flops(recipe.model, recipe.tokenizer.vocab_size + SPECIAL_TOKENS, tokens)
    hardware = load_hardware(gpu) if gpu else default_hardware(flops, recipe.machine.device)
    said = processes(recipe.machine)
    return hardware, gpus or (said if said > 1 else default_gpus(flops, recipe.pretrain, hardware))


def processes(machine: MachineOptions) -> int:
    """Of all machines, where their number may vary at most."""
    return machine.processes * int(machine.nodes.rpartition(":")[2])


def present_hardware(machine: MachineOptions) -> Hardware:
    """What this machine is, as far as it is known: calibrated, or a GPU that there is a file for, or some CPU."""
    name = None if machine.device == "cpu" else _gpu_name()
    device = "cuda" if name else "cpu"
    if THIS in list_hardware() and load_hardware(THIS).device == device:
        return load_hardware(THIS)
    known = [each for each in list_hardware() if name and all(part in name for part in each.split("-"))]
    return load_hardware(known[0] if known else "cpu")


def _gpu_name() -> str | None:
    """Of the first GPU, in small letters without spaces; asked of the driver, for torch would take memory of it."""
    if not shutil.which("nvidia-smi"):
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    return found[0].lower().replace(" ", "") if found else None
