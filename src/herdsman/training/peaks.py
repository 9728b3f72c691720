"""How many operations a second a device can do: what utilisation is a share of."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

DATA_SHEETS = (
    ("A100", 312e12, False, "NVIDIA A100 data sheet"),
    ("H100 PCIe", 756e12, True, "NVIDIA H100 PCIe data sheet"),
    ("H100 NVL", 835e12, True, "NVIDIA H100 NVL data sheet"),
    ("H100", 989e12, True, "NVIDIA H100 SXM data sheet"),
    ("GH200", 989e12, True, "NVIDIA GH200 data sheet"),
    ("H200 NVL", 835e12, True, "NVIDIA H200 NVL data sheet"),
    ("H200", 989e12, True, "NVIDIA H200 SXM data sheet"),
    ("GB200", 2.5e15, True, "NVIDIA Blackwell data sheet, GB200"),
    ("B200", 2.25e15, True, "NVIDIA Blackwell data sheet, HGX B200"),
    ("MI300X", 1307e12, True, "AMD Instinct MI300X data sheet"),
    ("MI325X", 1307e12, True, "AMD Instinct MI325X data sheet"),
)
"""Part of the name that torch gives a device, dense operations a second in bfloat16 and float16, whether float8 is
twice as fast, source. Data sheets print figures for sparse matrices, twice as high. The first that fits counts."""
SIDES = {"cpu": (512, 1024), "cuda": (8192,)}
"""Rows and columns of the matrices that are multiplied to measure: small ones stay in the cache of a single core, large
ones are shared better among many."""
MEASURED_SECONDS = 0.1


@dataclass(frozen=True)
class Peak:
    """Operations a second of one device, and where the figure is from."""

    flops_per_second: float
    source: str


def published_peak(device_name: str, bits: int) -> Peak | None:
    """The data sheet's figure for dense products of numbers of 16 or 8 bits; None where there is none to compare with.

    A slice of a device (MIG) has no figure of its own.
    """
    for part, flops_per_second, has_float8, source in DATA_SHEETS:
        if part in device_name and "MIG" not in device_name:
            if bits == 16:
                return Peak(flops_per_second, f"{source}, dense bfloat16")
            if bits == 8 and has_float8:
                return Peak(2 * flops_per_second, f"{source}, dense float8")
    return None


def peak_of(device: torch.device, precision: torch.dtype, fp8: bool = False) -> Peak:
    """What the device can do at most: as published, else, as for every CPU, what a plain matrix product reaches here.

    A measured peak is for this process with its threads, and depends on what else the machine does.
    """
    import torch

    if device.type == "cuda":
        bits = 8 if fp8 else 8 * precision.itemsize
        if published := published_peak(torch.cuda.get_device_name(device), bits):
            return published
    name = str(precision).removeprefix("torch.")
    return Peak(measured_peak(device, precision), f"measured on this machine: a product of two matrices in {name}")


def measured_peak(device: torch.device, precision: torch.dtype) -> float:
    """Operations a second of the fastest of many products of two square matrices. Takes about half a second."""
    import torch

    fastest = 0.0
    for side in SIDES.get(device.type, SIDES["cuda"]):
        left, right = (torch.rand(side, side, device=device).to(precision) for _ in range(2))
        out = left @ right
        spent, runs = 0.0, 0
        while spent < MEASURED_SECONDS or runs < 3:
            _wait(device)
            started = time.perf_counter()
            torch.mm(left, right, out=out)
            _wait(device)
            seconds = time.perf_counter() - started
            fastest, spent, runs = max(fastest, 2 * side**3 / seconds), spent + seconds, runs + 1
    return fastest


def _wait(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
