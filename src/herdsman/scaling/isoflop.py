"""The grid of a sweep: which model trains on how many tokens for a budget, and how. Needs no torch.

FLOPs are counted as `model_flops` does: every matrix product that a token meets, the output projection among them and
the embedding's look-up not, and causal attention over half the sequence. At small sizes this matters: 6 * parameters *
tokens, with or without embeddings, is wrong there by a factor that changes with size, and bends the law's exponent
(Porian et al. 2024, "Resolving Discrepancies in Compute-Optimal Scaling of Language Models"). The law is fitted in
tokens, so no count of parameters enters it; the size that belongs to an optimum follows from budget / tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from herdsman.cluster.recipe_file import batch_tokens_for
from herdsman.errors import RecipeError
from herdsman.model.count import count_parameters, model_flops
from herdsman.model.options import ModelOptions
from herdsman.scaling.curve import LEAST_SIZES
from herdsman.scaling.law import LLAMA3
from herdsman.scaling.options import ScalingOptions
from herdsman.training.hyperparameters import SCALING_LAW_RUNS, hyperparameters, published_peak
from herdsman.training.options import Phase, PretrainOptions
from herdsman.training.parallel.layout import LayoutOptions

WARMUP_SHARE = 0.1  # of the steps, at most: a sweep's smallest runs are shorter than the published warmup
LEAST_LAYERS = 2  # a single one cannot look up what it has read before, and lies off the curve
SHAPE_WEIGHT = 0.25  # of the logarithm of depth over width, against that of FLOPs a token


@dataclass(frozen=True)
class Trial:
    """One run of the grid: a model and its tokens, which together take the budget but for a part of a step."""

    budget: float
    model: ModelOptions
    parameters: int
    tokens: int
    batch_tokens: int
    flops: float


@dataclass(frozen=True)
class Family:
    """Models like one, larger and smaller: depth and width grow together; the ratios of feed-forward to width and of
    query heads to key-value heads stay. So does the width of a head, down to two key-value heads; models that are
    narrower still have narrower heads.

    Attributes:
        base: the model whose shape is kept.
        sequence_length: that it is trained on.
    """

    base: ModelOptions
    vocab_size: int
    sequence_length: int

    @property
    def base_parameters(self) -> int:
        return count_parameters(self.base, self.vocab_size).total

    def flops_a_token(self, model: ModelOptions) -> float:
        return model_flops(model, self.vocab_size, self.sequence_length / 2)

    def nearest(self, flops_a_token: float) -> ModelOptions:
        """The member whose training takes about so many FLOPs a token, of about the base's depth for its width."""
        shape = self.base.dim / self.base.layers
        best, least = self.base, math.inf
        for heads, head_width in self._widths():
            one, two = (self.flops_a_token(self._member(heads, head_width, layers)) for layers in (1, 2))
            if 2 * one > 3 * flops_a_token and best is not self.base:
                break
            dim = self._member(heads, head_width, 1).dim
            lowest = max(LEAST_LAYERS, math.ceil(dim / shape / 2))
            most = max(LEAST_LAYERS, math.floor(2 * dim / shape))
            fitting = 1 + (flops_a_token - one) / (two - one)  # FLOPs are linear in layers
            for layers in {math.floor(fitting), math.ceil(fitting)}:
                layers = min(max(layers, lowest), most)
                miss = abs(math.log((one + (layers - 1) * (two - one)) / flops_a_token))
                miss += SHAPE_WEIGHT * abs(math.log(dim / layers / shape))
                if miss < least:
                    best, least = self._member(heads, head_width, layers), miss
        return best

    def trial(self, budget: float, tokens: float, batch_tokens: int) -> Trial:
        """The member that about so many tokens suit, with the whole steps that its budget is good for."""
        model = self.nearest(budget / tokens)
        steps = max(1, round(budget / self.flops_a_token(model) / batch_tokens))
        parameters = count_parameters(model, self.vocab_size).total
        flops = steps * batch_tokens * self.flops_a_token(model)
        return Trial(budget, model, parameters, steps * batch_tokens, batch_tokens, flops)

    def _widths(self) -> Iterator[tuple[int, int]]:
        """Numbers of heads and their widths, from the narrowest."""
        group = self.base.heads // self.base.kv_heads
        fewest = min(2 * group, self.base.heads)
        yield from ((fewest, width) for width in range(2, self.base.head_width, 2))
        yield from ((heads, self.base.head_width) for heads in count(fewest, group))

    def _member(self, heads: int, head_width: int, layers: int) -> ModelOptions:
        base = self.base
        dim = 2 * round(heads * head_width * base.dim / (base.heads * base.head_width) / 2)
        narrower = min(1.0, dim / base.dim)
        update = {
            "layers": layers,
            "dim": dim,
            "heads": heads,
            "kv_heads": heads * base.kv_heads // base.heads,
            "head_dim": None if dim == heads * head_width else head_width,
            # Rounding that suits the base would make narrow members' feed-forward layers too wide.
            "ffn_multiple_of": min(base.ffn_multiple_of, 2 ** int(math.log2(max(8, base.ffn_multiple_of * narrower)))),
            "ffn_width": None if base.ffn_width is None else max(1, round(base.ffn_width * dim / base.dim)),
        }
        return base.model_copy(update=update)


def batch_of(budget: float, sequence_length: int, options: ScalingOptions) -> int:
    """Tokens a step, in whole sequences: the recipe's, or by budget as published, and on the same line below."""
    tokens = options.batch_tokens or batch_tokens_for(budget)
    return max(1, round(tokens / sequence_length)) * sequence_length


def grid(budget: float, family: Family, options: ScalingOptions) -> list[Trial]:
    """A budget's first trials, of different models, by tokens; fewer than asked for where the family has fewer.

    Raises:
        RecipeError: they are too few for a curve.
    """
    middle = options.expected_tokens * LLAMA3(budget)
    batch = batch_of(budget, family.sequence_length, options)
    wanted = middle * options.spread ** np.linspace(-1, 1, options.sizes)
    trials = {trial.model: trial for trial in (family.trial(budget, float(tokens), batch) for tokens in wanted)}
    if len(trials) < LEAST_SIZES:
        raise RecipeError(
            f"for {budget:.3g} FLOPs there are {len(trials)} models small enough, a curve needs {LEAST_SIZES}",
            where="scaling.budgets",
            do="raise the budget, or choose a smaller vocabulary or narrower heads",
        )
    return sorted(trials.values(), key=lambda trial: trial.tokens)


def next_trial(trials: list[Trial], side: int, family: Family, options: ScalingOptions) -> Trial | None:
    """One more trial of a budget: with more tokens than all of them if `side` is 1, with fewer if it is -1; None where
    the family has no other member."""
    step = options.spread ** (2 / (options.sizes - 1))
    last = trials[-1 if side > 0 else 0]
    trial = family.trial(last.budget, last.tokens * step**side, last.batch_tokens)
    return trial if trial.tokens * side > last.tokens * side else None


def schedule_of(trial: Trial, pretrain: PretrainOptions, base_parameters: int) -> PretrainOptions:
    """How a trial is trained: one phase, linear warmup, cosine to a tenth of the peak (section 3.2.1).

    The first phase's sequences and shares of data and the optimizer are the recipe's. The peak is by size as published,
    and by as much above or below as the recipe's own is at the size of its model. Warmup is that of the published runs,
    2,000 steps, or a tenth of shorter runs.
    """
    first = pretrain.phases[0]
    own = hyperparameters(pretrain, base_parameters).peak_learning_rate
    peak = own * (published_peak(trial.parameters) / published_peak(base_parameters))
    steps = trial.tokens // trial.batch_tokens
    phase = Phase(
        name="main",
        tokens=trial.tokens,
        batch_tokens=trial.batch_tokens,
        sequence_length=first.sequence_length,
        shares=first.shares,
    )
    return pretrain.model_copy(
        update={
            "start": None,
            "peak_learning_rate": peak,
            "final_learning_rate": SCALING_LAW_RUNS["final_share"] * peak,
            "warmup_steps": min(int(SCALING_LAW_RUNS["warmup_steps"]), int(WARMUP_SHARE * steps)),
            "cosine_steps": None,
            "warmup_tokens": None,
            "cosine_tokens": None,
            "phases": [phase],
            "average": "none",
            "layout": LayoutOptions(),
            "validations": 1,
            "samples": 0,
        }
    )
