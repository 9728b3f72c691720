"""Thresholds of computing that laws set, as data with source and date, and where a plan stands to them."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from typing import Any, Literal

from herdsman.cluster.figure import Figure

Measure = Literal["training_flops", "cluster_flops_per_second"]


@dataclass(frozen=True)
class Limit:
    """One threshold.

    Attributes:
        since, ended: in force from and until; `ended` is None where it stands.
        checked: when this entry was last compared with its source.
    """

    name: str
    measure: Measure
    value: float
    since: date
    source: str
    url: str
    checked: date
    ended: date | None = None


@dataclass(frozen=True)
class Standing:
    """What a plan reaches of a limit: `share` of it; above it, below it, or not to be told within the plan's range."""

    limit: Limit
    share: Figure

    @property
    def verdict(self) -> Literal["above", "below", "unsure"]:
        return "above" if self.share.low > 1 else "below" if self.share.high <= 1 else "unsure"

    def as_json(self) -> dict[str, Any]:
        dates = {name: str(value) for name, value in vars(self.limit).items() if isinstance(value, date)}
        return vars(self.limit) | dates | {"share": self.share.as_json(), "verdict": self.verdict}


def load_limits() -> list[Limit]:
    """All limits, those that have ended too."""
    text = (files("herdsman.cluster") / "limits.toml").read_text(encoding="utf-8")
    return [Limit(**row) for row in tomllib.loads(text)["limit"]]


def standings(reached: Mapping[Measure, Figure]) -> list[Standing]:
    """Where a plan stands.

    Args:
        reached: what it comes to, by measure.
    """
    return [
        Standing(limit, reached[limit.measure].over(limit.value, "x", limit.source))
        for limit in load_limits()
        if limit.measure in reached
    ]
