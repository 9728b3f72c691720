"""Which rank has what: the paper's figure 5, its stages, its chunks; and what a layout refuses, in one sentence."""

from __future__ import annotations

import pytest
import torch
from torch import distributed

from herdsman.errors import RecipeError
from herdsman.model.options import ModelOptions
from herdsman.training.parallel.context import places_of
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.parallel.mesh import Mesh
from herdsman.training.parallel.pipeline import parts
from herdsman.training.parallel.stages import padded_count, stages_of
from tests.processes import run

MODEL = ModelOptions(layers=4, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=32)


def groups_of(options: LayoutOptions) -> dict[str, list[int]]:
    """The ranks that this one shares each axis with; those it shares weights with, in the mesh's order."""
    mesh = Mesh.over(Layout.of(options, distributed.get_world_size()), "cpu")
    axes = {"tensor": mesh.tensor, "context": mesh.context, "pipeline": mesh.pipeline}
    found = {name: distributed.get_process_group_ranks(axis.get_group()) for name, axis in axes.items()}
    return found | {"weights": mesh.weights.mesh.tolist(), "data": [mesh.data_rank]}


def test_sixteen_gpus_are_laid_out_as_in_figure_5() -> None:
    """GPU 0 shares TP with 1, CP with 2, PP with 4, DP with 8."""
    ranks = run(groups_of, 16, LayoutOptions(tensor=2, context=2, pipeline=2, data=2))
    first = ranks[0]
    assert (first["tensor"], first["context"], first["pipeline"]) == ([0, 1], [0, 2], [0, 4])
    assert first["weights"] == [0, 2, 8, 10]
    for rank, groups in enumerate(ranks):
        assert groups["tensor"] == sorted([rank, rank ^ 1])
        assert groups["context"] == sorted([rank, rank ^ 2])
        assert groups["pipeline"] == sorted([rank, rank ^ 4])
        assert sorted(groups["weights"]) == sorted([rank, rank ^ 2, rank ^ 8, rank ^ 10])
        assert groups["data"] == [rank // 8]


def test_replicas_are_the_outermost() -> None:
    ranks = run(groups_of, 8, LayoutOptions(context=2, data=4, shards=2))
    assert ranks[0]["weights"] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert [groups["data"] for groups in ranks] == [[0], [0], [1], [1], [2], [2], [3], [3]]


def test_the_first_and_the_last_of_128_stages_have_none_of_126_layers() -> None:
    cut = parts(126, 128)
    assert [len(part.layers) for part in cut] == [0] + [1] * 126 + [0]
    assert (cut[0].is_first, cut[-1].is_last) == (True, True)


@pytest.mark.parametrize(("layers", "stages"), [(1, 1), (4, 2), (3, 4), (2, 4), (5, 3), (126, 16), (80, 7), (32, 12)])
def test_stages_have_every_layer_once_and_like_work(layers: int, stages: int) -> None:
    cut = parts(layers, stages)
    assert [layer for part in cut for layer in part.layers] == list(range(layers))
    assert [part.is_first for part in cut] == [True] + [False] * (stages - 1)
    assert [part.is_last for part in cut] == [False] * (stages - 1) + [True]
    work = [len(part.layers) + part.is_first + part.is_last for part in cut]
    assert max(work) - min(work) <= 1


def test_ranks_have_every_so_many_stages_or_go_down_and_come_back() -> None:
    looped = Layout.of(LayoutOptions(pipeline=4, stages_per_rank=3), 4)
    assert [stages_of(rank, looped) for rank in range(4)] == [[0, 4, 8], [1, 5, 9], [2, 6, 10], [3, 7, 11]]
    single = Layout.of(LayoutOptions(pipeline=4, schedule="1F1B", stages_per_rank=3), 4)
    assert [stages_of(rank, single) for rank in range(4)] == [[0], [1], [2], [3]]
    v = Layout.of(LayoutOptions(pipeline=3, schedule="DualPipeV"), 3)
    assert [stages_of(rank, v) for rank in range(3)] == [[0, 5], [1, 4], [2, 3]]
    assert [padded_count(count, looped) for count in (1, 4, 5)] == [4, 4, 8]
    assert [padded_count(count, v) for count in (1, 6, 7)] == [6, 6, 12]
    assert padded_count(5, Layout.of(LayoutOptions(), 1)) == 5


def test_each_context_rank_has_an_early_and_a_late_chunk() -> None:
    assert [places_of(rank, 2, 8).tolist() for rank in range(2)] == [[0, 1, 6, 7], [2, 3, 4, 5]]
    for ranks in (1, 2, 3, 8):
        places = [places_of(rank, ranks, 48) for rank in range(ranks)]
        assert sorted(torch.cat(places).tolist()) == list(range(48))
        assert len({int((mine + 1).sum()) for mine in places}) == 1, "keys seen, and so the work, differ"


def test_degrees_that_are_left_out_are_what_is_left() -> None:
    assert Layout.of(LayoutOptions(tensor=2), 8).data == 4
    assert Layout.of(LayoutOptions(tensor=2), 8).shards == 4
    assert Layout.of(LayoutOptions(), 1) == Layout.of(LayoutOptions(data=1), 1)


@pytest.mark.parametrize(
    ("options", "processes", "sentence"),
    [
        (
            LayoutOptions(tensor=2, context=2, data=2),
            4,
            "pretrain.layout: tensor 2 x context 2 x pipeline 1 x data 2 is 8 processes, but there are 4; ",
        ),
        (LayoutOptions(tensor=8), 4, "is 8 processes, but there are 4; "),
        (LayoutOptions(tensor=3), 4, "is 3 processes, but there are 4; "),
        (
            LayoutOptions(data=4, shards=3),
            4,
            "pretrain.layout.shards: 4 data ranks cannot be cut into groups of 3; choose a divisor",
        ),
    ],
)
def test_processes_that_do_not_fit_are_one_sentence(options: LayoutOptions, processes: int, sentence: str) -> None:
    with pytest.raises(RecipeError) as error:
        Layout.of(options, processes)
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("options", "changes", "sentence"),
    [
        ({"tensor": 3}, {}, "4 query heads cannot be split evenly over tensor = 3; choose a divisor"),
        ({"tensor": 4}, {}, "2 key and value heads cannot be split evenly over tensor = 4; choose a divisor"),
        (
            {"tensor": 2},
            {"ffn_width": 45},
            "45 feed-forward columns cannot be split evenly over tensor = 2; choose a divisor",
        ),
        (
            {"pipeline": 4},
            {},
            "4 layers, the embedding and the output cannot be split evenly over 8 pipeline stages; choose fewer stages",
        ),
        (
            {"context": 3},
            {},
            "a sequence of 32 tokens cannot be split evenly over context = 3, in two chunks each, and tensor = 1; "
            "choose a multiple of 6 tokens",
        ),
    ],
)
def test_models_that_cannot_be_split_are_one_sentence(
    options: dict[str, int], changes: dict[str, int], sentence: str
) -> None:
    (degree,) = options.values()
    layout = Layout.of(LayoutOptions(**options), degree)
    with pytest.raises(RecipeError) as error:
        layout.check(MODEL.model_copy(update=changes), [32])
    assert str(error.value) == f"pretrain.layout: {sentence}"


def test_what_can_be_split_is_not_refused() -> None:
    Layout.of(LayoutOptions(tensor=2, context=2, pipeline=3), 12).check(MODEL, [32, 8])
    for context in (1, 2, 3, 4):
        for tensor in (1, 2):
            layout = Layout.of(LayoutOptions(context=context, tensor=tensor), context * tensor)
            for length in range(1, 60):
                chunks = 2 * context if context > 1 else 1
                fits = length % chunks == 0 and (length // context) % tensor == 0
                assert (length % layout.sequence_unit_tokens == 0) == fits
