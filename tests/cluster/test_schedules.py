"""Closed forms for pipelines against torch's own tables of actions, run in order on a clock."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest
from torch.distributed.pipelining import schedules as torchs

from herdsman.cluster.schedules import bubble, gathered_share, gathers, in_flight, stages_per_rank
from herdsman.training.parallel.layout import ONE_STAGE, V_SHAPED, Layout, LayoutOptions, ScheduleName

SHORT = {"FORWARD": "F", "BACKWARD_INPUT": "I", "BACKWARD_WEIGHT": "W", "FULL_BACKWARD": "B"}
UNITS = {"F": 1, "I": 1, "W": 1, "B": 2}


def layout_of(schedule: ScheduleName, ranks: int, stages: int) -> Layout:
    return Layout.of(LayoutOptions(pipeline=ranks, schedule=schedule, stages_per_rank=stages), ranks)


def actions(layout: Layout, micro_batches: int) -> list[list[Any]]:
    """Of each rank, torch's actions in order, without those that wait."""
    kind = torchs.get_schedule_class(layout.schedule)
    table = object.__new__(kind)
    table.pp_group_size = table._num_stages = layout.pipeline
    table.n_local_stages, table.num_stages = stages_per_rank(layout), layout.stages
    table._n_microbatches = micro_batches
    table._stages = [None] * stages_per_rank(layout)
    table.number_of_rounds = max(1, micro_batches // layout.pipeline)
    table.microbatches_per_round = micro_batches // table.number_of_rounds
    if layout.schedule in ONE_STAGE:
        order = table._get_pipeline_order()
        rows = [order[rank] for rank in range(layout.pipeline)]
    else:
        rows = [table._calculate_single_rank_operations(rank) for rank in range(layout.pipeline)]
    return [[action for action in row if action is not None] for row in rows]


def flat(row: list[Any], schedule: ScheduleName) -> list[tuple[str, int, int]]:
    """(kind, stage, micro-batch), overlapped ones one after the other; reductions of gradients left out.

    Those of 1F1B are numbered as they come: torch's table leaves out the last rank's first micro-batch.
    """
    found: list[tuple[str, int, int]] = []
    seen: Counter[str] = Counter()
    for action in row:
        for part in action.sub_actions or [action]:
            if kind := SHORT.get(part.computation_type.name):
                found.append((kind, part.stage_index, seen[kind] if schedule == "1F1B" else part.microbatch_index))
                seen[kind] += 1
    return found


def run(layout: Layout, micro_batches: int) -> tuple[float, list[float]]:
    """Idle time of the last rank to end over its work, and the most micro-batches in flight of each rank."""
    rows = [flat(row, layout.schedule) for row in actions(layout, micro_batches)]
    ends: dict[tuple[str, int, int], int] = {}
    clocks, places = [0] * len(rows), [0] * len(rows)
    while any(place < len(row) for place, row in zip(places, rows, strict=True)):
        moved = False
        for rank, row in enumerate(rows):
            while places[rank] < len(row):
                kind, stage, number = row[places[rank]]
                needs = {
                    "F": [("F", stage - 1, number)] if stage else [],
                    "W": [("I", stage, number)],
                }.get(kind, [("F", stage, number)] + ([("IB", stage + 1, number)] if stage < layout.stages - 1 else []))
                found = [ends.get(need) for need in needs]
                if None in found:
                    break
                clocks[rank] = max([clocks[rank], *(end for end in found if end is not None)]) + UNITS[kind]
                ends[kind, stage, number] = clocks[rank]
                if kind in "IB":
                    ends["IB", stage, number] = clocks[rank]
                places[rank], moved = places[rank] + 1, True
        assert moved, "the table waits for itself"
    work = sum(UNITS[kind] for kind, _, _ in rows[0])
    flying = []
    for row in rows:
        now = most = 0
        for kind, _, _ in row:
            now += {"F": 1, "B": -1, "W": -1, "I": 0}[kind]
            most = max(most, now)
        flying.append(most / stages_per_rank(layout))
    return max(clocks) / work - 1, flying


CASES = [
    (schedule, ranks, stages, rounds * ranks)
    for schedule in get_args(ScheduleName)
    for ranks in (2, 4, 8)
    for stages in ((1,) if schedule in ONE_STAGE else (2,) if schedule in V_SHAPED else (2, 4))
    for rounds in (2, 4)
]


@pytest.mark.parametrize(("schedule", "ranks", "stages", "micro_batches"), CASES)
def test_idle_time_and_micro_batches_in_flight_are_those_of_torch(
    schedule: ScheduleName, ranks: int, stages: int, micro_batches: int
) -> None:
    layout = layout_of(schedule, ranks, stages)
    idle, flying = run(layout, micro_batches)
    assert idle == pytest.approx(bubble(layout, micro_batches))
    assert flying == [in_flight(layout, rank, micro_batches) for rank in range(ranks)]


@pytest.mark.parametrize("schedule", ["Interleaved1F1B", "LoopedBFS"])
@pytest.mark.parametrize(("ranks", "stages", "rounds"), [(4, 4, 2), (4, 8, 4), (8, 8, 2), (16, 8, 1), (4, 2, 2)])
def test_weights_are_gathered_at_most_as_often_as_reckoned(
    schedule: ScheduleName, ranks: int, stages: int, rounds: int
) -> None:
    layout = layout_of(schedule, ranks, stages)
    for row in actions(layout, ranks * rounds):
        active: set[int] = set()
        most = times = 0
        for action in torchs._add_unshard_reshard(row):
            if action.computation_type == torchs.UNSHARD:
                active.add(action.stage_index)
                times += 1
            elif action.computation_type == torchs.RESHARD:
                active.remove(action.stage_index)
            most = max(most, len(active))
        assert most / stages == gathered_share(layout)
        assert 0.5 <= times / stages / gathers(layout, ranks * rounds) <= 1
