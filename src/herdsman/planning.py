"""Plans of recipes: for the machines that are asked for, that fit them, or that they are raised on. Needs no torch."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

from herdsman.cluster.hardware import THIS, Hardware, hardware_of, list_hardware, load_hardware
from herdsman.cluster.laws import LLAMA3, read_law
from herdsman.cluster.layouts import Search, search
from herdsman.cluster.phase_layouts import job_of, lay_out_phases, main_phase
from herdsman.cluster.plan import Plan, default_gpus, default_hardware, make_plan
from herdsman.cluster.questions import Answer, Question, load_published
from herdsman.cluster.recipe_file import recipe_text, resized
from herdsman.model.count import SPECIAL_TOKENS, training_flops
from herdsman.model.options import ModelOptions
from herdsman.recipe import MachineOptions, Recipe
from herdsman.release import figures
from herdsman.training.options import PretrainOptions


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
    return (name and hardware_of(name)) or load_hardware("cpu")


def _gpu_name() -> str | None:
    """Of the first GPU; asked of the driver, for torch would take memory of it."""
    if not shutil.which("nvidia-smi"):
        return None
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    return found[0] if found else None


def ask(
    recipe: Recipe, hardware: Hardware, gpus: int | None, days: float | None, match: str | None, law: Path | None
) -> tuple[Answer, str]:
    """The best model for these GPUs and days, or what matching a published one takes, with its recipe.

    Raises:
        InputError: the model or the law is not known.
        RecipeError: nothing fits.
    """

    def planner(model: ModelOptions, pretrain: PretrainOptions, count: int) -> Plan:
        return plan_recipe(recipe.model_copy(update={"model": model, "pretrain": pretrain}), hardware, count)

    question = Question(
        recipe.model, recipe.tokenizer.vocab_size, recipe.pretrain, hardware, read_law(law) if law else LLAMA3, planner
    )
    if match is not None:
        answer = question.matching(load_published(match), gpus, days)
        said = f"The size and tokens of {match}, on the data of {recipe.name}"
    else:
        answer = question.best_model(gpus or 1, days or 1.0)
        machines = f"{answer.plan.gpus:,} x {hardware.name}"
        said = f"The best model for {machines} and {days:g} days, on the data of {recipe.name}"
    size = figures.short_count(answer.plan.chapters["model"]["total"].value).replace(" ", "").lower()
    answer = replace(answer, plan=replace(answer.plan, name=f"{recipe.name}-{size}"))
    return answer, _text(recipe, answer.plan.name, said, answer.model, answer.pretrain, answer.plan)


def layouts_of(recipe: Recipe, hardware: Hardware, gpus: int) -> tuple[Search, str]:
    """Layouts of the phase with most tokens, ranked, and the recipe with the best of every phase.

    Raises:
        RecipeError: nothing fits.
    """
    vocab_size = recipe.tokenizer.vocab_size + SPECIAL_TOKENS
    job = job_of(main_phase(recipe.pretrain), recipe.pretrain, recipe.model, vocab_size, hardware)
    pretrain = lay_out_phases(recipe.pretrain, recipe.model, vocab_size, hardware, gpus)
    plan = plan_recipe(recipe.model_copy(update={"pretrain": pretrain}), hardware, gpus)
    said = recipe.description or recipe.name
    return search(job, hardware, gpus), _text(recipe, recipe.name, said, recipe.model, pretrain, plan)


def _text(
    recipe: Recipe, name: str, description: str, model: ModelOptions, pretrain: PretrainOptions, plan: Plan
) -> str:
    table = resized(recipe, name, description, model, pretrain)
    days = plan.chapters["time"]["days"]
    comments = [
        f"{description}.",
        f"Planned for {plan.gpus:,} x {plan.hardware}: {days.value:.3g} days ({days.low:.3g} to {days.high:.3g}).",
    ]
    if plan.device == "cuda":
        server = load_hardware(plan.hardware).gpus_per_server
        servers = -(-plan.gpus // server)
        table["machine"] = table.get("machine", {}) | {"processes": min(plan.gpus, server), "nodes": str(servers)}
        if servers > 1:
            comments.append("Set machine.rendezvous to HOST:PORT of the first machine before raising it.")
    return recipe_text(table, *comments)
