"""Machines as data: what one of their GPUs (or CPU processes) can do, each number with its source. Needs no torch.

`hardware/NAME.toml` beside this file holds those that are shipped; `herdsman plan --calibrate` measures the present
machine and writes it into the user's cache as `this`; any other file of this form can be given by its path.
"""

from __future__ import annotations

import tomllib
from importlib import resources
from itertools import pairwise
from math import log2
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError

from herdsman.artifacts import cache_folder
from herdsman.cluster.figure import Figure
from herdsman.errors import InputError
from herdsman.options import Options

Precision = Literal["float32", "bfloat16", "float8"]
THIS = "this"


def _in(unit: str) -> BeforeValidator:
    """A figure of this unit, from a table of at least `value` and `source`; published by its maker if not said else."""

    def complete(given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        if not given.get("source"):
            raise ValueError("needs a source")
        return {"unit": unit, "origin": "card", "low": given.get("value"), "high": given.get("value"), **given}

    return BeforeValidator(complete)


Bytes = Annotated[Figure, _in("B")]
Rate = Annotated[Figure, _in("B/s")]
Flops = Annotated[Figure, _in("FLOP/s")]
Watts = Annotated[Figure, _in("W")]
Dollars = Annotated[Figure, _in("USD/h")]
Seconds = Annotated[Figure, _in("s")]
Part = Annotated[Figure, _in("")]


class Efficiencies(Options):
    """What is reached of the peaks above them, and what operations cost beside."""

    gemm: Part = Field(description="Of the peak, in a block's matrix products and the output's.")
    gemm_by_width: list[tuple[int, float]] = Field(
        [], description="The same by the model's width, rising, where small products are slower: [width, share] pairs."
    )
    attention: Part = Field(
        description="Of the peak, in attention, counted as the mathematics asks: six products over the keys in sight."
    )
    elementwise: Part = Field(description="Of the memory's bandwidth, in a block's operations element by element.")
    memory: Part = Field(
        description="Of it in long streams: the optimizer, sums of gradients, the loss's exponentials."
    )
    link: Part = Field(description="Of the links' bandwidth, in collectives inside a server.")
    network: Part = Field(description="Of the network's bandwidth, in collectives among servers.")
    block_seconds: Seconds | None = Field(
        None,
        description="Starting a block's operations, forward and backward; none where they queue ahead, as on GPUs.",
    )
    activations: Part | None = Field(
        None,
        description="Bytes that a block keeps for its backward pass, relative to `memory.block_bytes`; 1 if not said.",
    )


class Hardware(Options):
    """A kind of machine. A GPU stands for one process; on a CPU, for a process with its threads."""

    name: str = Field(description="The file's name.")
    title: str = Field(description="In words.")
    device: Literal["cuda", "cpu"] = Field("cuda", description="What torch calls it.")
    gpus_per_server: int = Field(ge=1, description="GPUs, or processes, that the links join.")
    peaks: dict[Precision, Flops] = Field(description="Dense operations a second of one GPU, by precision.")
    memory_bytes: Bytes = Field(description="Of one GPU.")
    memory_bandwidth: Rate = Field(description="Of one GPU.")
    link_bandwidth: Rate = Field(description="Between GPUs of a server, one GPU's, in one direction.")
    network_bandwidth: Rate = Field(description="Between servers, one GPU's, in one direction.")
    watts: Watts = Field(description="Of one GPU at work.")
    idle_watts: Watts = Field(description="Of one GPU without work.")
    server_watts: Watts = Field(description="Of a whole server at work, with its CPUs, fans and network.")
    dollars_per_gpu_hour: Dollars = Field(description="Rent.")
    efficiencies: Efficiencies = Field(description="What is reached of the peaks.")

    def resolve(self, precision: str) -> Precision:
        """`auto` is bfloat16 where the machine multiplies it, as in `training.optimizer.resolve_precision`."""
        if precision == "auto":
            return "bfloat16" if "bfloat16" in self.peaks else "float32"
        return precision  # type: ignore[return-value]

    def peak_flops(self, precision: str) -> float:
        """Dense FLOP/s of one GPU.

        Raises:
            InputError: it does not multiply in this precision.
        """
        resolved = self.resolve(precision)
        if resolved not in self.peaks:
            known = ", ".join(self.peaks)
            raise InputError(f"has no peak for {resolved}", where=f"hardware {self.name}", do=f"choose one of {known}")
        return self.peaks[resolved].value

    def gemm_at(self, width: int) -> float:
        """Share of the peak in products of a model of this width; between two that are known, linear in its log."""
        points = self.efficiencies.gemm_by_width
        if not points:
            return self.efficiencies.gemm.value
        if width <= points[0][0]:
            return points[0][1]
        for (left, low), (right, high) in pairwise(points):
            if width <= right:
                return low + (high - low) * log2(width / left) / log2(right / left)
        return points[-1][1]

    def bandwidth(self, ranks: int) -> float:
        """Bytes a second that one GPU reaches in a collective over so many consecutive ranks."""
        reached = self.efficiencies
        if ranks <= self.gpus_per_server:
            return self.link_bandwidth.value * reached.link.value
        return self.network_bandwidth.value * reached.network.value


def this_file() -> Path:
    """Where the calibrated present machine is kept."""
    return cache_folder() / "hardware" / f"{THIS}.toml"


def list_hardware() -> list[str]:
    """Names that `load_hardware` knows: those shipped, and `this` once it is calibrated."""
    shipped = [path.name.removesuffix(".toml") for path in _shipped().iterdir() if path.name.endswith(".toml")]
    return sorted(shipped) + ([THIS] if this_file().exists() else [])


def load_hardware(name_or_path: str | Path) -> Hardware:
    """A machine by its name, or from a file.

    Raises:
        InputError: there is none, or the file is not one of a machine.
    """
    path = Path(name_or_path)
    where = str(name_or_path)
    try:
        if path.suffix == ".toml":
            text = path.read_text(encoding="utf-8")
        elif where == THIS:
            text = this_file().read_text(encoding="utf-8")
        else:
            text = _shipped().joinpath(f"{where.lower()}.toml").read_text(encoding="utf-8")
    except OSError as error:
        do = "calibrate it with herdsman plan --calibrate" if where == THIS else f"choose {', '.join(list_hardware())}"
        raise InputError("no such hardware", where=where, do=do) from error
    try:
        name = path.stem if path.suffix == ".toml" else where.lower()
        return Hardware.model_validate({"name": name, **tomllib.loads(text)})
    except tomllib.TOMLDecodeError as error:
        raise InputError(str(error), where=where, do="mend the file") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise InputError(
            f"{key}: {first['msg'].removeprefix('Value error, ')}", where=where, do="mend the file"
        ) from error


def _shipped() -> Any:
    return resources.files("herdsman.cluster").joinpath("hardware")
