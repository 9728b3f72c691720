"""Streams made up for tests, in which every token says where it lies."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from herdsman.files import write_json
from herdsman.tokens.shards import Document, write_stream
from herdsman.tokens.streams import TokenStreams

BOS = 0
SOURCES = ["apple", "birch", "cedar"]


def token_at(stream: int, position: int) -> int:
    return 1 + stream * 10_000_000 + position


def random_documents(rng: random.Random, tokens: int, longest: int = 60) -> list[int]:
    """Lengths of documents that make up a stream of so many tokens."""
    lengths: list[int] = []
    while (left := tokens - sum(lengths)) > 0:
        lengths.append(min(left, rng.randrange(1, longest)))
    return lengths


def make(folder: Path, lengths: Mapping[str, Sequence[int]], **settings: Any) -> TokenStreams:
    """Streams of documents with the lengths given; document n of a stream is of source n * n % 3.

    Args:
        settings: `block_tokens`, `packing`, `shard_tokens`.
    """
    settings = {"block_tokens": 64, "packing": "concatenate", "shard_tokens": 1000} | settings
    dtype = np.dtype("<u4")
    for number, name in enumerate(sorted(lengths)):
        documents, start = [], 0
        for document, length in enumerate(lengths[name]):
            tokens = np.array([BOS, *(token_at(number, start + i) for i in range(1, length))], dtype)
            id = hashlib.md5(f"{name} {document}".encode()).hexdigest()
            documents.append(Document(id, document * document % 3, tokens))
            start += length
        write_stream(folder / "streams" / name, documents, dtype, settings["shard_tokens"], len(SOURCES))
    sizes = {name: {"tokens": sum(lengths[name]), "documents": len(lengths[name]), "bytes": 0} for name in lengths}
    ledger = {"dtype": "uint32", "begin_of_text": BOS, "streams": sizes, "source_names": SOURCES}
    write_json(folder / "sources.json", ledger | settings)
    return TokenStreams.open(folder)


def all_tokens(streams: TokenStreams, name: str) -> list[int]:
    return streams.streams[name].read(0, streams.streams[name].tokens).tolist()


def owners(streams: TokenStreams, name: str) -> list[int]:
    """Number of the document that each token of a stream belongs to."""
    return np.repeat(np.arange(len(streams.streams[name].documents)), np.diff(streams.streams[name].offsets)).tolist()
