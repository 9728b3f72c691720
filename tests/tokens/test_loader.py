"""The token stream is a pure function of seed, segments and position; borders, shares, ledger and provenance."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from herdsman.errors import InputError, RecipeError
from herdsman.tokens.interleave import Interleaving
from herdsman.tokens.loader import TokenOrder
from herdsman.tokens.passes import Passes
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.turns import Segment
from herdsman.workspace import Workspace
from tests.tokens.made import BOS, SOURCES, all_tokens, make, owners, random_documents, token_at
from tests.tokens.material import real_documents

BLOCK = 64
MIX = {"a": 0.5, "b": 0.3, "c": 0.2}
OTHER = {"a": 0.1, "c": 0.6, "d": 0.3}
SEGMENTS = [Segment(MIX, 1920, 16), Segment(OTHER, 1280, 16), Segment(MIX, 6400, 16)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> TokenStreams:
    """Four streams in files of 1,000 tokens; a goes round more than five times in the run, d never."""
    rng = random.Random(0)
    lengths = {name: random_documents(rng, size) for name, size in zip("abcd", (1003, 2500, 1700, 5000), strict=True)}
    return make(tmp_path_factory.mktemp("made"), lengths, block_tokens=BLOCK)


def given_one_by_one(streams: TokenStreams, segments: Sequence[Segment]) -> Iterator[tuple[str, int]]:
    """Stream and count of the token at each position, by the definition: blocks in turn, each going on in its
    stream."""
    given: Counter[str] = Counter()
    for segment in segments:
        turns = Interleaving(segment.mix)
        for position in range(segment.tokens):
            name, _ = turns.place(position // streams.block_tokens)
            yield name, given[name]
            given[name] += 1


def ring(streams: TokenStreams, name: str, seed: int) -> Iterator[int]:
    """Positions of the endless stream, run by run."""
    passes = Passes(name, streams.streams[name].tokens, streams.block_tokens, seed)
    run = 0
    while True:
        for piece in passes.pieces(run * passes.run_tokens, passes.run_tokens):
            yield from range(piece.start, piece.start + piece.tokens)
        run += 1


def by_hand(streams: TokenStreams, segments: Sequence[Segment], seed: int) -> list[tuple[str, int]]:
    """Stream and place in the stream of every token of the run."""
    rings = {name: ring(streams, name, seed) for name in streams.streams}
    return [(name, next(rings[name])) for name, _ in given_one_by_one(streams, segments)]


def flat(streams: TokenStreams, places: Sequence[tuple[str, int]]) -> list[int]:
    tokens = {name: all_tokens(streams, name) for name in streams.streams}
    return [tokens[name][place] for name, place in places]


def test_the_token_stream_is_that_of_the_definition(made: TokenStreams) -> None:
    places = by_hand(made, SEGMENTS, 7)
    order = TokenOrder(made, 7, SEGMENTS)
    assert order.tokens == len(places) == 9600
    for length in (16, 64, 100, 240):
        rows = order.read(0, 9600 // length, length)
        assert rows.tokens[:, :-1].flatten().tolist() == flat(made, places)
        assert [order.names[number] for number in rows.streams.flatten()] == [name for name, _ in places]


@pytest.mark.parametrize("readers", [1, 2, 4])
@pytest.mark.parametrize("length", [16, 64, 128])
@pytest.mark.parametrize("batch", [256, 512, 1024])
def test_batch_length_and_readers_change_no_token(made: TokenStreams, readers: int, length: int, batch: int) -> None:
    """A run with 256 tokens a step, 32 a row and one reader goes on in another way in the middle of a segment."""
    order, position, steps = TokenOrder(made, 1, SEGMENTS), 0, []
    while position < 9600:
        later = position >= 2560
        rows = (batch if later else 256) // (length if later else 32)
        share = min(rows, (9600 - position) // (length if later else 32))
        size = length if later else 32
        count = readers if later else 1
        step = np.empty((share, size), np.int64)
        for reader in range(count):
            mine = len(range(reader, share, count))
            again = TokenOrder(TokenStreams.open(made.address), 1, SEGMENTS) if position % 4096 == 0 else order
            step[reader::count] = again.read(position + reader * size, mine, size, every=count).tokens[:, :-1]
        steps.append(step.flatten())
        position += step.size
    assert np.concatenate(steps).tolist() == order.read(0, 300, 32).tokens[:, :-1].flatten().tolist()


def test_a_longer_last_segment_changes_nothing_before(made: TokenStreams) -> None:
    short, long = (TokenOrder(made, 1, [*SEGMENTS[:2], Segment(MIX, tokens, 16)]) for tokens in (640, 6400))
    for field in ("tokens", "documents", "streams"):
        before, after = (getattr(order.read(0, 240, 16), field) for order in (short, long))
        assert (before == after).all()
    # Not even the last target, when another segment comes in between.
    between = TokenOrder(made, 1, [*SEGMENTS[:2], Segment(OTHER, 640, 16), Segment(MIX, 640, 16)])
    plain = TokenOrder(made, 1, SEGMENTS)
    assert (between.read(0, 200, 16).tokens == plain.read(0, 200, 16).tokens).all()
    for position, count in ((9600, 1), (9584, 2), (-16, 1)):
        with pytest.raises(IndexError):
            plain.read(position, count, 16)


def test_neighbours_with_one_mix_are_one_segment(made: TokenStreams) -> None:
    parts = [Segment(MIX, 96, 16), Segment(dict(reversed(MIX.items())), 1824, 48), *SEGMENTS[1:]]
    rows, same = (TokenOrder(made, 1, segments).read(0, 600, 16) for segments in (SEGMENTS, parts))
    assert (rows.tokens == same.tokens).all()


def test_shares_hold_and_streams_go_on_from_segment_to_segment(made: TokenStreams) -> None:
    order = TokenOrder(made, 1, SEGMENTS)
    counts: Counter[str] = Counter()
    for position, (name, at) in enumerate(given_one_by_one(made, SEGMENTS)):
        if position % 37 == 0:
            assert +Counter(order.turns.given(position)) == counts
        assert at == counts[name]
        counts[name] += 1
    assert order.turns.given(9600) == counts
    ends, expected = [0, 1920, 3200, 9600], Counter[str]()
    for segment, (first, last) in zip(SEGMENTS, pairwise(ends), strict=True):
        before, after = order.turns.given(first), order.turns.given(last)
        expected.update({name: round(share * segment.tokens) for name, share in segment.mix.items()})
        for name, share in segment.mix.items():
            assert abs(after[name] - before.get(name, 0) - share * (last - first)) < BLOCK


def test_targets_follow_in_the_stream_and_borders_are_borders(made: TokenStreams) -> None:
    order = TokenOrder(made, 1, SEGMENTS)
    owner = {name: owners(made, name) for name in made.streams}
    places = by_hand(made, SEGMENTS, 1)
    for length in (16, 64, 100):
        rows = order.read(0, 9600 // length, length)
        for row, (tokens, documents) in enumerate(zip(rows.tokens, rows.documents, strict=True)):
            inside = places[row * length : (row + 1) * length]
            borders = [False] + [
                not (before[0] == after[0] and before[1] + 1 == after[1] and tokens[column] != BOS)
                for column, (before, after) in enumerate(pairwise(inside), 1)
            ]
            assert documents[:-1].tolist() == np.cumsum(borders).tolist()
            for (name, place), number in zip(inside, documents, strict=False):
                first = next(p for p, n in zip(inside, documents, strict=False) if n == number)
                assert first[0] == name
                assert owner[name][first[1]] == owner[name][place]
            # The last target, where it counts, is the next token of its document.
            name, place = inside[-1]
            if documents[-1] == documents[-2]:
                assert tokens[-1] == token_at(made.numbers[name], place + 1)
    # And no target is lost where blocks hold whole sequences, but for the first tokens of documents.
    rows = order.read(0, 20, 64)
    trained = (rows.documents[:, 1:] == rows.documents[:, :-1]).sum()
    assert trained == (rows.tokens[:, 1:] != BOS).sum()


def test_every_token_comes_once_a_pass() -> None:
    """Within a pass none comes twice; at the end of one, none has come more than once more often than another."""
    for size in (640, 1000, 127, 128, 64, 4097):
        passes = Passes("a", size, 64, 5)
        seen = np.zeros(size, int)
        for epoch in range(9):
            before = seen.copy()
            for run in range(epoch * passes.runs, (epoch + 1) * passes.runs):
                for piece in passes.pieces(run * passes.run_tokens, passes.run_tokens):
                    seen[piece.start : piece.start + piece.tokens] += 1
            assert (seen - before).max() == 1
            assert seen.max() - seen.min() <= 1


def begins(passes: Passes, epoch: int) -> list[int]:
    first = epoch * passes.runs
    return [passes.pieces((first + run) * passes.run_tokens, 1)[0].start for run in range(passes.runs)]


def test_each_pass_has_its_order(monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [begins(Passes("a", 6400, 64, seed), epoch) for seed in (1, 2) for epoch in range(3)]
    assert len({tuple(order) for order in orders}) == 6
    assert all(sorted(order) == list(range(0, 6400, 64)) for order in orders)
    # A stream of very many blocks is cut into longer runs, and read from front to back at first.
    monkeypatch.setattr("herdsman.tokens.passes.MOST_RUNS", 30)
    large = Passes("a", 6400, 64, 1)
    assert (large.run_tokens, large.runs) == (256, 25)
    orders = [begins(large, epoch) for epoch in range(3)]
    assert orders[0] == list(range(0, 6400, 256))
    assert len({tuple(order) for order in orders}) == 3


@pytest.mark.parametrize("size", [1, 5, 30, 64, 127, 1000])
def test_any_part_of_the_passes_is_read_and_counted(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also across runs, of a stream shorter than a block, and of one with very many."""
    monkeypatch.setattr("herdsman.tokens.passes.MOST_RUNS", 10)
    passes, rng = Passes("a", size, 64, 5), random.Random(0)
    whole = [piece for run in range(40) for piece in passes.pieces(run * passes.run_tokens, passes.run_tokens)]
    places = [place for piece in whole for place in range(piece.start, piece.start + piece.tokens)]
    for _ in range(100):
        at, count = rng.randrange(2000), rng.randrange(1, 300)
        pieces = passes.pieces(at, count)
        found = [place for piece in pieces for place in range(piece.start, piece.start + piece.tokens)]
        assert found == places[at : at + count]
        covered = passes.taken(at)
        counts = np.full(size, covered.rounds)
        for first, last in covered.stretches:
            counts[first:last] += 1
        assert counts.tolist() == np.bincount(places[:at], minlength=size).tolist()


@pytest.mark.parametrize("seed", range(4))
def test_random_runs_are_those_of_the_definition(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = "abcdef"[: rng.randrange(1, 7)]
    lengths = {name: random_documents(rng, rng.randrange(1, 900), rng.choice([2, 30, 400])) for name in names}
    block = rng.choice([1, 7, 32, 100])
    streams = make(tmp_path, lengths, block_tokens=block, shard_tokens=rng.choice([20, 64, 333, 10**6]))
    segments = []
    for _ in range(rng.randrange(1, 5)):
        weights = {name: rng.random() for name in names if rng.random() < 0.8 or name == names[0]}
        mix = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        segments.append(Segment(mix, rng.randrange(1, 800), 8))
    places, order = by_hand(streams, segments, seed), TokenOrder(streams, seed, segments)
    for length in (1, 13, 200):
        count = len(places) // length
        if count:
            rows = order.read(0, count, length).tokens[:, :-1]
            assert rows.flatten().tolist() == flat(streams, places[: count * length])
    for position in rng.sample(range(len(places) + 1), min(10, len(places))):
        check_ledger(streams, order, places[:position], position)


def check_ledger(
    streams: TokenStreams, order: TokenOrder, places: Sequence[tuple[str, int] | None], position: int
) -> None:
    """The ledger equals counting one by one."""
    owner = {name: owners(streams, name) for name in streams.streams}
    tokens = Counter(place[0] for place in places if place)
    sources = Counter((place[0], owner[place[0]][place[1]] ** 2 % 3) for place in places if place)
    ledger = order.ledger(position)
    assert {name: taken.tokens for name, taken in ledger.items() if taken.tokens} == tokens
    assert sum(taken.padding for taken in ledger.values()) == sum(place is None for place in places)
    for name, taken in ledger.items():
        assert taken.epochs == pytest.approx(tokens[name] / streams.streams[name].tokens)
        counted = {SOURCES[number]: count for (of, number), count in sources.items() if of == name}
        assert taken.sources == counted


def test_the_ledger_is_exact_by_source(made: TokenStreams) -> None:
    order, places = TokenOrder(made, 3, SEGMENTS), by_hand(made, SEGMENTS, 3)
    for position in (0, 1, 63, 64, 500, 1920, 1921, 3200, 5000, 9599, 9600):
        check_ledger(made, order, places[:position], position)
    assert order.ledger() == order.ledger(9600)
    with pytest.raises(IndexError):
        order.ledger(9601)


def test_a_position_leads_to_its_document(made: TokenStreams) -> None:
    order = TokenOrder(made, 3, SEGMENTS)
    for position, (name, place) in enumerate(by_hand(made, SEGMENTS, 3)):
        if position % 11 == 0:
            origin = order.provenance(position)
            assert (origin.stream, origin.at) == (name, place)
            number = owners(made, name)[place]
            assert origin.document == bytes(made.streams[name].documents[number]).hex()
    with pytest.raises(IndexError):
        order.provenance(9600)


def test_a_token_of_the_herd_leads_to_its_text(herd: Workspace, streams: TokenStreams) -> None:
    tokenizer = Tokenizer.load(herd.folder("tokenizer"))
    texts = {row["id"]: row["text"] for row in real_documents()}
    order = TokenOrder(streams, 1, [Segment({"general.rest": 0.5, "code.rest": 0.3, "code.best": 0.2}, 64_000, 128)])
    met = set()
    for row in range(0, 500, 5):
        rows = order.read(row * 128, 1, 128)
        tokens, numbers = rows.tokens[0, :-1], rows.documents[0, :-1]
        documents = [order.provenance(row * 128 + column).document for column in range(128)]
        for number in range(numbers[-1] + 1):
            places = np.flatnonzero(numbers == number)
            assert len({documents[place] for place in places}) == 1
            text = tokenizer.decode_bytes([int(id) for id in tokens[places] if id < tokenizer.bpe_tokens])
            assert text in texts[documents[places[0]]].encode()
            met.add(documents[places[0]])
    assert len(met) > 20


def test_a_mix_that_cannot_be_read_is_one_sentence(made: TokenStreams) -> None:
    with pytest.raises(InputError, match=r"there is no stream poetry with tokens; choose from a, b, c, d"):
        TokenOrder(made, 1, [Segment({"poetry": 0.5, "a": 0.5}, 64, 8)])
    with pytest.raises(RecipeError, match="sum to"):
        TokenOrder(made, 1, [Segment({"a": 0.5}, 64, 8)])
    with pytest.raises(RecipeError, match="has no tokens"):
        TokenOrder(made, 1, [Segment({"a": 1}, 0, 8)])
    TokenOrder(made, 1, [Segment({"poetry": 0, "a": 1}, 64, 8)]).read(0, 8, 8)
