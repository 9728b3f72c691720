"""Two kinds of models, of several seeds each, compared on what all of them were measured on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdsman.evaluation.tables import ALL
from herdsman.scaling.dataset import NEW
from herdsman.scaling.measure import read_measured
from herdsman.scaling.paired import Change, paired_change
from herdsman.scaling.scores import nats_per_character

Places = Sequence[Sequence[Path]]
"""[2][seeds] folders of measurements (see `measure`): without and with what is to be judged."""


def changes(places: Places, benchmarks: Sequence[str]) -> list[dict[str, Any]]:
    """What changes: bits per byte of each category and of all (a new data set's own not among them), then of each
    benchmark the right answers' nats per character and the accuracy."""
    rows = [[read_measured(place) for place in kind] for kind in places]
    nats = np.array([[[row["nats"] for row in one] for one in kind] for kind in rows])
    bits = np.array([row["bytes"] for row in rows[0][0]]) * np.log(2)  # nats over these are bits per byte
    kinds = np.array([row["category"] for row in rows[0][0]])
    found = []
    for category in [*dict.fromkeys(kinds.tolist()), ALL]:
        mine = kinds != NEW if category == ALL else kinds == category
        if mine.sum() > 1:
            found.append(_entry(category, "bits_per_byte", nats[:, :, mine], bits[mine]))
    for name in benchmarks:
        answers = [[read_measured(place, name) for place in kind] for kind in places]
        surprise = [[[nats_per_character(row) for row in one] for one in kind] for kind in answers]
        right = [[[row["acc_norm"] for row in one] for one in kind] for kind in answers]
        ones = np.ones(len(answers[0][0]))
        found.append(_entry(name, "nats_per_character", np.array(surprise), ones))
        found.append(_entry(name, "accuracy", np.array(right, float), ones))
    return found


def weighted_change(places: Places, weights: Mapping[str, float]) -> Change:
    """Change of the weighted mean of the categories' bits per byte."""
    rows = [[read_measured(place) for place in kind] for kind in places]
    some = rows[0][0]
    bytes_of: dict[str, int] = {}
    for row in some:
        bytes_of[row["category"]] = bytes_of.get(row["category"], 0) + row["bytes"]
    whole = sum(weights.get(name, 0.0) for name in bytes_of)
    # Each document's part of the weighted mean; all together have size 1.
    scale = np.array([weights.get(r["category"], 0.0) / whole / bytes_of[r["category"]] / np.log(2) for r in some])
    nats = np.array([[[row["nats"] for row in one] for one in kind] for kind in rows]) * scale
    return paired_change(nats[0], nats[1], np.full(len(some), 1 / len(some)))


def _entry(what: str, measure: str, values: NDArray[np.float64], sizes: NDArray[np.float64]) -> dict[str, Any]:
    """
    Args:
        values: [2, seeds, items]
        sizes: [items]
    """
    before, after = values.sum(-1).mean(-1) / sizes.sum()
    change = paired_change(values[0], values[1], sizes)
    told = asdict(change) | {"clear": change.clear}
    return {
        "what": what, "measure": measure, "items": len(sizes), "before": float(before), "after": float(after),
        "change": told,
    }  # fmt: skip
