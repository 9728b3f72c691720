"""Gates between the phases of longer sequences: a phase is prolonged until the model has what the next one needs.

Llama 3 went to a longer context once evaluations on short context had recovered and the needle test was passed at the
present length (paper, section 3.4.2). Here, as a phase with a gate ends, the loss on short text and the share of
needles found are measured; while one of them is not good enough, the phase is prolonged by `every_tokens`, up to
`most_tokens` in all.

What was measured and decided is a JSON-able state that belongs into checkpoints: the schedule is a function of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, TypedDict, TypeVar

from herdsman.errors import HerdsmanError
from herdsman.training.options import GateOptions, PretrainOptions
from herdsman.training.schedule import Schedule

Model = TypeVar("Model")


class Measurement(TypedDict):
    """What a model was found to have, after so many steps and tokens."""

    step: int
    tokens: int
    short_context_loss: float
    needle: float


@dataclass
class Decision:
    """What has become of one gate.

    Attributes:
        short_context_before: loss on short text to come back to, once the phase has begun: the lowest at the beginning
            of this or any gated phase before it, so that small losses do not add up over the phases.
        measurements: in the order they were taken.
        prolonged_steps: by which the phase is longer than the table says.
        passed: whether the gate opened; None until it is decided. False only where the run goes on without.
    """

    short_context_before: float | None = None
    measurements: list[Measurement] = field(default_factory=list)
    prolonged_steps: int = 0
    passed: bool | None = None


class Gates:
    """The gates of a run and, following from them, its schedule.

    In a run of several ranks, all must be handed the same figures, or their schedules part.

    Args:
        parameters: of the model, for its schedule.
        state: what `state` gave when a checkpoint was written; None at the start of a run.
        warn: called with a sentence when a run goes on past a gate that has not opened.
    """

    def __init__(
        self,
        options: PretrainOptions,
        parameters: int,
        state: dict[str, Any] | None = None,
        warn: Callable[[str], object] = print,
    ):
        self.options, self.parameters, self.warn = options, parameters, warn
        self.decisions = {number: Decision() for number, phase in enumerate(options.phases) if phase.gate}
        for number, decision in (state or {}).items():
            self.decisions[int(number)] = Decision(**decision)
        self.schedule = self._schedule()

    def state(self) -> dict[str, Any]:
        """All decisions by the number of the phase, as JSON takes them."""
        return {str(number): asdict(decision) for number, decision in self.decisions.items()}

    def check(
        self,
        step: int,
        tokens: int,
        model: Model,
        short_context_loss: Callable[[Model], float],
        needle: Callable[[Model, int], float],
    ) -> bool:
        """To be called before every step and once at the end of the schedule, which it may move; measures only where a
        gated phase begins or ends, and not again what its state already holds for that place.

        Args:
            step: steps done.
            tokens: tokens trained on.
            short_context_loss: nats a token on short held-out text, of the model.
            needle: share of needles that the model finds at a length in tokens.

        Returns:
            Whether anything was measured, so that the state is worth saving.

        Raises:
            HerdsmanError: a gate that the recipe does not let pass has not opened within its limit.
        """
        ending = self._at(self.schedule.token_starts[1:], tokens)
        measured: float | None = None
        if ending is not None and self.decisions[ending].passed is None:
            measured = short_context_loss(model)
            length = self.options.phases[ending].sequence_length
            found: Measurement = {
                "step": step,
                "tokens": tokens,
                "short_context_loss": measured,
                "needle": needle(model, length),
            }
            self._decide(ending, found)
        beginning = self._at(self.schedule.token_starts[:-1], tokens)
        if beginning is not None and self.decisions[beginning].short_context_before is None:
            measured = short_context_loss(model) if measured is None else measured
            before = [decision.short_context_before for decision in self.decisions.values()]
            self.decisions[beginning].short_context_before = min([measured, *(b for b in before if b is not None)])
        return measured is not None

    def _at(self, places: list[int], tokens: int) -> int | None:
        """The gated phase whose entry in `places` is here."""
        number = places.index(tokens) if tokens in places else None
        return number if number in self.decisions else None

    def _decide(self, number: int, found: Measurement) -> None:
        phase, decision = self.options.phases[number], self.decisions[number]
        gate, before = phase.gate, decision.short_context_before
        assert gate is not None
        assert before is not None
        highest = before * (1 + gate.short_context)
        decision.measurements.append(found)
        if found["needle"] >= gate.needle and found["short_context_loss"] <= highest:
            decision.passed = True
            return
        further = _further_steps(gate, phase.batch_tokens, decision.prolonged_steps)
        if further:
            decision.prolonged_steps += further
            self.schedule = self._schedule()
            return
        sentence = (
            f"the phase {phase.name} ended without what its gate asks for: {found['needle']:.3f} of the needles found "
            f"at {phase.sequence_length} tokens ({gate.needle:g} asked for), a loss of "
            f"{found['short_context_loss']:.4f} on short text (at most {highest:.4f})"
        )
        if gate.at_limit == "stop":
            decision.measurements.pop()
            raise HerdsmanError(
                sentence,
                where=f"pretrain.phases, after {found['tokens']:,} tokens",
                do="raise its most_tokens, ask for less, or set at_limit to go_on",
            )
        decision.passed = False
        self.warn(f"{sentence}; going on, as the recipe says")

    def _schedule(self) -> Schedule:
        more = {number: decision.prolonged_steps for number, decision in self.decisions.items()}
        return Schedule(self.options, self.parameters, more)


def _further_steps(gate: GateOptions, batch_tokens: int, done_steps: int) -> int:
    """Whole steps of the next prolongation: those of `every_tokens`, as far as `most_tokens` in all allows."""
    left = max(0, gate.most_tokens // batch_tokens - done_steps)
    return min(left, math.ceil(gate.every_tokens / batch_tokens))
