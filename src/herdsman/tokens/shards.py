"""A stream of tokens on disk: flat arrays that are read through memory maps, and the way back to the documents.

    streams/general.best/
      tokens.bin       ids, little-endian uint16 or uint32 by the size of the vocabulary: documents one after another
      offsets.npy      int64 [documents + 1]: where each document begins, and the end of the last
      documents.npy    uint8 [documents, 16]: the 128-bit id of each document

Each document is `<|begin_of_text|>`, its text, `<|end_of_text|>`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from herdsman.errors import WorkspaceError
from herdsman.files import atomic_folder

STREAMS_FOLDER, LEDGER_FILE = "streams", "sources.json"
TOKENS_FILE, OFFSETS_FILE, DOCUMENTS_FILE = "tokens.bin", "offsets.npy", "documents.npy"
ID_BYTES = 16

Tokens = NDArray[np.unsignedinteger[Any]]


def token_dtype(vocab_size: int) -> np.dtype[np.unsignedinteger[Any]]:
    """The narrowest type that holds all ids of a vocabulary."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


def write_stream(folder: Path, documents: Iterable[tuple[str, Tokens]], dtype: np.dtype[Any]) -> None:
    """Writes a stream; the folder appears whole or not at all.

    Args:
        documents: the hex id and the tokens of each, in the order of the stream.
    """
    ids: list[bytes] = []
    offsets = [0]
    with atomic_folder(folder) as beside:
        with open(beside / TOKENS_FILE, "wb") as file:
            for id, tokens in documents:
                file.write(np.ascontiguousarray(tokens, dtype).data)
                ids.append(bytes.fromhex(id))
                offsets.append(offsets[-1] + len(tokens))
        np.save(beside / OFFSETS_FILE, np.array(offsets, "<i8"))
        np.save(beside / DOCUMENTS_FILE, np.frombuffer(b"".join(ids), np.uint8).reshape(-1, ID_BYTES))


@dataclass(frozen=True)
class Stream:
    """A stream open for reading; nothing of it is loaded until it is asked for.

    Attributes:
        tokens: [tokens]
        offsets: int64 [documents + 1]
        documents: uint8 [documents, 16]
    """

    name: str
    tokens: Tokens
    offsets: NDArray[np.int64]
    documents: NDArray[np.uint8]

    @staticmethod
    def open(folder: Path, dtype: np.dtype[Any]) -> Stream:
        """Maps the stream's files.

        Raises:
            WorkspaceError: a file is missing or is not as long as the others say.
        """
        try:
            tokens = np.memmap(folder / TOKENS_FILE, dtype, "r")
            offsets = np.load(folder / OFFSETS_FILE, mmap_mode="r")
            documents = np.load(folder / DOCUMENTS_FILE, mmap_mode="r")
        except (OSError, ValueError, EOFError) as error:
            raise WorkspaceError(
                f"the token stream cannot be read ({error})", where=folder, do="remove this folder and raise again"
            ) from error
        if len(offsets) != len(documents) + 1 or offsets[-1] != len(tokens):
            raise WorkspaceError(
                f"the token stream is damaged: {len(tokens)} tokens where its index says {offsets[-1]}",
                where=folder, do="remove this folder and raise again",
            )  # fmt: skip
        return Stream(folder.name, tokens, offsets, documents)

    def read(self, start: int, count: int) -> NDArray[np.int64]:
        """`count` tokens from a position on; after the last token comes the first one again."""
        start %= len(self.tokens)
        if start + count <= len(self.tokens):
            return self.tokens[start : start + count].astype(np.int64)
        return self.tokens.take(np.arange(start, start + count), mode="wrap").astype(np.int64)

    def provenance(self, position: int) -> str:
        """Id of the document that holds the token at a position.

        Raises:
            IndexError: the stream has no such position.
        """
        if not 0 <= position < len(self.tokens):
            raise IndexError(f"stream {self.name} has no token at {position}, only {len(self.tokens)} tokens")
        number = int(np.searchsorted(self.offsets, position, side="right")) - 1
        return bytes(self.documents[number]).hex()
