"""Options of the safety stage."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class SafetyOptions(Options):
    """What is asked of the model, and how strict its guard is."""

    prompts: int = Field(450, ge=2, description="XSTest prompts put to the model, at most; XSTest has 450.")
    max_new_tokens: int = Field(256, ge=1, description="Longest reply, in tokens.")
    false_positive_rate: float = Field(
        0.02, gt=0, lt=0.5, description="Share of everyday prompts, and of document passages, that the guard may block."
    )
