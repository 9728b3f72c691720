"""Plans asked the other way round: the best model for a budget, and what it takes to match a published one.

Both give a model, a schedule and layouts that fit, made from a recipe that supplies all the rest: data, vocabulary,
phases, optimizer.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from herdsman.cluster.figure import Figure
from herdsman.cluster.hardware import Hardware
from herdsman.cluster.laws import CHINCHILLA, FLOPS_PER_PARAMETER_TOKEN, TokenLaw
from herdsman.cluster.layouts import search
from herdsman.cluster.phase_layouts import job_of, lay_out_phases, main_phase
from herdsman.cluster.plan import ASSUMED_MFU, LONGEST_DAYS, Plan
from herdsman.cluster.recipe_file import batch_tokens_for, scaled_schedule
from herdsman.errors import InputError, RecipeError
from herdsman.model.count import SPECIAL_TOKENS, count_parameters
from herdsman.model.options import ModelOptions
from herdsman.model.shape import llama_shape
from herdsman.training.options import PretrainOptions

ROUNDS = 4  # of size by speed and speed by size
MOST_GPUS = 1 << 20

Planner = Callable[[ModelOptions, PretrainOptions, int], Plan]


@dataclass(frozen=True)
class Published:
    """A model to match.

    Attributes:
        benchmarks: of the base model, in percent, by name and number of examples.
    """

    name: str
    parameters: int
    tokens: float
    source: str
    shape: ModelOptions | None
    benchmarks: dict[str, float]

    @property
    def flops(self) -> float:
        return FLOPS_PER_PARAMETER_TOKEN * self.parameters * self.tokens


@dataclass(frozen=True)
class Answer:
    """A model for a budget, or one like another, with its plan.

    Attributes:
        optimum: tokens that the law finds best for as much computing.
        loss: that the law expects of the best model, in nats a held-out token; None where it does not say.
        matched: the model that it is like, if it was asked for.
        same_loss_flops: of the cheapest model with the same loss as that one.
    """

    model: ModelOptions
    pretrain: PretrainOptions
    plan: Plan
    optimum: Figure
    loss: float | None = None
    matched: Published | None = None
    same_loss_flops: Figure | None = None

    def as_json(self) -> dict[str, Any]:
        plan = self.plan.as_json() | {"model": self.model.model_dump(), "pretrain": self.pretrain.model_dump()}
        plan |= {"optimal_tokens": self.optimum.as_json(), "loss": self.loss}
        if self.matched and self.same_loss_flops:
            shown = {name: value for name, value in vars(self.matched).items() if name != "shape"}
            plan["matched"] = shown | {"same_loss_flops": self.same_loss_flops.as_json()}
        return plan


@dataclass(frozen=True)
class Question:
    """What a recipe gives, and where it is to run.

    Attributes:
        planner: makes the plan of a model and a schedule on so many GPUs.
    """

    model: ModelOptions
    bpe_tokens: int
    pretrain: PretrainOptions
    hardware: Hardware
    law: TokenLaw
    planner: Planner

    @property
    def vocab_size(self) -> int:
        return self.bpe_tokens + SPECIAL_TOKENS

    def best_model(self, gpus: int, days: float) -> Answer:
        """The model whose training uses these GPUs for so many days, at the size that the law finds best.

        Raises:
            RecipeError: the budget is too small for any model with this vocabulary, or no layout fits.
        """
        flops = gpus * days * 86_400 * self.hardware.peak_flops(self.pretrain.precision) * ASSUMED_MFU
        for _ in range(ROUNDS):
            model = self._shape(flops)
            rate = self._flops_per_second(model, self._schedule(model, flops), gpus)
            flops = rate * days * 86_400 if rate else flops
        model = self._shape(flops)
        pretrain = self._laid_out(model, self._schedule(model, flops), gpus)
        plan = self.planner(model, pretrain, gpus)
        # What the other phases and interruptions take, the tokens give.
        count = count_parameters(model, self.vocab_size).total
        tokens = plan.chapters["compute"]["tokens"].value * days / plan.chapters["time"]["days"].value
        largest = max(phase.batch_tokens for phase in pretrain.phases)
        pretrain = scaled_schedule(pretrain, count, count, round(tokens), largest)
        flops = FLOPS_PER_PARAMETER_TOKEN * count * tokens
        plan = self.planner(model, pretrain, gpus)
        return Answer(model, pretrain, plan, self.law.tokens(flops), self.law.lowest_loss(flops))

    def matching(self, published: Published, gpus: int | None, days: float | None) -> Answer:
        """The published model's size on as many tokens, on so many GPUs, or on as many as these days take.

        Raises:
            RecipeError: no layout fits.
        """
        model = published.shape or llama_shape(published.parameters, self.vocab_size)
        model = model.model_copy(update=_kept(self.model))
        optimum = self.law.tokens(published.flops)
        loss = CHINCHILLA.loss(published.parameters, published.tokens)
        cheapest = Figure.exact(
            CHINCHILLA.least_flops(loss),
            "FLOP",
            "assumed",
            "the cheapest of the same loss by Chinchilla's law, refitted",
        )
        schedule = self._schedule(model, published.flops, int(published.tokens))
        count = gpus or self._gpus_for(model, schedule, published.flops, days or LONGEST_DAYS)
        pretrain = self._laid_out(model, schedule, count)
        return Answer(model, pretrain, self.planner(model, pretrain, count), optimum, None, published, cheapest)

    def _gpus_for(self, model: ModelOptions, schedule: PretrainOptions, flops: float, days: float) -> int:
        """The least power of two of GPUs on which a schedule fits, and is done within these days."""
        gpus = 1
        while True:
            rate = self._flops_per_second(model, schedule, gpus)
            if rate and flops <= rate * days * 86_400:
                plan = self.planner(model, self._laid_out(model, schedule, gpus), gpus)
                if plan.chapters["time"]["days"].value <= days:
                    return gpus
            if gpus >= MOST_GPUS:
                raise RecipeError(
                    f"{gpus:,} {self.hardware.name} do not do it in {days:g} days", where="plan", do="give it more days"
                )
            gpus *= 2

    def _flops_per_second(self, model: ModelOptions, schedule: PretrainOptions, gpus: int) -> float | None:
        """What the fastest layout of the main phase comes to, by 6ND; None if none fits."""
        job = job_of(main_phase(schedule), schedule, model, self.vocab_size, self.hardware)
        best = search(job, self.hardware, gpus, most=1).best
        if not best:
            return None
        count = count_parameters(model, self.vocab_size).total
        return FLOPS_PER_PARAMETER_TOKEN * count * best[0].step.tokens / best[0].step.seconds

    def _shape(self, flops: float) -> ModelOptions:
        parameters = round(flops / (FLOPS_PER_PARAMETER_TOKEN * self.law.tokens(flops).value))
        try:
            shape = llama_shape(parameters, self.vocab_size)
        except ValueError as error:
            raise RecipeError(
                f"{flops:.2g} FLOPs are best spent on {parameters:,} parameters, too few for a vocabulary of "
                f"{self.vocab_size:,}",
                where="tokenizer.vocab_size",
                do="choose a smaller one, or a larger budget",
            ) from error
        return shape.model_copy(update=_kept(self.model))

    def _schedule(self, model: ModelOptions, flops: float, tokens: int | None = None) -> PretrainOptions:
        count = count_parameters(model, self.vocab_size).total
        tokens = tokens or round(flops / (FLOPS_PER_PARAMETER_TOKEN * count))
        before = count_parameters(self.model, self.vocab_size).total
        return scaled_schedule(self.pretrain, before, count, tokens, batch_tokens_for(flops))

    def _laid_out(self, model: ModelOptions, schedule: PretrainOptions, gpus: int) -> PretrainOptions:
        return lay_out_phases(schedule, model, self.vocab_size, self.hardware, gpus)


def load_published(name: str) -> Published:
    """A model to match, by its name.

    Raises:
        InputError: there is none of this name.
    """
    text = (files("herdsman.cluster") / "models.toml").read_text(encoding="utf-8")
    table = {entry["name"]: entry for entry in tomllib.loads(text)["model"]}
    entry = table.get(name.lower())
    if entry is None:
        close = difflib.get_close_matches(name.lower(), table, 1)
        do = f"did you mean {close[0]}?" if close else f"known are {', '.join(table)}"
        raise InputError("is no published model that is known", where=name, do=do)
    shape = ModelOptions(**entry["shape"]) if "shape" in entry else None
    return Published(
        name.lower(), int(entry["parameters"]), entry["tokens"], entry["source"], shape, entry.get("benchmarks", {})
    )


def _kept(model: ModelOptions) -> dict[str, object]:
    """What a model has of the recipe's whatever its size."""
    return {
        name: getattr(model, name)
        for name in ("context_length", "rope_theta", "rope_scaling", "norm_eps", "initial_std")
    }
