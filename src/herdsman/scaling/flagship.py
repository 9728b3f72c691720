"""The recipe of the compute-optimal model of a budget: the recipe's own family and data, at the size the law says."""

from __future__ import annotations

from dataclasses import dataclass

from herdsman.cluster.recipe_file import batch_tokens_for, recipe_text, resized, scaled_schedule
from herdsman.model.count import count_parameters
from herdsman.model.options import ModelOptions
from herdsman.options import Options
from herdsman.scaling.curve import Estimate
from herdsman.scaling.isoflop import Family
from herdsman.scaling.law import Fit
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


def flagship_recipe(found: Flagship, recipe: Options, name: str, pretrain: PretrainOptions, family: Family) -> str:
    """The recipe's text, ready to raise: its phases keep their shares of the tokens, and its learning rate follows the
    recipe's as those of the sweep do.

    Args:
        recipe: with the data, which stays as it is.
        name: of that recipe.
        pretrain: of that recipe.
    """
    batch_tokens = batch_tokens_for(found.budget)
    schedule = scaled_schedule(pretrain, family.base_parameters, found.parameters, found.tokens, batch_tokens)
    title = f"{name}-{found.budget:.3g}".replace("+", "")
    said = f"The compute-optimal model of {found.budget:.3g} FLOPs by the scaling law of {name}."
    tokens, loss = found.optimum, found.loss
    return recipe_text(
        resized(recipe, title, said, found.model, schedule),
        said,
        f"{found.parameters:,} parameters, {found.tokens:,} tokens; the law's optimum is {tokens.value:.4g} tokens, "
        f"with 95% confidence {tokens.low:.4g} to {tokens.high:.4g}.",
        f"Foretold held-out loss: {loss.value:.3f} nats a token, {loss.low:.3f} to {loss.high:.3f}.",
    )
