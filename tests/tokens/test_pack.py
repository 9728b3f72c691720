"""Streams on disk: every training document once, the same bytes however they came about, damage found."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from herdsman.errors import InputError
from herdsman.files import read_json
from herdsman.progress import SILENT
from herdsman.tokens.options import TokensOptions
from herdsman.tokens.pack import pack
from herdsman.tokens.shards import token_dtype
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.workspace import Work, Workspace
from tests.tokens.material import digest, document, raise_streams, raise_tokens, real_documents, write_documents

REPOSITORY = Path(__file__).parents[2]


def test_every_training_document_lies_whole_in_the_stream_of_its_category_and_tier(
    herd: Workspace, streams: TokenStreams
) -> None:
    tokenizer = Tokenizer.load(herd.folder("tokenizer"))
    rows = {row["id"]: row for row in real_documents()}
    seen = []
    for name, stream in streams.streams.items():
        for number, (start, end) in enumerate(zip(stream.offsets[:-1], stream.offsets[1:], strict=True)):
            row = rows[bytes(stream.documents[number]).hex()]
            assert f"{row['category']}.{row['tier']}" == name
            ids = stream.read(start, end - start).tolist()
            assert ids == [tokenizer.bos, *tokenizer.encode(row["text"]), tokenizer.end_of_text]
            seen.append(row["id"])
    assert sorted(seen) == sorted(id for id, row in rows.items() if row["split"] == "train" and row["text"])


def test_topics_that_the_mix_weighs_have_streams_of_their_own(herd: Workspace, tmp_path: Path) -> None:
    rows = {row["id"]: row for row in real_documents()}
    write_documents(tmp_path / "documents", list(rows.values()), apart=["sport"])
    inputs = {"documents": tmp_path / "documents", "tokenizer": herd.folder("tokenizer")}
    pack(TokensOptions(), Work("tokens", tmp_path / "tokens", inputs, 1, 1, SILENT))
    streams = TokenStreams.open(tmp_path / "tokens").streams
    assert {name.split(".")[1] for name in streams if name.count(".") == 2} == {"sport"}
    for name, stream in streams.items():
        for id in stream.documents:
            assert (rows[bytes(id).hex()]["topic"] == "sport") == (".sport." in name)


def test_the_ledger_counts_what_lies_there(herd: Workspace, streams: TokenStreams) -> None:
    rows = [row for row in real_documents() if row["split"] == "train" and row["text"]]
    ledger = streams.sizes()
    assert list(ledger) == sorted({f"{row['category']}.{row['tier']}" for row in rows})
    for name, sizes in ledger.items():
        of_stream = [row for row in rows if f"{row['category']}.{row['tier']}" == name]
        size = sum(len(row["text"].encode()) for row in of_stream)
        assert sizes == {
            "documents": len(of_stream),
            "bytes": size,
            "tokens": streams.streams[name].tokens,
        }
    manifest = herd.manifest("tokens")
    assert manifest["counts"]["documents"] == len(rows)
    assert manifest["counts"]["documents_without_text"] == 1
    sources = read_json(herd.folder("tokens") / "sources.json")["sources"]
    assert sum(row["tokens"] for row in sources) == manifest["counts"]["tokens"]
    assert {row["source"] for row in sources} == {"source 0", "source 1"}


def test_documents_are_shuffled_by_the_seed(tmp_path: Path, herd: Workspace, streams: TokenStreams) -> None:
    inputs = {name: herd.folder(name) for name in ("documents", "tokenizer")}
    pack(TokensOptions(), Work("tokens", tmp_path, inputs, 2, 1, SILENT))
    of_seed_two = TokenStreams.open(tmp_path)
    assert of_seed_two.sizes() == streams.sizes()
    stored = [row["id"] for row in real_documents()]
    first, second = (of.streams["general.rest"].documents for of in (streams, of_seed_two))
    orders = [[stored.index(bytes(id).hex()) for id in ids] for ids in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1])
    assert len({*map(tuple, orders), tuple(sorted(orders[0]))}) == 3


def test_tokens_are_as_wide_as_the_vocabulary_needs(streams: TokenStreams) -> None:
    assert (token_dtype(1 << 16), token_dtype((1 << 16) + 1)) == (np.dtype("<u2"), np.dtype("<u4"))
    assert {stream.read(0, 1).dtype for stream in streams.streams.values()} == {np.dtype("<u2")}


def test_a_large_vocabulary_is_packed_in_four_bytes(tmp_path: Path, meta_vocabulary: Path) -> None:
    workspace = Workspace(tmp_path)
    raise_tokens(tmp_path, [document("The herd 😀 grazes.", 0)])
    (workspace.folder("tokenizer") / "tokenizer.model").write_bytes(meta_vocabulary.read_bytes())
    with workspace.stage("tokens", "cleared", (), 1, 1, SILENT):
        pass
    raise_streams(workspace)
    opened = TokenStreams.open(workspace.folder("tokens"))
    (stream,) = opened.streams.values()
    tokenizer = Tokenizer.load(meta_vocabulary)
    tokens = stream.read(0, stream.tokens)
    assert tokens.dtype == np.dtype("<u4")
    assert tokens.tolist() == [128_000, *tokenizer.encode("The herd 😀 grazes."), 128_001]


def test_neither_shards_nor_workers_nor_order_change_a_byte(tmp_path: Path, herd: Workspace) -> None:
    documents = real_documents()
    random.Random(0).shuffle(documents)
    for number, (shards, workers) in enumerate(((1, 1), (1, 3), (5, 2))):
        workspace = raise_tokens(tmp_path / str(number), documents, shards, workers=workers)
        assert digest(workspace, "tokens") == digest(herd, "tokens")


KILLED_AT_A_RENAME = """
import os, signal, sys
from pathlib import Path

replace, left = Path.replace, int(sys.argv[3])

def replace_and_die(self, target):
    global left
    left -= "clock.json" not in str(target)
    if left == 0 and sys.argv[4] == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    done = replace(self, target)
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return done

Path.replace = replace_and_die
from herdsman.workspace import Workspace
from tests.tokens.material import raise_streams
raise_streams(Workspace(sys.argv[1]), int(sys.argv[2]))
"""


def start(*arguments: object) -> subprocess.Popen[bytes]:
    paths = os.pathsep.join([str(REPOSITORY / "src"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)], env=os.environ | {"PYTHONPATH": paths}, cwd=REPOSITORY
    )


def unpacked(root: Path) -> Workspace:
    """A workspace whose `tokens` stage has not begun."""
    workspace = raise_tokens(root, real_documents(), shards=3)
    for path in sorted(workspace.folder("tokens").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    return workspace


@pytest.mark.slow
def test_killed_at_many_a_rename_and_resumed_gives_the_same_bytes(tmp_path: Path, herd: Workspace) -> None:
    """Of 3 encoded shards, 6 streams, the ledger, the summary and the manifest."""
    workspace = unpacked(tmp_path)
    folder = workspace.folder("tokens")
    deaths = [
        (3, "after", "scratch/encoded/*[0-9]", 2),  # after `started.json`
        (1, "before", "scratch/encoded/*[0-9]", 2),
        (2, "before", "scratch/encoded/*[0-9]", 3),
        (2, "after", "streams/*.*t", 2),
        (3, "before", "streams/*.*t", 4),
        (2, "after", "streams/*.*t", 6),
        (2, "before", "sources.json", 1),
        (3, "before", "summary.json", 1),  # the manifest is not there, and what the stage resumes from no longer is
    ]
    for number, moment, finished, count in deaths:
        assert start("-c", KILLED_AT_A_RENAME, tmp_path, 1, number, moment).wait(60) == -signal.SIGKILL
        assert len(list(folder.glob(finished))) == count
        assert workspace.manifest("tokens") is None
    assert not (folder / "scratch").exists()
    raise_streams(workspace)
    assert digest(workspace, "tokens") == digest(herd, "tokens")


def test_killed_among_workers_and_resumed_gives_the_same_bytes(tmp_path: Path, herd: Workspace) -> None:
    workspace = unpacked(tmp_path)
    process = start(REPOSITORY / "tests/tokens/material.py", tmp_path, 2)
    encoded = workspace.folder("tokens") / "scratch" / "encoded"
    deadline = time.monotonic() + 60
    while not list(encoded.glob("kept-?????")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.001)
    process.kill()
    assert process.wait(60) in (-signal.SIGKILL, 0)  # on a busy machine it may have been done by now
    raise_streams(workspace)
    assert digest(workspace, "tokens") == digest(herd, "tokens")


@pytest.mark.parametrize("documents", [[document("held out", 9)], [document("", 0), document("held out", 9)]])
def test_no_training_text_is_one_sentence(tmp_path: Path, herd: Workspace, documents: list[dict]) -> None:
    folder = write_documents(tmp_path / "documents", documents)
    inputs = {"documents": folder, "tokenizer": herd.folder("tokenizer")}
    with pytest.raises(InputError, match="no training documents are here"):
        pack(TokensOptions(), Work("tokens", tmp_path / "tokens", inputs, 1, 1, SILENT))


def test_a_shard_of_empty_and_held_out_documents_is_no_trouble(tmp_path: Path) -> None:
    documents = [document("The herd.", 0), document("", 1), document("held out", 9), document("", 2)]
    workspace = raise_tokens(tmp_path, documents, shards=4)
    opened = TokenStreams.open(workspace.folder("tokens"))
    assert list(opened.streams) == ["general.best"]
    assert workspace.manifest("tokens")["counts"]["documents_without_text"] == 2
