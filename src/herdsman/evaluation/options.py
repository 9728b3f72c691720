"""Options of the evaluation stage."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from herdsman.options import Options

BenchmarkName = Literal["arc_challenge", "openbookqa", "gsm8k"]


class EvaluationOptions(Options):
    """What is measured of a raised model, and on how much."""

    held_out_bytes: int = Field(
        4_000_000, ge=1_000, description="Bytes of held-out documents on which bits per byte are measured, at most."
    )
    benchmarks: tuple[BenchmarkName, ...] = Field(
        ("arc_challenge", "openbookqa", "gsm8k"), description="Public benchmarks to run, in this order."
    )
    examples: int = Field(
        1_000, ge=1, description="Questions taken from each benchmark, at most; the same ones in every run."
    )
    shots: int = Field(8, ge=0, le=8, description="Worked examples shown before each question that asks for free text.")
    max_new_tokens: int = Field(512, ge=1, description="Longest free-text answer, in tokens.")
