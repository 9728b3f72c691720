"""Rows and points of metrics: against published throughputs, sums done by hand, and a real model's losses."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from herdsman.model.count import model_flops, recomputed_flops, visible_keys
from herdsman.model.options import ModelOptions
from herdsman.recipe import load_recipe
from herdsman.training.metrics import Metrics, Row, Utilisation, point_of, typical_rates
from herdsman.training.objective import Batch, NextToken
from herdsman.training.parallel.build import lay_out
from herdsman.training.parallel.layout import Layout, LayoutOptions
from herdsman.training.peaks import Peak, peak_of, published_peak

CPU = torch.device("cpu")
VOCAB = 128_256
RECIPES = Path(__file__).parents[2] / "recipes"
TINY = ModelOptions(layers=2, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=64)
H100 = "NVIDIA H100 80GB HBM3"


class Kept:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.points: list[tuple[int, Mapping[str, float]]] = []
        self.rewound: list[int] = []
        self.closed = False

    def write(self, step: int, point: Mapping[str, float]) -> None:
        self.points.append((step, point))

    def rewind(self, step: int) -> None:
        self.rewound.append(step)

    def close(self) -> None:
        self.closed = True


def fed(metrics: Metrics, step: int = 0, **changes: Any) -> Row:
    values: dict[str, Any] = {
        "step": step,
        "phase": "main",
        "tokens": 64 * (step + 1),
        "batch_tokens": 64,
        "sequence_length": 16,
        "loss": 2.0,
        "weight": 60.0,
        "learning_rate": 1e-3,
        "gradient_norm": 1.0,
        "seconds": 0.5,
        "data_seconds": 0.1,
        "figures": {},
    }
    return metrics.step(**values | changes)


def utilisation_of(recipe: str, gpus: int, bits: int = 16) -> Utilisation:
    peak = published_peak(H100, bits)
    assert peak
    return Utilisation(load_recipe(RECIPES / f"{recipe}.toml").model, VOCAB, gpus, peak)


@pytest.mark.parametrize(
    ("recipe", "gpus", "bits", "rate", "whole", "causal"),
    [
        # NVIDIA dgxc-benchmarking, NeMo 24.09: tokens a second and GPU at 8,192 tokens a sequence; bfloat16.
        ("8b", 8, 16, 10_153, 59.5, 52.8),
        ("8b", 128, 16, 10_006, 58.6, 52.1),
        ("70b", 64, 16, 1_113, 54.2, 50.6),
        ("70b", 2_048, 16, 1_098, 53.5, 49.9),
        ("405b", 576, 16, 208, 55.3, 53.2),
        ("405b", 2_304, 16, 203, 54.0, 51.9),
        # torchtitan, 2024-12, bfloat16; Megatron-Bridge 25.11, float8.
        ("8b", 8, 16, 6_667, 39.0, 34.7),
        ("8b", 8, 8, 14_451, 42.3, 37.6),
    ],
)
def test_published_throughputs(recipe: str, gpus: int, bits: int, rate: int, whole: float, causal: float) -> None:
    metrics = Metrics(utilisation_of(recipe, gpus, bits), gpus, CPU)
    batch = 4 << 20
    seconds = batch / (rate * gpus)
    row = fed(metrics, batch_tokens=batch, sequence_length=8192, seconds=seconds, data_seconds=0.0)
    assert row["tokens_per_second"] == pytest.approx(rate * gpus, rel=1e-5)
    assert row["tokens_per_second_per_device"] == pytest.approx(rate, rel=1e-5)
    # Computed from rates that were rounded to whole tokens: of 208, half a token is 0.13 of 55.3.
    slack = 0.06 + 100 * row["mfu_whole"] * 0.5 / rate
    assert 100 * row["mfu_whole"] == pytest.approx(whole, abs=slack)
    assert 100 * row["mfu_causal"] == pytest.approx(causal, abs=slack)


@pytest.mark.parametrize(
    ("gpus", "sequence_length", "flops_per_second", "printed"),
    [(8_192, 8_192, 430e12, 43.5), (16_384, 8_192, 400e12, 40.4), (16_384, 131_072, 380e12, 38.4)],
)
def test_table_4_of_the_paper(gpus: int, sequence_length: int, flops_per_second: float, printed: float) -> None:
    """Rates of 16 M tokens a step that give the paper's TFLOPs a GPU, under each convention, give its MFU."""
    model = load_recipe(RECIPES / "405b.toml").model
    batch = 16_777_216
    for name, keys in (("whole", sequence_length), ("causal", sequence_length / 2)):
        seconds = batch * model_flops(model, VOCAB, keys) / (gpus * flops_per_second)
        row = fed(
            Metrics(utilisation_of("405b", gpus), gpus, CPU),
            batch_tokens=batch,
            sequence_length=sequence_length,
            seconds=seconds,
        )
        assert 100 * row[f"mfu_{name}"] == pytest.approx(printed, abs=0.05)
    assert row["mfu_whole"] > row["mfu_causal"]


@pytest.mark.parametrize("recompute", ["none", "selective", "full"])
def test_utilisation_is_operations_over_what_the_devices_could_do(recompute: Any) -> None:
    peak = Peak(1e9, "by hand")
    metrics = Metrics(Utilisation(TINY, 300, 3, peak, recompute), 3, CPU)
    visible = visible_keys([5, 11])
    row = fed(metrics, seconds=0.5, visible=visible)
    for name, keys in (("whole", 16.0), ("causal", 8.0), ("visible", visible)):
        model = model_flops(TINY, 300, keys)
        hardware = model + recomputed_flops(TINY, 300, keys, full=recompute == "full")
        assert row[f"mfu_{name}"] == pytest.approx(model * 64 / 0.5 / 3e9, rel=1e-5)
        assert row[f"hfu_{name}"] == pytest.approx(hardware * 64 / 0.5 / 3e9, rel=1e-5)


def test_rates_are_of_the_last_steps_that_took_the_interval() -> None:
    metrics = Metrics(None, 2, CPU, interval_seconds=1.0)
    first = fed(metrics, 0, seconds=0.3, batch_tokens=30, data_seconds=0.3)
    assert (first["window_steps"], first["tokens_per_second"], first["data_share"]) == (1, 100.0, 1.0)
    for step in range(1, 8):
        row = fed(metrics, step, seconds=0.25, batch_tokens=50, data_seconds=0.05)
    assert row["window_steps"] == 4
    assert row["tokens_per_second"] == pytest.approx(200, rel=1e-6)
    assert row["tokens_per_second_per_device"] == pytest.approx(100, rel=1e-6)
    assert row["data_share"] == pytest.approx(0.2, rel=1e-6)
    long = fed(metrics, 8, seconds=7.0, batch_tokens=70)
    assert (long["window_steps"], long["tokens_per_second"]) == (1, 10.0)
    metrics.rewind(3)
    assert fed(metrics, 3, seconds=0.25, batch_tokens=10)["window_steps"] == 1


def test_a_window_over_two_phases_counts_the_operations_of_both() -> None:
    metrics = Metrics(Utilisation(TINY, 300, 1, Peak(1e9, "by hand")), 1, CPU, interval_seconds=9.0)
    fed(metrics, 0, sequence_length=16, batch_tokens=64, seconds=0.5)
    row = fed(metrics, 1, sequence_length=64, batch_tokens=128, seconds=1.5)
    done = 64 * model_flops(TINY, 300, 16) + 128 * model_flops(TINY, 300, 64)
    assert row["mfu_whole"] == pytest.approx(done / 2.0 / 1e9, rel=1e-5)


def test_losses_of_streams_are_those_of_their_tokens() -> None:
    """The sums of a real model's objective: by stream, the loss is that of a batch in which only it is trained."""
    generator = torch.Generator().manual_seed(0)
    tokens, targets = (torch.randint(0, 300, (4, 16), generator=generator) for _ in range(2))
    streams = torch.tensor([0, 2, 0, 0])[:, None].expand(4, 16)
    weights = (torch.rand(4, 16, generator=generator) > 0.1).float()
    model = lay_out(
        TINY, 300, Layout.of(LayoutOptions(), 1), CPU, lambda name, tensor: tensor.normal_(0, 0.1, generator=generator)
    )
    objective = NextToken(z_loss=1e-3, streams=("books", "code", "web"))

    def sums_of(weights: torch.Tensor) -> Any:
        batch = Batch(tokens, None, {"targets": targets, "weights": weights, "streams": streams})
        return model.evaluate([batch], objective)

    sums = sums_of(weights)
    row = fed(Metrics(None, 1, CPU), loss=sums.total / sums.weight, weight=sums.weight, figures=sums.figures)
    for stream, number in (("books", 0), ("web", 2)):
        alone = sums_of(weights * (streams == number))
        plain = alone.total - alone.figures["z_loss"]
        assert row[f"loss.{stream}"] == pytest.approx(plain / alone.weight, rel=2e-6)
        assert row[f"share.{stream}"] == pytest.approx(alone.weight / sums.weight, rel=2e-6)
    assert row["share.code"] == 0.0
    assert "loss.code" not in row
    assert row["z_loss"] == pytest.approx(sums.figures["z_loss"] / sums.weight, rel=2e-6)
    whole = sum(row[f"share.{name}"] * row[f"loss.{name}"] for name in ("books", "web"))
    assert whole + row["z_loss"] == pytest.approx(row["loss"], rel=3e-6)


def test_a_point_stands_for_all_steps_since_the_last() -> None:
    sink = Kept()
    metrics = Metrics(None, 1, CPU, [sink], interval_seconds=1.0)
    steps: list[dict[str, Any]] = [
        {"loss": 3.0, "gradient_norm": 1.0, "figures": {"loss.a": 30.0, "weight.a": 15.0, "weight.b": 0.0}},
        {"loss": 5.0, "gradient_norm": 9.0, "figures": {"loss.a": 45.0, "weight.a": 45.0, "loss.b": 8, "weight.b": 2}},
        {"loss": math.nan, "gradient_norm": math.inf, "learning_rate": 7.0},
    ]
    rows = [fed(metrics, step, seconds=0.4, **values) for step, values in enumerate(steps)]
    assert [step for step, _ in sink.points] == [2]
    point = sink.points[0][1]
    assert point == point_of(rows)
    assert (point["loss"], point["gradient_norm"], point["gradient_norm_highest"]) == (4.0, 5.0, 9.0)
    assert (point["loss.a"], point["loss.b"]) == (75 / 60, 4.0)
    assert (point["learning_rate"], point["tokens"]) == (7.0, 192)
    assert all(isinstance(value, int | float) for value in point.values())
    fed(metrics, 3, seconds=0.4)
    metrics.rewind(1)
    fed(metrics, 1, seconds=0.4, loss=8.0)
    metrics.close()
    assert (sink.rewound, sink.closed) == ([1], True)
    assert [(step, point["loss"]) for step, point in sink.points[1:]] == [(1, 8.0)]


def test_rows_are_plain_numbers() -> None:
    row = fed(Metrics(Utilisation(TINY, 300, 1, peak_of(CPU, torch.float32)), 1, CPU), figures={"loss.web": 3.0})
    assert json.loads(json.dumps(row)) == row
    assert row["memory_resident_bytes"] > 50 << 20
    assert row["mfu_causal"] < row["mfu_whole"] < row["hfu_whole"]


def test_no_weight_gives_no_means() -> None:
    row = fed(Metrics(None, 1, CPU), loss=math.nan, weight=0.0, figures={"loss.a": 0.0, "weight.a": 0.0, "z_loss": 0.0})
    assert not {"loss.a", "share.a", "z_loss"} & set(row)


def test_typical_rates_are_medians_by_phase() -> None:
    metrics = Metrics(None, 1, CPU, interval_seconds=0.0)
    rows = [fed(metrics, step, seconds=seconds) for step, seconds in enumerate([30.0, 0.5, 0.25, 0.5])]
    rows += [fed(metrics, 4, phase="anneal", seconds=2.0)]
    main, anneal = typical_rates(rows)
    assert (main["phase"], main["steps"], main["seconds"], main["tokens_per_second"]) == ("main", 4, 0.5, 128.0)
    assert (anneal["phase"], anneal["steps"], anneal["tokens_per_second"]) == ("anneal", 1, 32.0)
    assert main["memory_resident_bytes"] == max(row["memory_resident_bytes"] for row in rows[:4])


@pytest.mark.parametrize(
    ("name", "bits", "flops_per_second"),
    [
        ("NVIDIA A100-SXM4-80GB", 16, 312e12),
        ("NVIDIA A100-SXM4-80GB", 8, None),
        (H100, 16, 989e12),
        (H100, 8, 1978e12),
        (H100, 32, None),
        ("NVIDIA H100 PCIe", 16, 756e12),
        ("NVIDIA H100 NVL", 16, 835e12),
        ("NVIDIA GH200 480GB", 16, 989e12),
        ("NVIDIA H200", 16, 989e12),
        ("NVIDIA B200", 16, 2.25e15),
        ("NVIDIA GB200", 16, 2.5e15),
        ("AMD Instinct MI300X", 16, 1307e12),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", 16, None),
        ("NVIDIA GeForce RTX 4090", 16, None),
    ],
)
def test_published_peaks(name: str, bits: int, flops_per_second: float | None) -> None:
    peak = published_peak(name, bits)
    assert (peak and peak.flops_per_second) == flops_per_second


def test_where_nothing_is_published_a_product_is_measured() -> None:
    peak = peak_of(CPU, torch.float32)
    assert peak.flops_per_second > 1e8
    assert peak.source == "measured on this machine: a product of two matrices in float32"
