"""Streams on disk and elsewhere: read across files, counted by source, the same bytes from anywhere, damage found."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest

from herdsman.errors import InputError, NetworkError, WorkspaceError
from herdsman.tokens import storage
from herdsman.tokens.loader import TokenOrder
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.turns import Segment
from tests.tokens.made import BOS, make, owners, random_documents, token_at

FILES = ("tokens-00000.bin", "tokens-00002.bin", "offsets.npy", "documents.npy", "sources.npy", "totals.npy")


@pytest.fixture
def made(tmp_path: Path) -> TokenStreams:
    lengths = random_documents(random.Random(1), 1000)
    return make(tmp_path / "tokens", {"a": lengths, "b": [5] * 60}, shard_tokens=90)


@pytest.mark.parametrize("shard_tokens", [1, 7, 90, 1000, 10**9])
def test_files_hold_as_many_tokens_as_they_may(tmp_path: Path, shard_tokens: int) -> None:
    lengths = random_documents(random.Random(1), 200)
    stream = make(tmp_path, {"a": lengths}, shard_tokens=shard_tokens).streams["a"]
    files = sorted((tmp_path / "streams" / "a").glob("tokens-*.bin"))
    sizes = [file.stat().st_size // 4 for file in files]
    assert sizes[:-1] == [shard_tokens] * (len(files) - 1)
    assert (sum(sizes), 0 < sizes[-1] <= shard_tokens) == (200, True)
    starts = set(np.cumsum([0, *lengths]).tolist())
    expected = [BOS if i in starts else token_at(0, i) for i in range(200)]
    for start in range(0, 200, 3):
        for count in (1, 8, 95, 200 - start):
            if start + count <= 200:
                assert stream.read(start, count).tolist() == expected[start : start + count]


def test_a_position_leads_to_its_document(made: TokenStreams) -> None:
    for name, stream in made.streams.items():
        of = owners(made, name)
        for position in range(0, stream.tokens, 7):
            assert stream.document_at(position) == of[position]
            assert stream.provenance(position) == bytes(stream.documents[of[position]]).hex()
    for position in (-1, 1000):
        with pytest.raises(IndexError, match="no token at"):
            made.streams["a"].provenance(position)


def test_tokens_of_any_stretches_are_counted_by_source(made: TokenStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("herdsman.tokens.shards.DOCUMENTS_AT_ONCE", 3)
    rng = random.Random(0)
    for name, stream in made.streams.items():
        sources = np.array(owners(made, name)) ** 2 % 3
        assert stream.totals.sum(axis=0).tolist() == np.bincount(sources, minlength=3).tolist()
        edges = [0, 89, 90, 91, 180, stream.tokens]
        for _ in range(300):
            stretches = [
                sorted((rng.choice([*edges, rng.randrange(stream.tokens)]), rng.randrange(stream.tokens + 1)))
                for _ in range(rng.randrange(5))
            ]
            by_hand = sum((np.bincount(sources[a:b], minlength=3) for a, b in stretches), np.zeros(3, int))
            counted = stream.by_source(np.array(stretches, np.int64).reshape(-1, 2))
            assert counted.tolist() == by_hand.tolist()


# Elsewhere.


class Ranges(SimpleHTTPRequestHandler):
    """Answers requests for a part of a file, which Python's own server does not."""

    def do_GET(self) -> None:
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content, wanted = path.read_bytes(), re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        size = len(content)
        if wanted:
            first, last = int(wanted[1]), min(int(wanted[2]), size - 1)
            content = content[first : last + 1]
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def web(made: TokenStreams) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Ranges, directory=made.address))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def memory(made: TokenStreams) -> Iterator[str]:
    store = fsspec.filesystem("memory")
    store.put(str(made.address), "/bucket/tokens", recursive=True)
    yield "memory://bucket/tokens"
    store.rm("/bucket", recursive=True)


@pytest.mark.parametrize("kind", ["memory", "web", "file"])
@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_streams_elsewhere_are_read_as_those_here(
    made: TokenStreams, kind: str, block_bytes: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage, "BLOCK_BYTES", block_bytes)
    monkeypatch.setattr(storage, "MOST_BLOCKS", 5)
    address = f"file://{made.address}" if kind == "file" else request.getfixturevalue(kind)
    away = TokenStreams.open(address)
    segments = [Segment({"a": 0.6, "b": 0.4}, 1280, 32)]
    here, there = (TokenOrder(streams, 1, segments) for streams in (made, away))
    for field in ("tokens", "documents", "streams"):
        expected, found = (getattr(order.read(0, 40, 32), field) for order in (here, there))
        assert (expected == found).all()
    assert here.ledger() == there.ledger()
    assert here.provenance(700) == there.provenance(700)
    if kind != "file":
        assert len(away.streams["a"].shards[0].folder.blocks) <= 5


def test_many_threads_read_the_same(made: TokenStreams, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BLOCK_BYTES", 64)
    monkeypatch.setattr(storage, "MOST_BLOCKS", 3)
    order = TokenOrder(TokenStreams.open(memory), 1, [Segment({"a": 1}, 960, 32)])
    expected = TokenOrder(made, 1, [Segment({"a": 1}, 960, 32)]).read(0, 30, 32).tokens
    found: dict[int, np.ndarray] = {}

    def read(row: int) -> None:
        found[row] = order.read(row * 32, 1, 32).tokens[0]

    threads = [threading.Thread(target=read, args=(row,)) for row in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (np.stack([found[row] for row in range(30)]) == expected).all()


def test_what_is_read_next_is_fetched_ahead(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BLOCK_BYTES", 64)
    stream = TokenStreams.open(memory).streams["a"]
    folder = stream.shards[0].folder
    stream.read(0, 4)
    assert [key for key in folder.blocks if key[0].endswith(".bin")] == [
        ("streams/a/tokens-00000.bin", 0), ("streams/a/tokens-00000.bin", 1)
    ]  # fmt: skip


def test_a_store_that_stumbles_is_asked_again(made: TokenStreams, memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "FIRST_PAUSE_SECONDS", 0.0)
    away = TokenStreams.open(memory)
    folder = away.streams["a"].shards[0].folder
    whole, failures = folder.store.cat_file, [OSError("reset"), TimeoutError("late"), *[OSError("reset")] * 5]

    def stumble(path: str, **part: int) -> bytes:
        if failures:
            raise failures.pop(0)
        return whole(path, **part)

    monkeypatch.setattr(folder.store, "cat_file", stumble)
    del failures[2:]
    assert away.streams["a"].read(0, 9).tolist() == made.streams["a"].read(0, 9).tolist()
    failures += [OSError("reset")] * 5
    with pytest.raises(NetworkError, match=r"tokens-00003.bin: cannot be read \(reset\); check the address"):
        away.streams["a"].read(300, 9)
    # A later try is a new one.
    assert away.streams["a"].read(300, 9).tolist() == made.streams["a"].read(300, 9).tolist()


# Damage.


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def cut_whole_token(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def overwrite(path: Path) -> None:
    path.write_bytes(b"nonsense" * 16)


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", [Path.unlink, cut, cut_whole_token, empty, overwrite])
def test_a_damaged_stream_is_one_sentence(made: TokenStreams, file: str, harm: Callable[[Path], None]) -> None:
    harm(Path(made.address) / "streams" / "a" / file)
    with pytest.raises(WorkspaceError, match=r"streams/a: the token stream cannot .*remove this folder"):
        TokenStreams.open(made.address)


@pytest.mark.parametrize("file", ["tokens-00000.bin", "offsets.npy"])
@pytest.mark.parametrize("harm", [Path.unlink, cut, empty])
def test_damage_elsewhere_is_one_sentence(
    made: TokenStreams, web: str, file: str, harm: Callable[[Path], None]
) -> None:
    harm(Path(made.address) / "streams" / "a" / file)
    with pytest.raises(WorkspaceError, match=rf"streams/a/{file}: the token stream cannot .*; copy the tokens folder"):
        TokenStreams.open(web).streams["a"].read(0, 90)


def test_a_missing_ledger_is_one_sentence(tmp_path: Path, memory: str) -> None:
    for text in (None, "", '{"dtype": "uint16"', '{"dtype": "uint16"}'):
        if text is not None:
            (tmp_path / "sources.json").write_text(text)
        with pytest.raises(InputError, match="no token streams are here; run the tokens stage first"):
            TokenStreams.open(tmp_path)
    with pytest.raises(InputError, match="bucket/nothing: no token streams are here"):
        TokenStreams.open("memory://bucket/nothing")
    with pytest.raises(InputError, match="no such protocol"):
        TokenStreams.open("unheard-of://bucket/nothing")
