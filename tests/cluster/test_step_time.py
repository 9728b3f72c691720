"""The model of time: its constants are those of the code, its operations those that the trainer counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from herdsman.cluster import memory, step_time
from herdsman.cluster.hardware import Hardware, load_hardware
from herdsman.cluster.job import Job, Share
from herdsman.cluster.step_time import attention_flops, estimate_step
from herdsman.model import likelihood, tiled
from herdsman.model.count import model_flops
from herdsman.recipe import load_recipe
from herdsman.training import muon
from herdsman.training.parallel.layout import Layout, LayoutOptions

H100 = load_hardware("h100")
MODEL = load_recipe(Path(__file__).parents[2] / "recipes/8b.toml").model
JOB = Job(MODEL, 128_256, 8192, 1 << 20)


def seconds(job: Job = JOB, processes: int = 8, hardware: Hardware = H100, **degrees: int) -> dict[str, float]:
    return estimate_step(job, Layout.of(LayoutOptions(**degrees), processes), hardware).parts


def test_constants_are_those_of_the_code() -> None:
    assert muon.ITERATIONS == step_time.NEWTON_SCHULZ_ITERATIONS
    assert tiled.TILE == memory.TILE
    assert likelihood.SLICE_ELEMENTS == memory.SLICE_ELEMENTS


def test_operations_are_those_that_training_counts() -> None:
    step = estimate_step(JOB, Layout.of(LayoutOptions(), 8), H100)
    assert step.tokens == 1 << 20
    assert step.flops_causal == step.tokens * model_flops(MODEL, 128_256, 4096)
    assert step.flops_whole == step.tokens * model_flops(MODEL, 128_256, 8192)
    at_peak = step.seconds * 8 * H100.peak_flops("bfloat16")
    assert step.mfu_causal == pytest.approx(step.flops_causal / at_peak)
    assert attention_flops(JOB, H100) * MODEL.layers == model_flops(MODEL, 128_256, 4096) - model_flops(
        MODEL, 128_256, 0
    )


def test_products_take_their_operations_over_the_rate() -> None:
    """Three products for each matrix, and a third of them again where blocks are recomputed; four for the logits."""
    rate = H100.peak_flops("bfloat16") * H100.gemm_at(4096)
    blocks = 6 * JOB.sizes.matrices * 32 * JOB.batch_tokens / 8 / rate
    head = 8 * 128_256 * 4096 * JOB.batch_tokens / 8 / rate
    assert seconds()["matmul"] == pytest.approx(blocks + head)
    assert seconds(replace(JOB, recompute="full"))["matmul"] == pytest.approx(4 / 3 * blocks + head)


def test_ranks_share_the_work_and_pay_for_speaking() -> None:
    alone = seconds()
    assert "tensor" not in alone
    split = seconds(tensor=8)
    assert split["matmul"] == pytest.approx(alone["matmul"])
    assert split["tensor"] > 0
    piped = seconds(pipeline=4)
    assert piped["bubble"] > 0
    long = replace(JOB, sequence_length=131072, micro_batch_tokens=131072)
    assert seconds(long, context=8)["context"] > 0
    # Over the network, beyond a server, the same is slower.
    assert seconds(long, 16, context=16)["context"] > 2 * seconds(long, context=8)["context"]
    assert seconds(processes=64)["data"] > 0


def test_the_data_ranks_traffic_hides_behind_work() -> None:
    """Of eight times the work in a step more than eight times as much of it is hidden."""
    little, much = (replace(JOB, batch_tokens=tokens) for tokens in (64 * 8192, 64 * 8 * 8192))
    shown = [seconds(job, 64)["data"] / sum(seconds(job, 64).values()) for job in (little, much)]
    assert shown[1] < shown[0] / 4


def test_documents_shorten_attention_only() -> None:
    short = seconds(replace(JOB, document_tokens=1024))
    assert short["attention"] == pytest.approx(seconds()["attention"] / 8)
    assert short["matmul"] == seconds()["matmul"]


def test_micro_batches_are_cut_as_the_trainer_cuts_them() -> None:
    layout = Layout.of(LayoutOptions(), 8)
    assert Share.of(JOB, layout) == Share(8192, 16, 16)
    assert Share.of(replace(JOB, micro_batch_tokens=30_000), layout) == Share(3 * 8192, 6, 6)
    assert Share.of(replace(JOB, micro_batch_tokens=100), layout) == Share(8192, 16, 16)
    piped = Layout.of(LayoutOptions(pipeline=8, schedule="1F1B"), 8)
    assert Share.of(replace(JOB, batch_tokens=20 * 8192), piped) == Share(8192, 24, 20)
