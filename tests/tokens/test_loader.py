"""Order is a pure function of seed and index; each token once an epoch; shares held; the way back to documents."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from herdsman.errors import InputError, RecipeError
from herdsman.tokens.interleave import WHOLE, Interleaving, whole_shares
from herdsman.tokens.loader import TokenStreams, document_numbers
from herdsman.tokens.shards import Stream
from herdsman.tokens.shuffle import Permutation
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.workspace import Workspace
from tests.tokens.material import real_documents

MIX = {"general.rest": 0.5, "code.rest": 0.3, "code.best": 0.2}
BOS = 10**9


def numbered(**lengths: int) -> TokenStreams:
    """Streams in which each token is its position, and each document one token."""
    made = {
        name: Stream(name, np.arange(length), np.arange(length + 1), np.zeros((length, 16), np.uint8))
        for name, length in lengths.items()
    }
    return TokenStreams(made, BOS, {})


def test_any_batch_size_and_any_restart_give_the_same_sequences(herd: Workspace, streams: TokenStreams) -> None:
    straight, documents = streams.batch(3, MIX, 0, 60, 128)
    assert straight.shape == documents.shape == (60, 129)
    for size in (1, 7, 60):
        reopened = TokenStreams.open(herd.folder("tokens"))
        parts = [reopened.batch(3, MIX, start, min(size, 60 - start), 128) for start in range(0, 60, size)]
        assert (np.concatenate([tokens for tokens, _ in parts]) == straight).all()
        assert (np.concatenate([numbers for _, numbers in parts]) == documents).all()
    indices = list(range(60))
    random.Random(0).shuffle(indices)
    for index in indices:
        tokens, _, name = streams.sequence(3, dict(reversed(MIX.items())), index, 128)
        assert (tokens == straight[index]).all()
        assert name == streams.locate(3, MIX, index, 128).stream


def test_another_seed_gives_another_order_of_the_same_sequences() -> None:
    made = numbered(a=6400)
    orders = [[made.locate(seed, {"a": 1}, index, 64).start for index in range(100)] for seed in (1, 2)]
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(0, 6400, 64))


def test_the_order_of_two_epochs_differs() -> None:
    made = numbered(a=6400)
    first, second = ([made.locate(1, {"a": 1}, 100 * epoch + i, 64).start for i in range(100)] for epoch in (0, 1))
    assert first != second
    assert sorted(first) == sorted(second)
    assert [made.locate(1, {"a": 1}, index, 64).epoch for index in (0, 99, 100, 199, 200)] == [0, 0, 1, 1, 2]


@pytest.mark.parametrize(("tokens", "length"), [(640, 64), (1000, 64), (127, 64), (64, 64), (65, 64), (10, 64), (1, 3)])
def test_every_token_is_trained_once_an_epoch(tokens: int, length: int) -> None:
    """Within an epoch no token comes twice; over epochs what one left out comes in the next."""
    made = numbered(a=tokens)
    chunks = max(1, tokens // length)
    seen = np.zeros(tokens, int)
    targets = np.zeros(tokens, int)
    for epoch in range(12):
        of_epoch = Counter()
        for index in range(epoch * chunks, (epoch + 1) * chunks):
            sequence, _, _ = made.sequence(5, {"a": 1.0}, index, length)
            of_epoch.update(sequence[:-1].tolist())
            np.add.at(seen, sequence[:-1], 1)
            np.add.at(targets, sequence[1:], 1)
        if tokens >= length:
            assert set(of_epoch.values()) == {1}
            assert len(of_epoch) == chunks * length
        assert seen.max() - seen.min() <= 1
        assert targets.max() - targets.min() <= 1
    assert made.taken({"a": 1.0}, 12 * chunks, length)["a"].epochs == pytest.approx(seen.mean())


def test_sequences_are_runs_of_the_stream() -> None:
    made = numbered(a=1000)
    for index in range(50):
        tokens, _, _ = made.sequence(1, {"a": 1}, index, 64)
        assert all(after == (before + 1) % 1000 for before, after in pairwise(tokens.tolist()))


def test_streams_are_read_independently_of_the_mix() -> None:
    """The n-th sequence of a stream is the same one, whatever the others' shares are."""
    made = numbered(a=6400, b=6400)
    orders = []
    for share in (0.25, 0.5, 1.0):
        places = (made.locate(1, {"a": share, "b": 1 - share}, index, 64) for index in range(200))
        orders.append([place.start for place in places if place.stream == "a"])
    assert orders[0] == orders[1][: len(orders[0])]
    assert orders[1] == orders[2][: len(orders[1])]


def test_a_token_leads_to_its_document(herd: Workspace, streams: TokenStreams) -> None:
    tokenizer = Tokenizer.load(herd.folder("tokenizer"))
    texts = {row["id"]: row["text"] for row in real_documents()}
    met = set()
    for index in range(0, 400, 3):
        window = streams.locate(1, MIX, index, 128)
        tokens, numbers, name = streams.sequence(1, MIX, index, 128)
        owners = [streams.provenance(name, window.start + place) for place in range(129)]
        assert [before != after for before, after in pairwise(owners)] == (np.diff(numbers) > 0).tolist()
        for number in range(numbers[-1] + 1):
            ids = tokens[numbers == number].tolist()
            owner = owners[int(np.argmax(numbers == number))]
            text = tokenizer.decode_bytes([id for id in ids if id < tokenizer.bpe_tokens])
            assert text in texts[owner].encode()
            met.add(owner)
    assert len(met) > 20
    length = len(streams.streams["code.best"].tokens)
    assert streams.provenance("code.best", length + 3) == streams.provenance("code.best", 3)


def test_documents_are_numbered_from_each_begin_of_text() -> None:
    assert document_numbers(np.array([7, 0, 5, 0, 0, 6]), 0).tolist() == [0, 1, 1, 2, 3, 3]
    assert document_numbers(np.array([0, 5, 0]), 0).tolist() == [0, 0, 1]
    assert document_numbers(np.array([7, 7]), 0).tolist() == [0, 0]


def test_an_unknown_stream_is_one_sentence(streams: TokenStreams) -> None:
    with pytest.raises(InputError, match=r"there is no stream poetry\.best with tokens; choose from code\.best, "):
        streams.sequence(1, {"poetry.best": 0.5, "code.best": 0.5}, 0, 8)
    with pytest.raises(InputError, match="no stream"):
        streams.provenance("poetry.best", 0)
    streams.sequence(1, {"poetry.best": 0, "code.best": 1}, 0, 8)


# Shares.


def random_mix(rng: random.Random) -> dict[str, float]:
    weights = [rng.random() ** rng.choice([1, 4, 12]) for _ in range(rng.randrange(1, 9))]
    return {f"stream {number}": weight / sum(weights) for number, weight in enumerate(weights)}


@pytest.mark.parametrize("seed", range(6))
def test_every_stream_has_its_share_within_one_sequence(seed: int) -> None:
    mix = random_mix(random.Random(seed))
    schedule = Interleaving(mix)
    shares = np.array([weight / schedule.period for weight in schedule.weights])
    assert {name: pytest.approx(share, abs=1 / WHOLE) for name, share in mix.items()} == dict(
        zip(schedule.names, shares, strict=True)
    )
    counts = dict.fromkeys(schedule.names, 0)
    sequences = min(3 * schedule.period, 20_000)
    errors = np.zeros(len(shares))
    for index in range(sequences):
        name, turn = schedule.place(index)
        assert turn == counts[name]
        counts[name] += 1
        errors = np.maximum(errors, np.abs(np.array(list(counts.values())) - (index + 1) * shares))
        if index % 997 == 0:
            assert schedule.counts(index + 1) == counts
    assert errors.max() < 1


def test_a_schedule_begins_again_after_its_period() -> None:
    schedule = Interleaving({"a": 0.5, "b": 0.3, "c": 0.2})
    assert (schedule.weights, schedule.period) == ([5, 3, 2], 10)
    for index in range(30):
        name, turn = schedule.place(index)
        later = schedule.place(index + 10 * 10**9)
        assert later == (name, turn + 10**9 * schedule.weights[schedule.names.index(name)])
    assert schedule.counts(10**12) == {"a": 5 * 10**11, "b": 3 * 10**11, "c": 2 * 10**11}
    with pytest.raises(IndexError):
        schedule.place(-1)


def test_shares_become_whole_numbers_that_sum_up() -> None:
    assert whole_shares({"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}) == {"a": 33_334, "b": 33_333, "c": 33_333}
    assert whole_shares({"a": 1 - 1e-9, "b": 1e-9, "c": 0}) == {"a": 99_999, "b": 1}
    assert whole_shares({"a": 0.5002, "b": 0.5002}) == {"a": 50_000, "b": 50_000}
    for seed in range(200):
        mix = random_mix(random.Random(seed))
        whole = whole_shares(mix)
        assert sum(whole.values()) == WHOLE
        assert all(abs(whole[name] - share * WHOLE) <= max(1, len(mix) - 1) for name, share in mix.items())


@pytest.mark.parametrize(
    "mix", [{}, {"a": 0.9}, {"a": 1.2}, {"a": 1.5, "b": -0.5}, {"a": float("nan")}, {"a": float("inf")}, {"a": 0.0}]
)
def test_shares_that_are_none_are_one_sentence(mix: dict[str, float]) -> None:
    with pytest.raises(RecipeError, match=r"^mix: "):
        numbered(a=10, b=10).sequence(1, mix, 0, 2)


# The shuffle.


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 16, 17, 63, 64, 65, 1000, 4097])
def test_a_permutation_holds_every_item_once(size: int) -> None:
    for key in range(3):
        permutation = Permutation(size, key)
        assert sorted(permutation[item] for item in range(size)) == list(range(size))
    with pytest.raises(IndexError):
        permutation[size]


def test_a_permutation_looks_random() -> None:
    """Over keys, each of the 24 orders of 4 items comes about equally often. And neighbours go their own ways."""
    keys = 6000
    permutations = (Permutation(4, key) for key in range(keys))
    orders = Counter(tuple(permutation[item] for item in range(4)) for permutation in permutations)
    assert len(orders) == 24
    chi_square = sum((count - keys / 24) ** 2 / (keys / 24) for count in orders.values())
    assert chi_square < 56  # 23 degrees of freedom: one in ten thousand
    order = np.array([Permutation(5000, "key")[item] for item in range(5000)])
    assert abs(np.corrcoef(order[:-1], order[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05


def test_a_permutation_is_the_same_on_every_machine() -> None:
    assert [Permutation(10, 1, "general.best", 0)[item] for item in range(10)] == [3, 6, 7, 1, 2, 9, 5, 8, 4, 0]
    assert Permutation(10**15, 1)[10**14] < 10**15
