"""The mix: the paper's shares where there is enough, and what becomes of them where there is not."""

from __future__ import annotations

import random
from typing import Any

import pytest

from herdsman.documents.mix import make_mix, share_out, stream_of
from herdsman.documents.mix_options import CATEGORIES, PAPER_MIX, MixOptions
from herdsman.documents.quality.topics import TOPICS

Training = dict[tuple[str, str, str], tuple[int, int]]
ENOUGH: Training = {
    (category, "", tier): (count, size)
    for category in PAPER_MIX
    for tier, count, size in (("best", 40, 4_000_000), ("rest", 120, 12_000_000))
}
SCARCE: Training = {
    ("general", "", "rest"): (90, 9_000_000),
    ("reasoning", "", "rest"): (1, 100_000),
    ("code", "", "rest"): (9, 900_000),
}


def mixed(training: Training, **options: Any) -> dict[str, Any]:
    return make_mix(training, MixOptions(**options))


def by_category(shares: dict[str, float]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for stream, share in shares.items():
        sums[stream.split(".")[0]] = sums.get(stream.split(".")[0], 0) + share
    return sums


def test_default_target_is_the_papers() -> None:
    assert MixOptions().shares == {"general": 0.5, "reasoning": 0.25, "code": 0.17, "multilingual": 0.08}


def test_targets_are_met_where_there_is_enough() -> None:
    mix = mixed(ENOUGH)
    for name in ("pretrain", "anneal"):
        assert by_category(mix[name]) == pytest.approx(PAPER_MIX, abs=1e-5)
        assert sum(mix[name].values()) == pytest.approx(1, abs=1e-9)
    assert mix["pretrain"]["code.best"] == pytest.approx(0.17 * 0.25)  # as its tokens
    assert mix["anneal"]["code.best"] == pytest.approx(0.17 * 16 / 28, abs=1e-6)  # 4 times 4 against 12
    row = next(row for row in mix["ledger"] if row["category"] == "general")
    assert row == {
        "category": "general", "target": 0.5, "documents": 160, "available": 4_000_000, "given": 0.5, "epochs": 2.0,
        "read": 8_000_000, "repeated": 4_000_000, "cut": 0,
    }  # fmt: skip
    row = next(row for row in mix["ledger"] if row["category"] == "multilingual")
    assert (row["epochs"], row["read"], row["repeated"], row["cut"]) == (0.32, 1_280_000, 0, 2_720_000)


def test_scarce_categories_are_repeated_up_to_the_limit_and_the_others_take_over() -> None:
    mix = mixed(SCARCE)
    assert mix["pretrain"]["reasoning.rest"] == pytest.approx(4 * 0.01)
    assert mix["pretrain"]["general.rest"] / mix["pretrain"]["code.rest"] == pytest.approx(0.5 / 0.17, rel=1e-4)
    rows = {row["category"]: row for row in mix["ledger"]}
    assert rows["reasoning"]["epochs"] == 4
    assert rows["multilingual"]["available"] == rows["multilingual"]["given"] == rows["multilingual"]["epochs"] == 0
    assert "multilingual" not in by_category(mix["pretrain"])


def test_planned_tokens_decide_how_long_scarce_categories_last() -> None:
    training: Training = {("general", "", "rest"): (9, 9_000_000), ("reasoning", "", "rest"): (1, 1_000_000)}
    assert mixed(training, tokens=300_000)["pretrain"]["reasoning.rest"] == pytest.approx(1 / 3, abs=1e-5)
    mix = mixed(training, tokens=100_000_000)  # more than the epochs give: all are repeated alike
    assert mix["pretrain"] == {"general.rest": 0.9, "reasoning.rest": 0.1}
    assert {row["epochs"] for row in mix["ledger"] if row["available"]} == {40.0}


def test_streams_without_training_documents_have_no_part() -> None:
    mix = mixed({("general", "", "best"): (1, 0), ("general", "sport", "rest"): (1, 8)})
    assert mix["pretrain"] == mix["anneal"] == {"general.rest": 1.0}


def test_annealing_may_have_a_mix_of_its_own() -> None:
    shares = {"code": 0.7, "reasoning": 0.3}
    mix = mixed(ENOUGH, anneal_shares=shares, anneal_best_weight=1, anneal_tokens=1_000_000)
    assert by_category(mix["anneal"]) == pytest.approx(shares, abs=1e-5)
    assert by_category(mix["pretrain"]) == pytest.approx(PAPER_MIX, abs=1e-5)
    assert by_category(mixed(SCARCE, anneal_shares=shares)["anneal"])["reasoning"] == pytest.approx(0.04)
    assert by_category(mixed(SCARCE, anneal_shares=shares, anneal_tokens=10_000)["anneal"]) == pytest.approx(shares)


def test_topics_are_weighed_within_their_category() -> None:
    training: Training = {
        ("general", "sport", "rest"): (4, 400_000), ("general", "health", "rest"): (4, 400_000),
        ("general", "", "rest"): (2, 200_000), ("code", "sport", "rest"): (10, 1_000_000),
    }  # fmt: skip
    mix = mixed(training, shares={"general": 0.5, "code": 0.5}, topic_weights={"sport": 0.5, "health": 2})
    assert mix["topics"] == ["health", "sport"]
    expected = {"general.health.rest": 0.5 * 8 / 12, "general.sport.rest": 0.5 * 2 / 12, "general.rest": 0.5 * 2 / 12}
    assert mix["pretrain"] == pytest.approx(expected | {"code.sport.rest": 0.5}, abs=1e-5)
    rows = {(row["category"], row["topic"]): row for row in mix["topic_ledger"]}
    assert rows["general", "sport"]["weight"] == 0.5
    assert rows["general", "health"]["epochs"] == pytest.approx(4 * rows["general", "sport"]["epochs"], rel=1e-2)
    left_out = mixed(training, topic_weights={"sport": 0})
    assert "code.sport.rest" not in left_out["pretrain"]
    row = next(row for row in left_out["topic_ledger"] if (row["category"], row["topic"]) == ("general", "sport"))
    assert (row["read"], row["cut"], row["documents"]) == (0, 100_000, 4)
    capped = mixed(training, topic_weights={"health": 1000}, max_epochs=2)
    assert max(row["epochs"] for row in capped["topic_ledger"]) <= 2


def test_weights_of_nothing_but_what_is_there_change_nothing() -> None:
    training: Training = {("general", "sport", "rest"): (4, 400)}
    assert mixed(training, topic_weights={"sport": 0})["pretrain"] == {"general.sport.rest": 1.0}


def test_only_topics_apart_have_streams_of_their_own() -> None:
    assert stream_of("code", "sport", "best", ["sport"]) == "code.sport.best"
    assert stream_of("code", "health", "best", ["sport"]) == stream_of("code", "", "best", ["sport"]) == "code.best"


def filled(targets: dict[str, float], limits: dict[str, float]) -> dict[str, float]:
    """Water-filling computed another way: the level at which the shares sum to 1 is found by halving."""
    low, high = 0.0, 1e9
    for _ in range(300):
        level = (low + high) / 2
        if sum(min(limits[name], level * targets.get(name, 0)) for name in limits) < 1:
            low = level
        else:
            high = level
    return {name: min(limits[name], high * targets.get(name, 0)) for name in limits}


@pytest.mark.parametrize("seed", range(60))
def test_water_filling_is_what_another_computation_gives(seed: int) -> None:
    rng = random.Random(seed)
    names = "abcdefg"[: rng.randint(1, 7)]
    targets = {name: rng.random() ** 3 for name in names}
    limits = {name: rng.random() ** 2 * 3 for name in names}
    limits[rng.choice(names)] += 1
    given = share_out(targets, limits)
    assert sum(given.values()) == pytest.approx(1)
    assert given == pytest.approx(filled(targets, limits), abs=1e-9)


@pytest.mark.parametrize("seed", range(60))
def test_any_mix_sums_to_one_keeps_its_caps_and_its_ledger_adds_up(seed: int) -> None:
    rng = random.Random(seed)
    topics = ("", *rng.sample(TOPICS, 4))
    training: Training = {
        (category, topic, tier): (rng.randint(1, 99), rng.randint(10, 10 ** rng.randint(3, 8)))
        for category in CATEGORIES for topic in topics for tier in ("best", "rest") if rng.random() < 0.7
    } or {("code", "", "best"): (1, 9)}  # fmt: skip
    weights = {topic: rng.choice([0.0, 0.3, 1.0, 2.5]) for topic in topics[1:] if rng.random() < 0.6}
    options = MixOptions(
        topic_weights=weights, max_epochs=rng.choice([0.5, 1, 4]), anneal_best_weight=rng.choice([1, 4]),
        tokens=rng.choice([None, rng.randint(100, 10**8)]), anneal_shares=rng.choice([None, {"code": 1.0}]),
    )  # fmt: skip
    mix = make_mix(training, options)
    for name in ("pretrain", "anneal"):
        assert sum(mix[name].values()) == pytest.approx(1, abs=1e-9)
        assert set(mix[name]) <= {stream_of(*key, mix["topics"]) for key in training}
    available = sum(size for _, size in training.values()) / 4
    planned = options.tokens or available
    usable = sum(size for (_, topic, _), (_, size) in training.items() if weights.get(topic, 1)) / 4
    for rows in (mix["ledger"], mix["topic_ledger"]):
        assert sum(row["documents"] for row in rows) == sum(count for count, _ in training.values())
        assert sum(row["available"] for row in rows) == pytest.approx(available, abs=len(rows))
        assert sum(row["read"] for row in rows) == pytest.approx(planned, abs=len(rows))
        for row in rows:
            assert row["available"] + row["repeated"] - row["cut"] == pytest.approx(row["read"], abs=2)
            if usable and usable * options.max_epochs > planned:
                assert row["read"] <= options.max_epochs * row["available"] + 2 + options.max_epochs
    for row in mix["topic_ledger"]:
        assert (row["read"] == 0) or row["weight"] > 0 or not usable


@pytest.mark.parametrize("shares", [{"general": 0.5}, {"general": 1.5, "code": -0.5}, {"poetry": 1.0}])
@pytest.mark.parametrize("key", ["shares", "anneal_shares"])
def test_a_target_that_is_no_mix_is_refused(key: str, shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"shares|category"):
        MixOptions(**{key: shares})  # type: ignore[arg-type]


@pytest.mark.parametrize("weights", [{"poetry": 1.0}, {"sport": -1.0}, {"sport": float("inf")}])
def test_a_weight_that_is_none_is_refused(weights: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"topic|weights"):
        MixOptions(topic_weights=weights)
