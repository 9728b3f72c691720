"""The schedule: what each step trains on and how fast it learns, as pure functions of where a run stands.

A run stands at (step, tokens): optimizer steps done and tokens trained on. Phase, batch, sequence length and data mix
follow from the tokens; the learning rate's warmup and cosine from the steps, as published, or from the tokens where the
recipe says so. Each phase has a whole number of steps of its own batch, the nearest to its tokens and at least one, and
begins where the one before really ended. Gates may prolong phases by further steps; everything before the end of the
phase that is prolonged stays as it was.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

from herdsman.errors import RecipeError
from herdsman.tokens.turns import Segment
from herdsman.training.hyperparameters import hyperparameters
from herdsman.training.options import Phase, PretrainOptions


@dataclass(frozen=True)
class Place:
    """Where a run stands: steps done, tokens trained on, and the phase that comes next, with its number."""

    step: int
    tokens: int
    phase: Phase
    number: int


class Schedule:
    """The table of phases, unrolled.

    Args:
        parameters: of the model; they decide what the recipe leaves out (see `hyperparameters`).
        prolongations: steps by which gates have prolonged phases, by the phases' numbers.

    Attributes:
        starts: steps done before each phase, and at the end.
        token_starts: tokens trained on before each phase, and at the end.

    Raises:
        RecipeError: the warmup does not end before the cosine, or there is none to warm up for.
    """

    def __init__(self, options: PretrainOptions, parameters: int, prolongations: Mapping[int, int] | None = None):
        self.options, self.rates = options, hyperparameters(options, parameters)
        more = prolongations or {}
        steps = [phase.steps + more.get(number, 0) for number, phase in enumerate(options.phases)]
        tokens = [count * phase.batch_tokens for count, phase in zip(steps, options.phases, strict=True)]
        self.starts = list(accumulate(steps, initial=0))
        self.token_starts = list(accumulate(tokens, initial=0))
        self.by_tokens = options.warmup_tokens is not None
        self.warmup, self.horizon = self._curve()

    @property
    def steps(self) -> int:
        return self.starts[-1]

    @property
    def tokens(self) -> int:
        """Training tokens of all steps."""
        return self.token_starts[-1]

    def tokens_before(self, step: int) -> int:
        """Tokens trained on before this step by a run that followed this table from its first step."""
        number = min(bisect_right(self.starts, step), len(self.options.phases)) - 1
        return self.token_starts[number] + (step - self.starts[number]) * self.options.phases[number].batch_tokens

    def place(self, step: int, tokens: int | None = None) -> Place:
        """Where a run stands.

        Args:
            tokens: trained on so far; `tokens_before(step)` if left out. A run whose table was changed under way has
                others, and goes on in the phase that these lie in.

        Raises:
            ValueError: the run is over.
        """
        tokens = self.tokens_before(step) if tokens is None else tokens
        number = bisect_right(self.token_starts, tokens) - 1
        if number >= len(self.options.phases):
            raise ValueError(f"the schedule ends after {self.tokens} tokens")
        return Place(step, tokens, self.options.phases[number], number)

    def cosine(self, done: float) -> float:
        """Linear warmup from 0, then a cosine from the peak to the final learning rate (paper, section 3.4.1).

        At the end of warmup it is the peak, from the end of the cosine on the final rate.

        Args:
            done: steps, or tokens where the recipe counts the curve in tokens.
        """
        peak, final = self.rates.peak_learning_rate, self.rates.final_learning_rate
        if done < self.warmup:
            return peak * done / self.warmup
        share = min(1.0, (done - self.warmup) / max(1, self.horizon - self.warmup))
        return final + (peak - final) * (1 + math.cos(math.pi * share)) / 2

    def learning_rate(self, step: int, tokens: int | None = None) -> float:
        """Learning rate of the step after `step` steps and `tokens` tokens: the curve's value when it is done."""
        place = self.place(step, tokens)
        done = place.tokens + place.phase.batch_tokens
        if place.phase.learning_rate == "cosine":
            return self.cosine(done if self.by_tokens else step + 1)
        falling = [phase.learning_rate != "cosine" for phase in self.options.phases]
        first, last = place.number, place.number + 1
        while first and falling[first - 1]:
            first -= 1
        while last < len(falling) and falling[last]:
            last += 1
        start, end = self.token_starts[first], self.token_starts[last]
        return self.cosine(start if self.by_tokens else self.starts[first]) * max(0.0, (end - done) / (end - start))

    def averaged_steps(self) -> list[int]:
        """Steps whose weights are averaged: evenly over the end of the phases that ask for it, the last one among them.

        Numbers are those of the steps, counted from 0: the weights are taken when the step is done.
        """
        steps: list[int] = []
        for start, end, phase in zip(self.starts, self.starts[1:], self.options.phases, strict=False):
            count = min(phase.average_checkpoints, end - start)
            window = max(count, int((end - start) * phase.average_share))
            steps += [end - 1 - window * i // count for i in reversed(range(count))]
        return steps

    def segments(self, mixes: Mapping[str, Mapping[str, float]]) -> list[Segment]:
        """What the run reads, phase by phase, for the order of tokens.

        Args:
            mixes: shares of the streams by the mixes' names, as the documents stage wrote them.
        """
        return [
            Segment(stream_shares(phase, mixes), end - start, phase.sequence_length)
            for start, end, phase in zip(self.token_starts, self.token_starts[1:], self.options.phases, strict=False)
        ]

    def _curve(self) -> tuple[int, int]:
        """Ends of warmup and cosine, in what the curve counts. Prolongations change neither: what a run has done of a
        cosine must not depend on what it is yet to do."""
        phases, options = self.options.phases, self.options
        unit = "tokens" if self.by_tokens else "steps"
        count = 1 + max((i for i, phase in enumerate(phases) if phase.learning_rate == "cosine"), default=-1)
        if not count:
            # Annealing alone, of a model that has been trained before: the line starts at the peak.
            if options.warmup_steps or options.warmup_tokens:
                raise RecipeError(
                    f"warmup_{unit} is given, but no phase follows the cosine", where="pretrain", do="leave it out"
                )
            return 0, 1
        if options.warmup_tokens is not None:
            warmup = options.warmup_tokens
            end = options.cosine_tokens or sum(phase.steps * phase.batch_tokens for phase in phases[:count])
        else:
            warmup = self.rates.warmup_steps
            end = options.cosine_steps or sum(phase.steps for phase in phases[:count])
        if end <= warmup:
            raise RecipeError(
                f"a warmup of {warmup:,} {unit} does not end before the cosine does, after {end:,}",
                where="pretrain",
                do=f"set warmup_{unit} to less, such as {end // 20:,}",
            )
        return warmup, end


def stream_shares(phase: Phase, mixes: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Share of each stream in a phase: its mix, brought to the phase's own shares by category if it has any.

    They sum to 1. A stream is named `category.tier` or `category.topic.tier`; within a category the proportions stay.

    Raises:
        RecipeError: the mix has nothing of the categories that the phase wants.
    """
    mix = mixes[phase.mix]
    if phase.shares is None:
        return dict(mix)
    given: dict[str, float] = {}
    for stream, share in mix.items():
        category = stream.partition(".")[0]
        given[category] = given.get(category, 0.0) + share
    wanted = {category: phase.shares.get(category, 0.0) for category, share in given.items() if share > 0}
    total = sum(wanted.values())
    if not total:
        raise RecipeError(
            f"the phase {phase.name} wants nothing of what there is: {', '.join(sorted(given))}",
            where="pretrain.phases.shares",
            do="give one of these a share",
        )
    scale = {category: share / total / given[category] for category, share in wanted.items()}
    return {stream: share * scale.get(stream.partition(".")[0], 0.0) for stream, share in mix.items()}


def spread(total_steps: int, times: int) -> set[int]:
    """`times` step numbers spread evenly, the last step always among them."""
    return {round(total_steps * (i + 1) / times) - 1 for i in range(times)} if times else set()
