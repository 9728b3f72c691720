"""Tasks about small whole numbers."""

from __future__ import annotations

import random

from herdsman.synthesis.families import Facts, Family
from herdsman.synthesis.material import Material

LIMITS = {1: 10, 2: 30, 3: 100}


def _pair(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"a": rng.randrange(LIMITS[difficulty]), "b": rng.randrange(LIMITS[difficulty])}


def _different_pair(rng: random.Random, material: Material, difficulty: int) -> Facts:
    a, b = rng.sample(range(10 * LIMITS[difficulty]), 2)
    return {"a": a, "b": b}


def _one(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"a": rng.randrange(10 * LIMITS[difficulty])}


def _several(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"items": rng.sample(range(LIMITS[difficulty]), 2 + difficulty)}


def _listed(facts: Facts) -> Facts:
    return {"items": ", ".join(map(str, facts["items"]))}


def _unordered(facts: Facts) -> list[int]:
    return sorted((facts["a"], facts["b"]))


FAMILIES = (
    Family(
        "sum",
        _pair,
        ("What is {a} + {b}?", "Add {a} and {b}."),
        lambda f: str(f["a"] + f["b"]),
        content=_unordered,
    ),
    Family(
        "larger",
        _different_pair,
        ("Which is larger, {a} or {b}?", "Name the larger number: {a} or {b}"),
        lambda f: str(max(f["a"], f["b"])),
        content=_unordered,
    ),
    Family(
        "next",
        _one,
        ("What number comes after {a}?", "Count on from {a}."),
        lambda f: str(f["a"] + 1),
        least_difficulty=2,
    ),
    Family(
        "sort",
        _several,
        ("Sort these numbers: {items}", "Put in order: {items}"),
        lambda f: ", ".join(map(str, sorted(f["items"]))),
        shown=_listed,
        content=lambda f: sorted(f["items"]),
        least_difficulty=2,
    ),
)
