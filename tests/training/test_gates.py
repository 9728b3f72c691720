"""Gates: their decisions against hand-made figures, a killed run against the straight one, and a real model."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from herdsman.errors import HerdsmanError
from herdsman.training.gates import Gates
from herdsman.training.options import Phase, PretrainOptions

State = dict[str, Any]


def options(**gate: Any) -> PretrainOptions:
    """Short, two longer stages with gates, annealing: 4 + 2 + 2 + 2 steps."""
    wanted = {"needle": 1.0, "short_context": 0.1, "every_tokens": 30, "most_tokens": 100} | gate
    phases = [
        Phase(name="short", tokens=40, batch_tokens=10, sequence_length=5),
        Phase(name="longer", tokens=40, batch_tokens=20, sequence_length=10, gate=wanted),
        Phase(name="longest", tokens=40, batch_tokens=20, sequence_length=20, gate=wanted),
        Phase(name="anneal", tokens=40, batch_tokens=20, sequence_length=20, learning_rate="linear_to_zero"),
    ]
    return PretrainOptions(warmup_steps=1, phases=phases)


class Model:
    """What a gate may ask of a model, by the tokens it was trained on; counts the questions."""

    def __init__(self, loss: Callable[[int], float], needle: Callable[[int, int], float]):
        self.loss, self.needle, self.tokens = loss, needle, 0
        self.asked: list[tuple[str, int]] = []

    def short_context_loss(self) -> float:
        self.asked.append(("loss", self.tokens))
        return self.loss(self.tokens)

    def found(self, length: int) -> float:
        self.asked.append((f"needle at {length}", self.tokens))
        return self.needle(self.tokens, length)


def train(
    gates: Gates, model: Model, step: int = 0, tokens: int = 0, until: int = 10**9
) -> tuple[list[str], int, int, State]:
    """A training loop of counting alone; returns the phases it went through, the place and the state at its end."""
    names: list[str] = []
    while True:
        model.tokens = tokens
        gates.check(step, tokens, model, Model.short_context_loss, Model.found)
        if tokens >= min(gates.schedule.tokens, until):
            return names, step, tokens, json.loads(json.dumps(gates.state()))
        phase = gates.schedule.place(step, tokens).phase
        names.append(phase.name)
        step, tokens = step + 1, tokens + phase.batch_tokens


def late(tokens: int, length: int) -> float:
    """Finds all needles 40 tokens after the longer phase should have ended, at once at the longest."""
    return 1.0 if tokens >= 120 or length > 10 else 0.5


def test_gates_that_open_change_nothing() -> None:
    model = Model(lambda tokens: 2.0, lambda tokens, length: 1.0)
    names, steps, tokens, state = train(Gates(options(), 1), model)
    assert names == ["short"] * 4 + ["longer"] * 2 + ["longest"] * 2 + ["anneal"] * 2
    assert (steps, tokens) == (10, 160)
    assert [state[number]["passed"] for number in "12"] == [True, True]
    # One loss serves as the end of a phase and as the beginning of the next.
    assert model.asked == [("loss", 40), ("loss", 80), ("needle at 10", 80), ("loss", 120), ("needle at 20", 120)]


def test_a_phase_is_prolonged_until_the_needles_are_found() -> None:
    """30 tokens are two steps of 20: the gate asks again at 80 and 120 tokens."""
    gates = Gates(options(), 1)
    names, *_, state = train(gates, Model(lambda tokens: 2.0, late))
    assert names == ["short"] * 4 + ["longer"] * 4 + ["longest"] * 2 + ["anneal"] * 2
    assert state["1"]["prolonged_steps"] == 2
    assert [row["tokens"] for row in state["1"]["measurements"]] == [80, 120]
    assert gates.schedule.learning_rate(11) == 0


def test_a_phase_is_prolonged_until_short_text_has_recovered() -> None:
    model = Model(lambda tokens: 2.0 if tokens <= 40 else 2.3 if tokens < 120 else 2.19, lambda tokens, length: 1.0)
    names, *_, state = train(Gates(options(), 1), model)
    assert names.count("longer") == 4
    # The next stage must come back to 2.0 as well, not to the 2.19 it began with.
    assert [state[number]["short_context_before"] for number in "12"] == [2.0, 2.0]


def test_a_gate_that_stays_shut_stops_the_run_or_lets_it_go_on() -> None:
    never = Model(lambda tokens: 2.0, lambda tokens, length: 0.75)
    gates = Gates(options(), 1)
    with pytest.raises(HerdsmanError, match=r"after 180 tokens: the phase longer .* 0\.750 of the needles .* raise"):
        train(gates, never)
    assert [row["tokens"] for row in gates.state()["1"]["measurements"]] == [80, 120, 160]
    # With a higher limit the run goes on from the state it stopped with.
    higher = Gates(options(most_tokens=160), 1, gates.state())
    with pytest.raises(HerdsmanError, match="after 240 tokens"):
        train(higher, never, 11, 180)

    warnings: list[str] = []
    going = Gates(options(at_limit="go_on"), 1, warn=warnings.append)
    names, *_, state = train(going, never)
    assert names == ["short"] * 4 + ["longer"] * 7 + ["longest"] * 7 + ["anneal"] * 2
    assert [state[number]["passed"] for number in "12"] == [False, False]
    assert len(warnings) == 2
    assert "a loss of 2.0000 on short text (at most 2.2000)" in warnings[0]


@pytest.mark.parametrize("killed_at", range(0, 200, 10))
def test_a_run_resumed_from_any_checkpoint_decides_the_same(killed_at: int) -> None:
    def fresh() -> Model:
        return Model(lambda tokens: 2.0, late)

    names, steps, tokens, state = train(Gates(options(), 1), fresh())
    before, step, place, saved = train(Gates(options(), 1), fresh(), until=killed_at)
    model = fresh()
    after, *end = train(Gates(options(), 1, saved), model, step, place)
    assert before + after == names
    assert end == [steps, tokens, state]
    # What the checkpoint holds is not measured again.
    assert not any(tokens == place for _, tokens in model.asked)
