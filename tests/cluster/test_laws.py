"""Scaling laws: the paper's extrapolation, and the cheapest model of a loss against a search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from herdsman.cluster.laws import CHINCHILLA, LLAMA3, read_law
from herdsman.errors import InputError


def test_the_papers_extrapolation() -> None:
    tokens = LLAMA3.tokens(3.8e25)
    assert tokens.value == pytest.approx(16.29e12, rel=0.001)
    assert tokens.value == pytest.approx(16.55e12, rel=0.02)
    assert tokens.low == pytest.approx(10.46e12, rel=0.001), "what the rounded constants of the text give"
    assert tokens.holds(16.55e12)


def test_best_tokens_have_the_lowest_loss_of_their_flops() -> None:
    for flops in (1e18, 1e22, 1e26):
        best = CHINCHILLA.best_tokens(flops)
        losses = [CHINCHILLA.loss(flops / (6 * best * share), best * share) for share in (0.5, 0.9, 1.0, 1.1, 2.0)]
        assert min(losses) == losses[2]


def test_least_flops_reach_the_loss_and_are_least() -> None:
    parameters, tokens = 8.03e9, 15e12
    loss = CHINCHILLA.loss(parameters, tokens)
    least = CHINCHILLA.least_flops(loss)
    assert least < 6 * parameters * tokens
    best = CHINCHILLA.best_tokens(least)
    assert CHINCHILLA.loss(least / (6 * best), best) == pytest.approx(loss, rel=1e-9)
    cheaper = 0.99 * least
    sizes = [cheaper ** (share / 100) for share in range(30, 60)]
    assert min(CHINCHILLA.loss(size, cheaper / (6 * size)) for size in sizes) > loss


def test_a_law_of_ones_own(tmp_path: Path) -> None:
    ends = {"low_coefficient": 0.2, "high_coefficient": 0.4, "low_exponent": 0.52, "high_exponent": 0.56}
    (tmp_path / "law.json").write_text(json.dumps({"tokens": {"coefficient": 0.3, "exponent": 0.54} | ends}))
    tokens = read_law(tmp_path / "law.json").tokens(1e20)
    assert tokens.value == pytest.approx(0.3 * 1e20**0.54)
    assert tokens.low < tokens.value < tokens.high
    assert tokens.origin == "measured"
    assert read_law(tmp_path / "law.json").lowest_loss(1e20) is None
    loss = {"floor": 2.0, "scale": 1.0, "exponent": 0.5, "middle": 1e18}
    (tmp_path / "law.json").write_text(
        json.dumps({"tokens": {"coefficient": 0.3, "exponent": 0.54} | ends, "loss": loss})
    )
    assert read_law(tmp_path / "law.json").lowest_loss(1e20) == pytest.approx(2.1)


@pytest.mark.parametrize("text", ["", "[]", '{"tokens": {"coefficient": "much"}}'])
def test_what_is_no_law(tmp_path: Path, text: str) -> None:
    (tmp_path / "law.json").write_text(text)
    with pytest.raises(InputError, match="is not a scaling law"):
        read_law(tmp_path / "law.json")
