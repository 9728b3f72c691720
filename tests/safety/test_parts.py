"""Rewordings stay together, XSTest stays out, and nothing depends on luck."""

from __future__ import annotations

from itertools import combinations

from herdsman.safety.guard import CATEGORIES, SAFE
from herdsman.safety.parts import ALIKE, divide, groups
from herdsman.safety.prompts import LabelledPrompt
from herdsman.safety.text import normalised
from tests.safety.conftest import Material


def overlap(one: str, other: str) -> float:
    """Jaccard similarity of the sets of words."""
    words = set(normalised(one).split()), set(normalised(other).split())
    return len(words[0] & words[1]) / (len(words[0] | words[1]) or 1)


def naive_groups(texts: list[str]) -> list[int]:
    """Connected components by comparing all pairs, again and again until nothing changes."""
    first = list(range(len(texts)))
    edges = [(a, b) for a, b in combinations(range(len(texts)), 2) if overlap(texts[a], texts[b]) >= ALIKE]
    changed = True
    while changed:
        before = list(first)
        for a, b in edges:
            first[a] = first[b] = min(first[a], first[b])
        changed = before != first
    return first


def test_groups_equal_the_comparison_of_all_pairs(material: Material) -> None:
    texts = [prompt.text for prompt in material.prompts if prompt.source == "banking77"][:500]
    texts += ["", "!!!", "one", "One.", "one two three", "three two one four five", "four five one two six"]
    found = groups(texts)
    assert found == naive_groups(texts)
    assert len(set(found)) < 0.95 * len(texts)


def test_rewordings_of_a_prompt_are_in_one_part(material: Material) -> None:
    """Harmful prompts above all: their collections hold up to twenty rewordings of each."""
    train = [set(normalised(prompt.text).split()) for prompt in material.parts.train if prompt.label != SAFE]
    for prompt in [*material.parts.test, *material.parts.threshold]:
        if prompt.label != SAFE:
            words = set(normalised(prompt.text).split())
            assert max(len(words & other) / len(words | other) for other in train) < ALIKE


def test_no_part_holds_a_prompt_of_xstest_or_a_rewording(material: Material) -> None:
    kept = [*material.parts.train[::5], *material.parts.threshold, *material.parts.test]
    kept += [prompt for prompt in material.parts.train if prompt.label != SAFE]
    asked = [set(normalised(prompt.text).split()) for prompt in material.xstest]
    for prompt in kept:
        words = set(normalised(prompt.text).split())
        assert not words or max(len(words & other) / len(words | other) for other in asked) < ALIKE
    assert 0 < len(material.prompts) - material.parts.size < 100


def test_a_prompt_of_xstest_in_the_material_is_left_out(material: Material) -> None:
    stolen = [LabelledPrompt(prompt.text.upper() + "!", "malicious_uses", "stolen") for prompt in material.xstest]
    parts = divide([*stolen, LabelledPrompt("What a nice day it is", SAFE, "own")], [p.text for p in material.xstest])
    assert parts.size == 1


def test_every_part_has_every_category_in_like_shares(material: Material) -> None:
    parts = material.parts
    for label in (SAFE, *CATEGORIES):
        counts = [sum(prompt.label == label for prompt in part) for part in (parts.train, parts.threshold, parts.test)]
        assert min(counts) > 0
        assert 0.65 < counts[0] / sum(counts) < 0.92
