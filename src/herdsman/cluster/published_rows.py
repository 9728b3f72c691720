"""What the files of `published/` hold: numbers that others have printed, with their sources."""

from __future__ import annotations

import tomllib
from importlib import resources
from typing import Literal

from pydantic import Field

from herdsman.cluster.hardware import Part
from herdsman.model.count import SPECIAL_TOKENS
from herdsman.model.options import ModelOptions
from herdsman.options import Options
from herdsman.training.parallel.layout import LayoutOptions


class Run(Options):
    """A published speed; one of the three last fields is what was printed."""

    source: str
    name: str
    model: str
    hardware: str
    gpus: int
    layout: LayoutOptions
    sequence_length: int
    batch_per_rank: int = Field(description="Sequences a step of one data rank.")
    micro_batch_rows: int = 1
    vocab_size: int = 128_000 + SPECIAL_TOKENS
    precision: Literal["float32", "bfloat16", "float8"] = "bfloat16"
    recompute: Literal["none", "selective", "full"] = "none"
    trainer: Literal["herdsman", "paper", "megatron"] = "herdsman"
    tolerance: float | None = None
    fits: bool = Field(False, description="Whether it is claimed that memory suffices.")
    printed_batch_tokens: int | None = None
    printed_mfu: float | None = None
    tflops: float | None = Field(None, description="TFLOP/s of one GPU, attention counted causally.")
    seconds: float | None = Field(None, description="Of a step.")
    tokens_per_second: float | None = Field(None, description="Of one GPU.")


class CardModel(Options):
    """A model on its card."""

    model: str
    printed_parameters: int
    tokens: float
    gpu_hours: float
    tonnes_co2: float
    trained: dict[str, float] = Field({}, description="Tokens by the runs that trained it, where published.")
    effective: float = Field(1.0, description="Share of the time that was training, at least.")


class Card(Options):
    """A model card's costs; all models trained on H100s of 700 W."""

    source: str
    kg_per_kwh: float = Field(description="Carbon of the electricity, by the card's own sums.")
    models: list[CardModel]


class TallyRow(Options):
    what: str
    count: int
    printed_percent: float


class Tally(Options):
    """A table of counts with percentages beside."""

    source: str
    total: int
    rows: list[TallyRow]
    groups: list[TallyRow] = Field([], description="Sums of some rows, as printed in the text.")


class Goodput(Options):
    """A long run's interruptions, and what was left of its time."""

    source: str
    gpus: int
    days: float
    planned: int
    unexpected: int
    printed_interruptions: int
    printed_effective: float = Field(description="Share of the time that was training; printed as the least.")


class PublishedFile(Options):
    """What a file of `published/` holds.

    Attributes:
        efficiencies: of the software of these runs, in place of the hardware's own.
    """

    models: dict[str, ModelOptions]
    runs: list[Run] = Field([])
    cards: list[Card] = Field([])
    tallies: list[Tally] = Field([])
    goodput: list[Goodput] = Field([])
    efficiencies: dict[str, Part] = Field({})


def published_files() -> list[PublishedFile]:
    folder = resources.files("herdsman.cluster").joinpath("published")
    files = sorted((path for path in folder.iterdir() if path.name.endswith(".toml")), key=lambda path: path.name)
    return [PublishedFile.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))) for path in files]
