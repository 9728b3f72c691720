"""Plans asked the other way round: the best model for a budget, and what it takes to match a published one.

Both give a model, a schedule and layouts that fit, made from a recipe that supplies all the rest: data, vocabulary,
phases, optimizer.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from herdsman.cluster.figure import Figure
from herdsman.cluster.hardware import Hardware
from herdsman.cluster.laws import CHINCHILLA, FLOPS_PER_PARAMETER_TOKEN, TokenLaw
from herdsman.cluster.phase_layouts import lay_out_phases
from herdsman.cluster.plan import ASSUMED_MFU, Plan
from herdsman.cluster.recipe_file import batch_tokens_for, scaled_schedule
from herdsman.errors import InputError, RecipeError
from herdsman.model.count import SPECIAL_TOKENS, count_parameters
from herdsman.model.options import ModelOptions
from herdsman.model.shape import llama_shape
from herdsman.training.options import PretrainOptions

ROUNDS, NEAR = 8, 0.01
LEAST_FLOPS = 1e11

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
        matched: the model that it is like, if it was asked for.
        same_loss_flops: of the cheapest model with the same loss as that one.
    """

    model: ModelOptions
    pretrain: PretrainOptions
    plan: Plan
    optimum: Figure
    matched: Published | None = None
    same_loss_flops: Figure | None = None

    def as_json(self) -> dict[str, Any]:
        plan = self.plan.as_json() | {"model": self.model.model_dump(), "pretrain": self.pretrain.model_dump()}
        plan["optimal_tokens"] = self.optimum.as_json()
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
            tokens = self.law.tokens(flops)
            answer = self._answer(self._shape(flops, tokens.value), flops, gpus, tokens)
            ratio = days / answer.plan.chapters["time"]["days"].value
            if abs(ratio - 1) < NEAR:
                break
            flops *= ratio
        return answer

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
        count = gpus or self._gpus_for(model, published, days or 90)
        answer = self._answer(model, published.flops, count, optimum, int(published.tokens))
        return replace(answer, matched=published, same_loss_flops=cheapest)

    def _gpus_for(self, model: ModelOptions, published: Published, days: float) -> int:
        """The least power of two that is done within these days."""
        rate = self.hardware.peak_flops(self.pretrain.precision) * ASSUMED_MFU * days * 86_400
        gpus = 1
        while published.flops > rate * gpus:
            gpus *= 2
        while True:
            answer = self._answer(model, published.flops, gpus, self.law.tokens(published.flops), int(published.tokens))
            if answer.plan.chapters["time"]["days"].value <= days:
                return gpus
            gpus *= 2

    def _shape(self, flops: float, tokens: float) -> ModelOptions:
        parameters = round(flops / (FLOPS_PER_PARAMETER_TOKEN * tokens))
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

    def _answer(
        self, model: ModelOptions, flops: float, gpus: int, optimum: Figure, tokens: int | None = None
    ) -> Answer:
        count = count_parameters(model, self.vocab_size).total
        tokens = tokens or round(flops / (FLOPS_PER_PARAMETER_TOKEN * count))
        before = count_parameters(self.model, self.vocab_size).total
        schedule = scaled_schedule(self.pretrain, before, count, tokens, batch_tokens_for(flops))
        schedule = lay_out_phases(schedule, model, self.vocab_size, self.hardware, gpus)
        return Answer(model, schedule, self.planner(model, schedule, gpus), optimum)


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
