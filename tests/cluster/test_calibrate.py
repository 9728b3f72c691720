"""The present machine, measured: a file that plans can read, with rates that make sense. No time is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdsman.cluster import calibrate as calibration
from herdsman.cluster import measure
from herdsman.cluster.calibrate import calibrate
from herdsman.cluster.hardware import THIS, list_hardware, load_hardware, this_file
from herdsman.cluster.measure import ALONE, Steps, job_of, kept_ratio, model_of, saved_bytes
from herdsman.cluster.memory import estimate_memory
from herdsman.cluster.step_time import CALIBRATED_SPREAD, estimate_step, spread
from herdsman.training.optimizer import resolve_precision

CPU = torch.device("cpu")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few and short measurements, kept apart from the user's."""
    monkeypatch.setenv("HERDSMAN_CACHE", str(tmp_path))
    monkeypatch.setattr(calibration, "WIDTHS", {"cpu": (64, 128)})
    monkeypatch.setattr(measure, "MEASURED_SECONDS", 0.0)
    monkeypatch.setattr(measure, "LEAST_RUNS", 1)


@pytest.mark.usefixtures("quick")
def test_a_calibrated_machine_is_hardware_like_any_other() -> None:
    assert THIS not in list_hardware()
    assert calibrate(CPU) == this_file()
    this = load_hardware(THIS)
    assert list_hardware()[-1] == THIS
    assert this.name == THIS
    assert this.resolve("auto") == str(resolve_precision("auto", CPU)).removeprefix("torch.")
    measured = [this.memory_bytes, this.memory_bandwidth, this.link_bandwidth, *this.peaks.values()]
    assert all(figure.origin == "measured" and figure.value > 0 for figure in measured)
    assert [width for width, _ in this.efficiencies.gemm_by_width] == [64, 128]
    assert all(share > 0 for _, share in this.efficiencies.gemm_by_width + this.efficiencies.attention_by_width)
    step = estimate_step(job_of(model_of(96, 3), 8, 256, resolve_precision("auto", CPU)), ALONE, this)
    assert {"matmul", "attention", "elementwise", "optimizer"} <= set(step.parts)
    assert all(seconds > 0 for seconds in step.parts.values())
    assert spread(this) == CALIBRATED_SPREAD


def test_a_real_layer_keeps_what_the_memory_model_says() -> None:
    assert kept_ratio(128, CPU, torch.bfloat16) == pytest.approx(1, abs=0.02)
    assert kept_ratio(128, CPU, torch.float32) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("width", "layers"), [(64, 5), (128, 3), (192, 4), (320, 2), (448, 3)])
def test_activations_of_sizes_that_were_not_measured_are_predicted(width: int, layers: int) -> None:
    job = job_of(model_of(width, layers), 4, 256, torch.bfloat16)
    steps = Steps(job, CPU)
    copies = job.bytes_each * job.sizes.matrices * layers
    saved = saved_bytes(steps.model, steps.batches[0]) - copies
    predicted = estimate_memory(job, ALONE, load_hardware("cpu")).parts["activations"]
    assert predicted == pytest.approx(saved, rel=0.05)
