"""The recipe of the compute-optimal model of a budget: the recipe's own family and data, at the size the law says."""

from __future__ import annotations

from dataclasses import dataclass

from herdsman.cluster.recipe_file import batch_tokens_for, recipe_text, resized, scaled_schedule
from herdsman.model.count import count_parameters
from herdsman.model.options import ModelOptions
from herdsman.options import Options
from herdsman.scaling.isoflop import Family
from herdsman.scaling.law import Estimate, Fit
from herdsman.training.options import PretrainOptions


@dataclass(frozen=True)
class Flagship:
    """What a budget is best spent on.

    Attributes:
        tokens: of training, that this model and the budget leave.
        optimum: of tokens, by the law, for no model in particular.
        loss: held-out, foretold.
    """

    budget: float
    model: ModelOptions
    parameters: int
    tokens: int
    optimum: Estimate
    loss: Estimate


def flagship(fit: Fit, budget: float, family: Family) -> Flagship:
    """The member of the family that the budget is for at the law's optimum of tokens, with tokens to spend it whole."""
    optimum = fit.tokens(budget)
    model = family.nearest(budget / optimum.value)
    parameters = count_parameters(model, family.vocab_size).total
    tokens = round(budget / family.flops_a_token(model))
    return Flagship(budget, model, parameters, tokens, optimum, fit.loss(budget))


def flagship_recipe(found: Flagship, recipe: Options, name: str, pretrain: PretrainOptions, parameters: int) -> str:
    """The recipe's text, ready to raise: its phases keep their shares of the tokens, its peak learning rate is that of
    the sweep's runs.

    Args:
        recipe: with the data, which stays as it is.
        name: of that recipe.
        pretrain: of that recipe.
        parameters: of that recipe's model.
    """
    schedule = scaled_schedule(pretrain, parameters, found.tokens, batch_tokens_for(found.budget))
    rates = {key: getattr(pretrain, key) for key in ("peak_learning_rate", "final_learning_rate")}
    title = f"{name}-{found.budget:.3g}".replace("+", "")
    said = f"The compute-optimal model of {found.budget:.3g} FLOPs by the scaling law of {name}."
    table = resized(recipe, title, said, found.model, schedule.model_copy(update=rates))
    return recipe_text(
        table,
        said,
        f"{found.parameters:,} parameters, {found.tokens:,} tokens; the law's optimum is {found.optimum.value:.4g} "
        f"tokens ({found.optimum.low:.4g} to {found.optimum.high:.4g} with 95% confidence).",
        f"Foretold held-out loss: {found.loss.value:.3f} nats a token ({found.loss.low:.3f} to {found.loss.high:.3f}).",
    )
