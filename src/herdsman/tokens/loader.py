"""Training sequences, each a pure function of seed, mix, index and length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdsman.errors import InputError
from herdsman.files import read_json
from herdsman.tokens.interleave import Interleaving
from herdsman.tokens.shards import LEDGER_FILE, STREAMS_FOLDER, Stream
from herdsman.tokens.shuffle import Permutation


@dataclass(frozen=True)
class Window:
    """Where a sequence lies: `length + 1` tokens of a stream from `start` on, the stream being a ring.

    Attributes:
        epoch: how many times the stream had been gone through before.
    """

    stream: str
    start: int
    epoch: int


@dataclass(frozen=True)
class Taken:
    """What a stream gives to a training run; epochs are passes over all its tokens."""

    sequences: int
    tokens: int
    epochs: float


class TokenStreams:
    """All streams of a `tokens` folder, read through memory maps.

    Nothing here has a state: a sequence is computed from its arguments alone, so any number of readers in any order,
    with any batch size, after any restart, see the same sequences.

    Each sequence comes from one stream. Streams take turns by their shares of the mix (see `interleave`). A stream is
    cut into `tokens // length` chunks of `length` tokens an epoch, and goes through them in an order shuffled anew each
    epoch. It is read as a ring: the next epoch is cut from where the last chunk ended, so the tokens left over at the
    end of one epoch come in the next one, chunks are cut elsewhere each time, and a stream shorter than one sequence
    just goes round within it.

    Attributes:
        streams: by name, sorted.
    """

    def __init__(self, streams: Mapping[str, Stream], bos: int, ledger: Mapping[str, Any]):
        self.streams, self.bos, self._ledger = dict(streams), bos, dict(ledger)
        self._interleavings: dict[tuple[tuple[str, float], ...], Interleaving] = {}

    @classmethod
    def open(cls, folder: Path | str) -> TokenStreams:
        """Opens the streams that the `tokens` stage wrote.

        Raises:
            InputError: there are none.
            WorkspaceError: a stream is damaged.
        """
        path = Path(folder)
        try:
            ledger = read_json(path / LEDGER_FILE)
        except (OSError, ValueError) as error:
            raise InputError("no token streams are here", where=path, do="run the tokens stage first") from error
        dtype = np.dtype(ledger["dtype"]).newbyteorder("<")
        streams = {name: Stream.open(path / STREAMS_FOLDER / name, dtype) for name in sorted(ledger["streams"])}
        return cls(streams, ledger["begin_of_text"], ledger["streams"])

    def ledger(self) -> dict[str, dict[str, int]]:
        """Tokens, documents and bytes of text of each stream."""
        return {name: dict(sizes) for name, sizes in self._ledger.items()}

    def sequence(
        self, seed: int, mix: Mapping[str, float], index: int, length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32], str]:
        """The index-th training sequence.

        Args:
            mix: share of each stream; they sum to 1.
            length: tokens to train on; one more is read, since the last one needs a target.

        Returns:
            tokens [length + 1], the number of each token's document within the sequence [length + 1], counted from 0,
            and the stream's name.

        Raises:
            InputError: the mix names a stream that is not here.
            RecipeError: the shares of the mix are not shares.
        """
        window = self.locate(seed, mix, index, length)
        tokens = self.streams[window.stream].read(window.start, length + 1)
        return tokens, document_numbers(tokens, self.bos), window.stream

    def batch(
        self, seed: int, mix: Mapping[str, float], start: int, count: int, length: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """`count` sequences from index `start` on: tokens and document numbers, each [count, length + 1]."""
        tokens = np.empty((count, length + 1), np.int64)
        documents = np.empty((count, length + 1), np.int32)
        for row in range(count):
            tokens[row], documents[row], _ = self.sequence(seed, mix, start + row, length)
        return tokens, documents

    def locate(self, seed: int, mix: Mapping[str, float], index: int, length: int) -> Window:
        """Where the index-th training sequence lies. Raises as `sequence` does."""
        name, turn = self._interleaving(mix).place(index)
        tokens = len(self.streams[name].tokens)
        chunks = max(1, tokens // length)
        epoch, chunk = divmod(turn, chunks)
        chunk = _permutation(chunks, seed, name, epoch)[chunk]
        return Window(name, (epoch * chunks + chunk) * length % tokens, epoch)

    def provenance(self, stream: str, position: int) -> str:
        """Id of the document that holds the token at a position of a stream; positions go round.

        Raises:
            InputError: there is no such stream.
        """
        if stream not in self.streams:
            raise self._unknown(stream)
        return self.streams[stream].provenance(position % len(self.streams[stream].tokens))

    def taken(self, mix: Mapping[str, float], sequences: int, length: int) -> dict[str, Taken]:
        """What the first `sequences` sequences take from each stream of the mix."""
        return {
            name: Taken(count, count * length, count * length / len(self.streams[name].tokens))
            for name, count in self._interleaving(mix).counts(sequences).items()
        }

    def _interleaving(self, mix: Mapping[str, float]) -> Interleaving:
        key = tuple(sorted(mix.items()))
        if key not in self._interleavings:
            missing = [name for name, share in key if share and name not in self.streams]
            if missing:
                raise self._unknown(missing[0])
            self._interleavings[key] = Interleaving(mix)
        return self._interleavings[key]

    def _unknown(self, stream: str) -> InputError:
        known = ", ".join(self.streams)
        return InputError(f"there is no stream {stream} with tokens", where="mix", do=f"choose from {known}")


def document_numbers(tokens: NDArray[np.int64], bos: int) -> NDArray[np.int32]:
    """The number of each token's document, counted from 0 within the sequence; each bos begins a new one. [tokens]"""
    numbers: NDArray[np.int32] = np.cumsum(tokens == bos, dtype=np.int32)
    numbers -= numbers[0]
    return numbers


@lru_cache(maxsize=256)
def _permutation(chunks: int, seed: int, stream: str, epoch: int) -> Permutation:
    return Permutation(chunks, seed, stream, epoch)
