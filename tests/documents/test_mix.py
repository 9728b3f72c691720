"""The mix: the paper's shares where there is enough, and what becomes of them where there is not."""

from __future__ import annotations

import pytest

from herdsman.documents.mix import make_mix, share_out
from herdsman.documents.options import PAPER_MIX, DocumentsOptions

ENOUGH = {
    f"{category}.{tier}": size for category in PAPER_MIX for tier, size in (("best", 4_000_000), ("rest", 12_000_000))
}


def by_category(shares: dict[str, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for stream, share in shares.items():
        sums[stream.split(".")[0]] = sums.get(stream.split(".")[0], 0) + share
    return sums


def test_default_target_is_the_papers() -> None:
    assert DocumentsOptions().mix == {"general": 0.5, "reasoning": 0.25, "code": 0.17, "multilingual": 0.08}


def test_targets_are_met_where_there_is_enough() -> None:
    mix = make_mix(ENOUGH, PAPER_MIX, None, 4, 4)
    for name in ("pretrain", "anneal"):
        assert by_category(mix[name]) == pytest.approx(PAPER_MIX, abs=1e-5)
        assert sum(mix[name].values()) == pytest.approx(1, abs=1e-9)
    assert mix["pretrain"]["code.best"] == pytest.approx(0.17 * 0.25)  # as its tokens
    assert mix["anneal"]["code.best"] == pytest.approx(0.17 * 16 / 28, abs=1e-6)  # 4 times 4 against 12
    row = next(row for row in mix["ledger"] if row["category"] == "general")
    assert row == {"category": "general", "target": 0.5, "available": 4_000_000, "given": 0.5, "epochs": 2.0}


def test_scarce_categories_are_repeated_up_to_the_limit_and_the_others_take_over() -> None:
    mix = make_mix({"general.rest": 9_000_000, "reasoning.rest": 100_000, "code.rest": 900_000}, PAPER_MIX, None, 4, 4)
    assert mix["pretrain"]["reasoning.rest"] == pytest.approx(4 * 0.01)
    assert mix["pretrain"]["general.rest"] / mix["pretrain"]["code.rest"] == pytest.approx(0.5 / 0.17, rel=1e-4)
    rows = {row["category"]: row for row in mix["ledger"]}
    assert rows["reasoning"]["epochs"] == 4
    assert rows["multilingual"] == {
        "category": "multilingual", "target": 0.08, "available": 0, "given": 0.0, "epochs": 0.0,
    }  # fmt: skip
    assert "multilingual" not in by_category(mix["pretrain"])


def test_fewer_planned_tokens_make_scarce_categories_last() -> None:
    streams = {"general.rest": 9_000_000, "reasoning.rest": 1_000_000}
    assert make_mix(streams, PAPER_MIX, 300_000, 4, 4)["pretrain"]["reasoning.rest"] == pytest.approx(1 / 3, abs=1e-5)


def test_more_planned_tokens_than_the_epochs_give_repeat_all_alike() -> None:
    mix = make_mix({"general.rest": 3_000_000, "code.rest": 1_000_000}, PAPER_MIX, 100_000_000, 4, 4)
    assert mix["pretrain"] == {"general.rest": 0.75, "code.rest": 0.25}
    assert {row["epochs"] for row in mix["ledger"] if row["available"]} == {100.0}


def test_streams_without_training_documents_have_no_part() -> None:
    mix = make_mix({"general.best": 0, "general.rest": 8}, PAPER_MIX, None, 4, 4)
    assert mix["pretrain"] == mix["anneal"] == {"general.rest": 1.0}


def test_what_nobody_wants_is_used_only_when_the_wanted_runs_out() -> None:
    assert share_out({"code": 1.0}, {"code": 2.0, "general": 2.0}) == {"code": 1.0, "general": 0.0}
    assert share_out({"code": 1.0}, {"code": 0.4, "general": 2.0}) == pytest.approx({"code": 0.4, "general": 0.6})


@pytest.mark.parametrize("mix", [{"general": 0.5}, {"general": 1.5, "code": -0.5}, {"poetry": 1.0}])
def test_a_target_that_is_no_mix_is_refused(mix: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shares|category"):
        DocumentsOptions(mix=mix)
