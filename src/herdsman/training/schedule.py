"""The schedule: what each step trains on and how fast it learns, as pure functions of the step."""

from __future__ import annotations

import math
from dataclasses import dataclass

from herdsman.training.options import Phase, PretrainOptions


@dataclass(frozen=True)
class Place:
    """Where a step stands: its phase, the phase's number, and the step's number inside it."""

    phase: Phase
    number: int
    step_in_phase: int


class Schedule:
    """The table of phases, unrolled into steps."""

    def __init__(self, options: PretrainOptions):
        self.options = options
        self.starts = [0]
        for phase in options.phases:
            self.starts.append(self.starts[-1] + phase.steps)
        cosine_ends = [
            end for end, phase in zip(self.starts[1:], options.phases, strict=True) if phase.learning_rate == "cosine"
        ]
        self.cosine_steps = options.cosine_steps or (max(cosine_ends) if cosine_ends else self.steps)

    @property
    def steps(self) -> int:
        return self.starts[-1]

    @property
    def tokens(self) -> int:
        """Training tokens of all steps."""
        return self.tokens_before(self.steps)

    def place(self, step: int) -> Place:
        number = next(i for i, end in enumerate(self.starts[1:]) if step < end)
        return Place(self.options.phases[number], number, step - self.starts[number])

    def tokens_before(self, step: int) -> int:
        """Tokens trained on before this step."""
        spans = zip(self.starts, self.starts[1:], self.options.phases, strict=False)
        return sum(max(0, min(step, end) - start) * phase.batch_tokens for start, end, phase in spans)

    def cosine(self, step: float) -> float:
        """Linear warmup from 0, then a cosine from the peak to the final learning rate (paper, section 3.4.1).

        At `warmup_steps` it is the peak, from `cosine_steps` on the final rate.
        """
        options = self.options
        if step < options.warmup_steps:
            return options.peak_learning_rate * step / options.warmup_steps
        share = min(1.0, (step - options.warmup_steps) / max(1, self.cosine_steps - options.warmup_steps))
        height = options.peak_learning_rate - options.final_learning_rate
        return options.final_learning_rate + height * (1 + math.cos(math.pi * share)) / 2

    def learning_rate(self, step: int) -> float:
        """Learning rate of step number `step`, counted from 0: the curve's value when the step is done."""
        place = self.place(step)
        if place.phase.learning_rate == "cosine":
            return self.cosine(step + 1)
        left = 1 - (place.step_in_phase + 1) / place.phase.steps
        return self.cosine(self.starts[place.number]) * left

    def averaged_steps(self) -> list[int]:
        """Steps after which a checkpoint enters the average: evenly over the second half of phases that ask for it."""
        steps: list[int] = []
        for start, phase in zip(self.starts, self.options.phases, strict=False):
            count = min(phase.average_checkpoints, phase.steps)
            steps += [start + phase.steps - 1 - (phase.steps // 2) * i // max(1, count) for i in reversed(range(count))]
        return sorted(set(steps))


def spread(total_steps: int, times: int) -> set[int]:
    """`times` step numbers spread evenly, the last step always among them."""
    return {round(total_steps * (i + 1) / times) - 1 for i in range(times)} if times else set()
