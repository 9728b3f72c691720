"""Machines as data: every shipped file is whole, and a wrong one is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.cluster.hardware import hardware_of, list_hardware, load_hardware
from herdsman.errors import InputError
from herdsman.training.peaks import published_peak


@pytest.mark.parametrize("name", list_hardware())
def test_every_number_has_a_source_and_lies_in_its_range(name: str) -> None:
    hardware = load_hardware(name)
    figures = [value for value in vars(hardware).values() if hasattr(value, "source")]
    figures += [*hardware.peaks.values(), hardware.efficiencies.gemm, hardware.efficiencies.network]
    assert all(figure.source and figure.low <= figure.value <= figure.high for figure in figures)
    assert hardware.server_watts.value >= hardware.gpus_per_server * hardware.watts.value * 0.9


@pytest.mark.parametrize(
    ("name", "device", "float8"),
    [("h100", "H100 SXM", True), ("h200", "H200 SXM", True), ("b200", "B200", True), ("a100-80gb", "A100", False)],
)
def test_peaks_are_those_that_training_measures_against(name: str, device: str, float8: bool) -> None:
    hardware = load_hardware(name)
    for bits, precision in ((16, "bfloat16"), (8, "float8")):
        published = published_peak(f"NVIDIA {device}", bits)
        if bits == 16 or float8:
            assert published
            assert hardware.peak_flops(precision) == pytest.approx(published.flops_per_second, rel=0.001)
    assert hardware.resolve("auto") == "bfloat16"


def test_products_of_narrow_models_are_read_between_the_points(tmp_path: Path) -> None:
    text = Path(__file__).parents[2].joinpath("src/herdsman/cluster/hardware/cpu.toml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.toml"
    mine.write_text(text + "gemm_by_width = [[64, 0.1], [256, 0.3]]\n", encoding="utf-8")
    hardware = load_hardware(mine)
    assert hardware.name == "mine"
    shares = [hardware.gemm_at(width) for width in (32, 64, 128, 256, 4096)]
    assert shares == pytest.approx([0.1, 0.1, 0.2, 0.3, 0.3])


def test_gpus_are_known_by_their_drivers_names() -> None:
    names = {
        "NVIDIA H100 80GB HBM3": "h100",
        "NVIDIA A100-SXM4-80GB": "a100-80gb",
        "NVIDIA GeForce RTX 4090": "rtx4090",
    }
    for name, expected in names.items():
        found = hardware_of(name)
        assert found
        assert found.name == expected
    assert hardware_of("Tesla T4") is None


def test_what_is_wrong_is_said_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such hardware; choose .*h100"):
        load_hardware("h101")
    with pytest.raises(InputError, match="has no peak for float8; choose one of float32, bfloat16"):
        load_hardware("a100-80gb").peak_flops("float8")
    text = Path(__file__).parents[2].joinpath("src/herdsman/cluster/hardware/cpu.toml").read_text(encoding="utf-8")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(text.replace("gpus_per_server = 1", "gpus_per_server = 0"), encoding="utf-8")
    with pytest.raises(InputError, match=r"gpus_per_server: .*greater than or equal to 1"):
        load_hardware(wrong)
    wrong.write_text(text.replace("value = 45.0", 'value = 45.0, surce = "x"'), encoding="utf-8")
    with pytest.raises(InputError, match="watts"):
        load_hardware(wrong)
    wrong.write_text("= 1", encoding="utf-8")
    with pytest.raises(InputError, match=r"wrong\.toml"):
        load_hardware(wrong)
