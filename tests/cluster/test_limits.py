"""Thresholds of computing, as data that is whole, and where models stand to them."""

from __future__ import annotations

from datetime import date

from herdsman.cluster.figure import Figure
from herdsman.cluster.limits import load_limits, standings


def test_every_limit_says_where_it_is_from() -> None:
    for limit in load_limits():
        assert limit.source
        assert limit.url.startswith("https://")
        assert limit.since <= (limit.ended or limit.since)
        assert date(2025, 1, 1) < limit.checked <= date.today()
    assert {limit.ended is None for limit in load_limits()} == {True, False}


def test_llama_3_405b_is_above_the_unions_and_below_californias() -> None:
    found = {s.limit.name: s for s in standings({"training_flops": Figure.exact(3.8e25, "FLOP")})}
    union = found["EU: systemic risk presumed"]
    assert (union.verdict, round(union.share.value, 1)) == ("above", 3.8)
    assert found["California: frontier model"].verdict == "below"
    assert all(s.limit.measure == "training_flops" for s in found.values())


def test_a_range_across_a_limit_is_unsure() -> None:
    found = standings({"training_flops": Figure(9e24, "FLOP", "derived", 8e24, 1.1e25)})
    assert [s.verdict for s in found if s.limit.value == 1e25] == ["unsure"]
