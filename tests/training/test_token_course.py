"""The rows of a run are a function of its place alone: of no number of ranks, no restart and no micro-batch."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from herdsman.errors import HerdsmanError
from herdsman.progress import SILENT
from herdsman.tokens.streams import TokenStreams
from herdsman.training.course import Step
from herdsman.training.health.options import SpikeOptions
from herdsman.training.objective import Batch
from herdsman.training.options import Phase, PretrainOptions
from herdsman.training.token_course import TokenCourse, micro_batches, without_weight
from tests.tokens.made import make, random_documents

MIXES = {"pretrain": {"code.a": 0.3, "general.a": 0.7}, "anneal": {"code.a": 1.0}}
GATE = {"needle": 1.0, "short_context": 0.1, "every_tokens": 32, "most_tokens": 96}
Row = tuple[tuple[int, ...], ...]
"""Tokens, documents, targets, weights and streams of a row."""


@dataclass
class Place:
    """What a course asks of a model: which of how many data ranks it is on."""

    data_rank: int = 0
    data_ranks: int = 1

    @property
    def mesh(self) -> bool | None:
        return self.data_ranks > 1 or None


@pytest.fixture(scope="module")
def streams(tmp_path_factory: pytest.TempPathFactory) -> TokenStreams:
    rng = random.Random(0)
    lengths = {name: random_documents(rng, 5000, 30) for name in ("code.a", "general.a")}
    return make(tmp_path_factory.mktemp("streams"), lengths)


def options(main_tokens: int = 160, gate: dict[str, Any] | None = None) -> PretrainOptions:
    """A ramp of 2, 4 and 3 rows a step, the last ones longer; 4 + 5 + 3 steps."""
    phases = [
        Phase(name="ramp", tokens=64, batch_tokens=16, sequence_length=8),
        Phase(name="main", tokens=main_tokens, batch_tokens=32, sequence_length=8, gate=gate),
        Phase(
            name="long", tokens=144, batch_tokens=48, sequence_length=16, mix="anneal", learning_rate="linear_to_zero"
        ),
    ]
    return PretrainOptions(warmup_steps=1, cosine_steps=9, phases=phases, micro_batch_tokens=16)


def courses(
    streams: TokenStreams, ranks: int, options: PretrainOptions, found: list[float] | None = None
) -> list[TokenCourse]:
    """One for each data rank. Needles are found as the list says, time after time, and always at its end."""

    def course(rank: int) -> TokenCourse:
        finds = iter(found or [])
        place: Any = Place(rank, ranks)
        return TokenCourse(
            options, SpikeOptions(), place, 1000, streams, MIXES, 5, Path("unused"), SILENT, 1,
            lambda model: 2.0, lambda model, length: next(finds, 1.0),
        )  # fmt: skip

    return [course(rank) for rank in range(ranks)]


def rows_in(batches: list[Batch]) -> list[Row]:
    """Those that count; a row that fills up has no weight."""
    found = []
    for batch in batches:
        assert batch.documents is not None
        fields = (batch.tokens, batch.documents, *(batch.by_token[name] for name in ("targets", "weights", "streams")))
        for row in zip(*(field.tolist() for field in fields), strict=True):
            if any(row[3]):
                found.append(tuple(map(tuple, row)))
    return found


def read(
    courses: list[TokenCourse], step: int = 0, tokens: int = 0, steps: int = 10**9
) -> list[tuple[Step, list[Row]]]:
    """The steps from a place on, and the rows of each over all ranks."""
    done: list[tuple[Step, list[Row]]] = []
    while len(done) < steps:
        decided = {course.before(step, tokens) for course in courses}
        assert len(decided) == 1
        places = {course.at(step, tokens) for course in courses}
        assert len(places) == 1
        (place,) = places
        if place is None:
            break
        batches = [course.read(place) for course in courses]
        shapes = [[batch.tokens.shape for batch in its] for its in batches]
        assert all(its == shapes[0] for its in shapes), "ranks need as many micro-batches, of the same shapes"
        done.append((place, [row for its in batches for row in rows_in(list(its))]))
        step, tokens = step + 1, tokens + place.tokens
    return done


def data(done: list[tuple[Step, list[Row]]]) -> list[Row]:
    return [row for _, rows in done for row in rows]


def test_ranks_share_the_rows_of_one_process(streams: TokenStreams) -> None:
    alone = read(courses(streams, 1, options()))
    assert [len(rows) for _, rows in alone] == [2] * 4 + [4] * 5 + [3] * 3
    assert len(set(data(alone))) == 37, "no row comes twice"
    for ranks in (2, 3, 4, 7):
        assert read(courses(streams, ranks, options())) == alone


def test_targets_are_the_next_tokens_of_the_same_document(streams: TokenStreams) -> None:
    for tokens, documents, targets, weights, numbers in data(read(courses(streams, 1, options()))):
        assert targets[:-1] == tokens[1:]
        same = [first == second for first, second in pairwise(documents)]
        assert [weight == 1.0 for weight in weights[:-1]] == same
        assert set(numbers) <= {0, 1}
        # Every token of these streams but a document's first says which stream and place it is from.
        for token, target, weight in zip(tokens, targets, weights, strict=True):
            assert not weight or token == 0 or target == token + 1


def test_a_gate_prolongs_its_phase_with_the_data_that_follows(streams: TokenStreams) -> None:
    gated = read(courses(streams, 2, options(gate=GATE), [0.5, 0.9]))
    assert [step.phase for step, _ in gated] == ["ramp"] * 4 + ["main"] * 7 + ["long"] * 3
    longer = read(courses(streams, 1, options(main_tokens=224)))
    assert data(gated) == data(longer)
    # What came before the gate is what a run without one reads.
    assert gated[:9] == read(courses(streams, 1, options()))[:9]


def test_what_is_left_out_is_never_read_and_nothing_else_is_missing(streams: TokenStreams) -> None:
    """Back from step 7 to step 5: the 64 tokens in between are left out."""
    course = courses(streams, 2, options())
    before = read(course, steps=7)
    for its in course:
        its.leave_out(5, 96, 160, "the loss rose")
    after = read(course, 5, 96)
    assert sum(step.tokens for step, _ in before[:5] + after) == 64 + 160 + 144
    longer = read(courses(streams, 1, options(main_tokens=224)))
    assert data(before) == data(longer[:7])
    assert data(before[:5] + after) == data(longer[:5] + longer[7:])
    for its in course:
        its.leave_out(5, 96, 128, "the loss rose again")
    assert data(read(course, 5, 96, 1)) == data(read(courses(streams, 1, options(main_tokens=256)), 8, 192, 1))


def test_a_run_that_always_goes_back_to_one_place_stops(streams: TokenStreams) -> None:
    (course,) = courses(streams, 1, options())
    with pytest.raises(HerdsmanError, match=r"does not get past step 5.*lower the learning rate"):
        for _ in range(SpikeOptions().rollbacks_before_stop + 1):
            course.leave_out(5, 96, 160, "the loss rose")


@pytest.mark.parametrize("at", range(1, 14))
def test_a_run_resumed_on_other_ranks_reads_on(streams: TokenStreams, at: int) -> None:
    """From any step, in the ramp, in a prolonged phase or behind what was left out; from 2 ranks to 3 and to 1."""
    shut = [0.5, 0.5]
    straight = read(courses(streams, 1, options(gate=GATE), shut))
    assert len(straight) == 14
    first = courses(streams, 2, options(gate=GATE), shut)
    done = read(first, steps=at)
    tokens = sum(step.tokens for step, _ in done)
    state = json.loads(json.dumps(first[0].state()))
    asked = len(state["gates"]["1"]["measurements"])
    for ranks in (1, 3):
        resumed = courses(streams, ranks, options(gate=GATE), shut[asked:])
        for course in resumed:
            course.load(state)
        assert done + read(resumed, at, tokens) == straight


def test_windows_left_out_survive_a_restart(streams: TokenStreams) -> None:
    (first,) = courses(streams, 1, options())
    first.leave_out(5, 96, 160, "the loss rose")
    resumed = courses(streams, 3, options())
    for course in resumed:
        course.load(json.loads(json.dumps(first.state())))
    assert read(resumed, 5, 96) == read([first], 5, 96)


@pytest.mark.parametrize("uniform", [None, 5, 8])
@pytest.mark.parametrize("micro_batch_tokens", [1, 8, 20, 1000])
def test_micro_batches_hold_every_row_once(micro_batch_tokens: int, uniform: int | None) -> None:
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 9, (5, 9), generator=generator).numpy()
    documents = (torch.rand(5, 9, generator=generator) < 0.2).long().cumsum(1).int().numpy()
    batches = micro_batches(tokens, documents, None, micro_batch_tokens, uniform)
    rows = max(1, micro_batch_tokens // 8)
    assert all(len(batch.tokens) <= rows for batch in batches)
    joined = torch.cat([batch.tokens for batch in batches])
    weights = torch.cat([batch.by_token["weights"] for batch in batches])
    assert joined[:5].tolist() == tokens[:, :-1].tolist()
    assert weights[:5].bool().tolist() == (documents[:, 1:] == documents[:, :-1]).tolist()
    assert not weights[5:].any()
    if uniform is not None:
        assert len({len(batch.tokens) for batch in batches}) == 1
        assert len(batches) == -(-uniform // min(rows, uniform))
    assert not without_weight(batches[0]).by_token["weights"].any()
