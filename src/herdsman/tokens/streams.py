"""All token streams of a herd, opened for reading where they lie."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from herdsman.errors import InputError
from herdsman.tokens.options import Packing
from herdsman.tokens.shards import LEDGER_FILE, Stream
from herdsman.tokens.storage import open_folder


class TokenStreams:
    """The streams of a `tokens` folder, of this machine or of an object store.

    Attributes:
        streams: by name, sorted.
        numbers: of each stream in that order.
        bos: the id of the begin-of-text token, with which every document begins.
        block_tokens, packing: how they are to be read (see `TokensOptions`).
        sources: names of all sources, by number.
    """

    def __init__(
        self,
        streams: Mapping[str, Stream],
        bos: int,
        block_tokens: int,
        packing: Packing,
        sources: Sequence[str],
        sizes: Mapping[str, Mapping[str, int]],
        address: Path | str,
    ):
        self.streams, self.bos, self.sources, self.address = dict(streams), bos, list(sources), address
        self.block_tokens, self.packing = block_tokens, packing
        self.numbers = {name: number for number, name in enumerate(self.streams)}
        self._sizes = sizes

    @classmethod
    def open(cls, address: Path | str) -> TokenStreams:
        """Opens the streams that the `tokens` stage wrote, at a path or at any address that fsspec knows
        (`s3://bucket/herd/tokens`).

        Raises:
            InputError: there are none.
            WorkspaceError: a stream is damaged.
            NetworkError: the object store does not answer.
        """
        folder = open_folder(address)
        try:
            ledger = json.loads(folder.bytes_of(LEDGER_FILE))
            dtype = np.dtype(ledger["dtype"]).newbyteorder("<")
            sizes, shard_tokens = ledger["streams"], ledger["shard_tokens"]
            settings: dict[str, Any] = {key: ledger[key] for key in ("block_tokens", "packing")}
            bos, sources = ledger["begin_of_text"], ledger["source_names"]
        except (InputError, ValueError, KeyError) as error:
            do = "run the tokens stage first"
            raise InputError("no token streams are here", where=folder.address, do=do) from error
        streams = {name: Stream.open(folder, name, dtype, shard_tokens) for name in sorted(sizes)}
        return cls(streams, bos, sources=sources, sizes=sizes, address=address, **settings)

    def __reduce__(self) -> tuple[Any, ...]:
        """Workers open the streams themselves: what is mapped into memory does not travel."""
        return TokenStreams.open, (self.address,)

    def stream(self, name: str) -> Stream:
        """
        Raises:
            InputError: there is no such stream.
        """
        if name not in self.streams:
            known = ", ".join(self.streams)
            raise InputError(f"there is no stream {name} with tokens", where="mix", do=f"choose from {known}")
        return self.streams[name]

    def sizes(self) -> dict[str, dict[str, int]]:
        """Tokens, documents and bytes of text of each stream."""
        return {name: dict(sizes) for name, sizes in self._sizes.items()}
