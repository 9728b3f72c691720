"""The schedule against the paper's numbers; a run that goes on anywhere, or is prolonged, against the straight one."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from pydantic import ValidationError

from herdsman.errors import RecipeError
from herdsman.tokens.turns import Segment
from herdsman.training.hyperparameters import PEAKS, hyperparameters, published_peak
from herdsman.training.options import Phase, PretrainOptions
from herdsman.training.schedule import Schedule, spread, stream_shares

PARAMETERS = 405_853_388_800
MIXES = {
    "pretrain": {"general.base": 0.5, "general.best": 0.1, "code.base": 0.3, "reasoning.mathematics.base": 0.1},
    "anneal": {"general.best": 0.6, "code.base": 0.4},
}


def llama_405b() -> Schedule:
    """Initial pretraining of 405B (paper, section 3.4.1); long context and annealing left out."""
    phases = [
        Phase(name="4M", tokens=252_000_000, batch_tokens=4_000_000 // 4096 * 4096, sequence_length=4096),
        Phase(name="8M", tokens=2_869_748_000_000, batch_tokens=8_000_000 // 8192 * 8192, sequence_length=8192),
        Phase(name="16M", tokens=12_730_000_000_000, batch_tokens=16_000_000 // 8192 * 8192, sequence_length=8192),
    ]
    return Schedule(PretrainOptions(cosine_steps=1_200_000, phases=phases), PARAMETERS)


def phase(name: str, tokens: int, batch: int = 10, length: int = 10, **more: Any) -> Phase:
    return Phase(name=name, tokens=tokens, batch_tokens=batch, sequence_length=length, **more)


def ramp(**changes: Any) -> Schedule:
    """Batch and sequence grow, annealing ends it: 10 + 6 + 3 + 2 + 2 steps."""
    phases = [
        phase("small", 100),
        phase("large", 125, 20, 20),  # 6.25 steps: rounded down to 6
        phase("long", 230, 80, 40),  # 2.875: up to 3
        phase("anneal code", 160, 80, 40, learning_rate="linear_to_zero"),
        phase("anneal", 160, 80, 40, learning_rate="linear_to_zero", mix="anneal"),
    ]
    settings = {"peak_learning_rate": 1.0, "final_learning_rate": 0.2, "warmup_steps": 5, "phases": phases}
    return Schedule(PretrainOptions(**settings | changes), 1)


def walk(schedule: Schedule, step: int = 0, tokens: int = 0) -> list[tuple[int, int, str, int, float]]:
    """What a run does from there to the end: step, tokens, phase, sequence length and learning rate of each step."""
    done = []
    while tokens < schedule.tokens:
        place = schedule.place(step, tokens)
        rate = schedule.learning_rate(step, tokens)
        done.append((step, tokens, place.phase.name, place.phase.sequence_length, rate))
        step, tokens = step + 1, tokens + place.phase.batch_tokens
    return done


def test_learning_rate_oracle() -> None:
    """Peak, end and warmup are left to the model's size: they are table 3's and section 3.4.1's."""
    schedule = llama_405b()
    assert schedule.cosine(8000) == pytest.approx(8e-5)
    assert schedule.cosine(4000) == pytest.approx(4e-5)
    assert schedule.cosine(1_200_000) == pytest.approx(8e-7)
    assert schedule.cosine((8000 + 1_200_000) / 2) == pytest.approx((8e-5 + 8e-7) / 2)


def test_batch_ramp_oracle() -> None:
    """63 steps at 4M; 16M begins after 2.87T tokens; the whole ends before the cosine does (traps 5 and 7)."""
    schedule = llama_405b()
    assert schedule.place(62).phase.name == "4M"
    assert schedule.place(63).phase.name == "8M"
    assert schedule.token_starts[2] == pytest.approx(2.87e12, rel=1e-3)
    assert 1_100_000 < schedule.steps < 1_200_000
    assert schedule.tokens == pytest.approx(15.6e12, rel=1e-3)
    assert schedule.learning_rate(schedule.steps - 1) > 8e-7


def test_phases_have_whole_steps_and_begin_where_the_last_ended() -> None:
    schedule = ramp()
    assert schedule.starts == [0, 10, 16, 19, 21, 23]
    assert schedule.token_starts == [0, 100, 220, 460, 620, 780]
    assert phase("less than a step", 1).steps == 1
    assert [schedule.tokens_before(step) for step in (0, 10, 13, 23)] == [0, 100, 160, 780]
    with pytest.raises(ValueError, match="ends after 780 tokens"):
        schedule.place(23)


@pytest.mark.parametrize("curve", [{}, {"warmup_steps": None, "warmup_tokens": 50}], ids=["by steps", "by tokens"])
def test_a_run_goes_on_from_anywhere(curve: dict[str, Any]) -> None:
    """(step, tokens) is all there is to a place, also in the middle of the ramp."""
    schedule = ramp(**curve)
    straight = walk(schedule)
    assert len(straight) == schedule.steps == 23
    for at, (step, tokens, *_) in enumerate(straight):
        assert walk(ramp(**curve), step, tokens) == straight[at:]
        assert schedule.tokens_before(step) == tokens
    assert [row[2] for row in straight] == ["small"] * 10 + ["large"] * 6 + ["long"] * 3 + ["anneal code"] * 2 + [
        "anneal"
    ] * 2


def test_a_run_whose_table_changed_goes_on_where_its_tokens_lie() -> None:
    """After 60 steps of 3 tokens: the phase at 180 tokens of the new table, the curve at 60 steps."""
    schedule = ramp()
    place = schedule.place(60, 180)
    assert (place.phase.name, place.number) == ("large", 1)
    assert schedule.learning_rate(60, 180) == schedule.cosine(61) == 0.2
    assert schedule.place(60, 219).phase.name == "large"
    assert schedule.place(60, 220).phase.name == "long"


def test_the_curve_in_tokens() -> None:
    schedule = ramp(warmup_steps=None, warmup_tokens=50)
    assert schedule.horizon == 460
    assert schedule.learning_rate(0) == pytest.approx(0.2)  # 10 of 50 tokens
    assert schedule.learning_rate(4) == pytest.approx(1.0)
    middle = (50 + 460) / 2
    assert schedule.cosine(middle) == pytest.approx(0.6)
    assert ramp(warmup_steps=None, warmup_tokens=50, cosine_tokens=300).cosine(300) == pytest.approx(0.2)


def test_annealing_goes_linearly_to_zero() -> None:
    """From the curve's last value, over all annealing phases that follow each other, by tokens."""
    schedule = ramp()
    rates = [row[4] for row in walk(schedule)]
    assert schedule.horizon == 19
    assert rates[18] == pytest.approx(0.2)
    assert rates[19:] == pytest.approx([0.15, 0.1, 0.05, 0.0])
    assert rates[-1] == 0
    assert all(later < earlier for earlier, later in pairwise(rates[4:]))


def test_annealing_alone_starts_at_the_peak() -> None:
    """The data-value probe anneals a model that has been trained before (paper, section 3.1.3)."""
    phases = [phase("anneal", 100, learning_rate="linear_to_zero")]
    schedule = Schedule(PretrainOptions(phases=phases), 8_030_261_248)
    assert schedule.learning_rate(0) == pytest.approx(0.9 * 3e-4)
    with pytest.raises(RecipeError, match="no phase follows the cosine"):
        Schedule(PretrainOptions(phases=phases, warmup_steps=5), 1)


def test_a_warmup_must_end() -> None:
    with pytest.raises(RecipeError, match="warmup of 2,000 steps does not end before the cosine does, after 100"):
        Schedule(PretrainOptions(phases=[phase("main", 1000)]), 1_000_000)
    with pytest.raises(ValidationError, match="in steps or in tokens"):
        ramp(warmup_tokens=50)
    with pytest.raises(ValidationError, match="cosine_tokens needs warmup_tokens"):
        ramp(cosine_tokens=50)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_prolonging_a_phase_leaves_the_past_as_it_was(number: int) -> None:
    before, after = ramp(), Schedule(ramp().options, 1, {number: 3})
    batch = before.options.phases[number].batch_tokens
    assert (after.steps, after.tokens) == (before.steps + 3, before.tokens + 3 * batch)
    end = before.starts[number + 1]
    assert walk(after)[:end] == walk(before)[:end]
    assert walk(after)[end][2] == before.options.phases[number].name
    later = [(row[2], row[3]) for row in walk(before)[end:]]
    assert [(row[2], row[3]) for row in walk(after)[end + 3 :]] == later
    assert walk(after)[-1][4] == 0


def averaged(steps: int, **more: Any) -> list[int]:
    phases = [phase("main", 1000), phase("anneal", steps * 10, learning_rate="linear_to_zero", **more)]
    return Schedule(PretrainOptions(warmup_steps=5, phases=phases), 1).averaged_steps()


def test_averaged_steps() -> None:
    assert averaged(20, average_checkpoints=4) == [112, 114, 117, 119]
    assert averaged(20, average_checkpoints=4, average_share=1.0) == [104, 109, 114, 119]
    assert averaged(20, average_checkpoints=4, average_share=0.01) == [116, 117, 118, 119]  # the last four
    assert averaged(2, average_checkpoints=2) == [100, 101]  # 40M tokens of annealing at 16M a step
    assert averaged(2, average_checkpoints=5) == [100, 101]
    assert averaged(20) == []


def test_segments_are_what_the_phases_read() -> None:
    tokens, lengths = (100, 120, 240, 160, 160), (10, 20, 40, 40, 40)
    mixes = [MIXES["pretrain"]] * 4 + [MIXES["anneal"]]
    assert ramp().segments(MIXES) == [Segment(*row) for row in zip(mixes, tokens, lengths, strict=True)]
    prolonged = Schedule(ramp().options, 1, {2: 1}).segments(MIXES)
    assert [segment.tokens for segment in prolonged] == [100, 120, 320, 160, 160]
    maths = phase("late", 100, shares={"general": 0.4, "code": 0.2, "reasoning": 0.4})
    (segment,) = Schedule(PretrainOptions(phases=[maths], warmup_steps=1), 1).segments(MIXES)
    assert segment.mix == stream_shares(maths, MIXES) != MIXES["pretrain"]


def test_a_phase_changes_the_shares_of_categories() -> None:
    wanted = {"general": 0.3, "code": 0.2, "reasoning": 0.5, "multilingual": 0.0}
    shares = stream_shares(phase("late", 10, shares=wanted), MIXES)
    assert shares == pytest.approx(
        {"general.base": 0.25, "general.best": 0.05, "code.base": 0.2, "reasoning.mathematics.base": 0.5}
    )
    # There is nothing multilingual in the mix: its share goes to the others, in their proportions.
    without = stream_shares(phase("late", 10, shares={"general": 0.6, "code": 0.2, "multilingual": 0.2}), MIXES)
    assert without["code.base"] == pytest.approx(0.25)
    assert without["reasoning.mathematics.base"] == 0
    assert sum(without.values()) == pytest.approx(1)
    with pytest.raises(RecipeError, match="wants nothing of what there is: code, general, reasoning"):
        stream_shares(phase("late", 10, shares={"multilingual": 1.0}), MIXES)


def test_mistakes_in_a_phase() -> None:
    with pytest.raises(ValidationError, match="multiple of sequence_length"):
        phase("odd", 100, 100, 33)
    with pytest.raises(ValidationError, match="there is no category poems"):
        phase("odd", 100, shares={"poems": 1.0})
    with pytest.raises(ValidationError, match=r"must sum to 1, not to 0\.9"):
        phase("odd", 100, shares={"code": 0.9})
    with pytest.raises(ValidationError, match="cannot have a gate"):
        phase("odd", 100, learning_rate="linear_to_zero", gate={"every_tokens": 10, "most_tokens": 10})


def test_hyperparameters_follow_the_published_tables() -> None:
    options = PretrainOptions(phases=[phase("main", 1000)])
    for size, peak in PEAKS:
        assert published_peak(size) == pytest.approx(peak)
    assert published_peak(1_000_000) == 4e-4
    assert published_peak(10**13) == 8e-5
    between = published_peak(round((8_030_261_248 * 70_553_706_496) ** 0.5))
    assert between == pytest.approx((3e-4 * 1.5e-4) ** 0.5)
    herd = hyperparameters(options, 70_553_706_496)
    assert (herd.peak_learning_rate, herd.final_learning_rate) == pytest.approx((1.5e-4, 1.5e-6))
    assert (herd.warmup_steps, len(herd.by_size)) == (8000, 3)
    small = hyperparameters(options, 40_000_000)
    assert (small.final_learning_rate, small.warmup_steps) == (pytest.approx(4e-5), 2000)
    given = hyperparameters(ramp().options, 70_553_706_496)
    assert (given.peak_learning_rate, given.final_learning_rate, given.warmup_steps, given.by_size) == (1.0, 0.2, 5, ())


def test_spread_ends_with_the_last_step() -> None:
    assert spread(100, 4) == {24, 49, 74, 99}
    assert max(spread(7, 3)) == 6
    assert spread(100, 0) == set()
