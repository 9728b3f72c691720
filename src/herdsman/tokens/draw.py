"""Which documents a vocabulary is learned from: whole ones, the same in whatever order they come."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

MOST_COPIES = 10


class Sample:
    """Whole documents up to a number of bytes, chosen by a hash of their ids.

    Attributes:
        documents, total_bytes: what was chosen.
        bytes_in_all: bytes of the documents it was chosen from.
    """

    def __init__(self, last_key: bytes, documents: int, total_bytes: int, bytes_in_all: int):
        self.last_key, self.documents, self.total_bytes, self.bytes_in_all = (
            last_key, documents, total_bytes, bytes_in_all
        )  # fmt: skip

    @classmethod
    def choose(cls, sizes: Iterable[tuple[str, int]], most_bytes: int) -> Sample:
        """Takes documents in the order of their keys while they fit; the first with text is taken whatever its size."""
        last_key, documents, total_bytes, bytes_in_all, full = b"", 0, 0, 0, most_bytes == 0
        for key, size in sorted((_key(id), size) for id, size in sizes):
            bytes_in_all += size
            full = full or (total_bytes > 0 and total_bytes + size > most_bytes)
            if not full:
                last_key, documents, total_bytes = key, documents + 1, total_bytes + size
        return cls(last_key, documents, total_bytes, bytes_in_all)

    def holds(self, id: str) -> bool:
        """Whether this document, one of those it was chosen from, is in it."""
        return _key(id) <= self.last_key

    def summary(self) -> dict[str, Any]:
        share = round(self.total_bytes / self.bytes_in_all, 4) if self.bytes_in_all else 0.0
        return {"documents": self.documents, "bytes": self.total_bytes, "share_of_bytes": share}


class Balance:
    """Documents of several languages: of each as many bytes as its share asks for, a small one's several times.

    Attributes:
        copies: by language, how often every document of it is read.
        samples: by language, the documents that are read once more.
    """

    def __init__(self, copies: dict[str, int], samples: dict[str, Sample]):
        self.copies, self.samples = copies, samples
        self.total_bytes = sum(row["bytes_read"] for row in self.summary())

    @classmethod
    def choose(cls, sizes: Iterable[tuple[str, str, int]], most_bytes: int, exponent: float) -> Balance:
        """Shares go with the languages' bytes to the power of `exponent`; of all bytes at most `most_bytes` are read.

        No document is read more than 10 times, so the bytes can be fewer than both.

        Args:
            sizes: id, language and bytes of each document.
        """
        by_language: dict[str, list[tuple[str, int]]] = defaultdict(list)
        for id, language, size in sizes:
            if size:
                by_language[language].append((id, size))
        held = {language: sum(size for _, size in by_language[language]) for language in sorted(by_language)}
        wanted = min(most_bytes, sum(held.values()))
        whole = sum(size**exponent for size in held.values())
        copies, samples = {}, {}
        for language, size in held.items():
            share = min(round(wanted * size**exponent / whole), MOST_COPIES * size)
            copies[language], rest = divmod(share, size)
            samples[language] = Sample.choose(by_language[language], rest)
        return cls(copies, samples)

    def times(self, id: str, language: str) -> int:
        """How often the document is read."""
        return self.copies[language] + self.samples[language].holds(id) if language in self.copies else 0

    def summary(self) -> list[dict[str, Any]]:
        """By language: bytes of its documents, and bytes that are read, copies counted."""
        rows = [
            {
                "language": language,
                "bytes": sample.bytes_in_all,
                "bytes_read": self.copies[language] * sample.bytes_in_all + sample.total_bytes,
            }
            for language, sample in self.samples.items()
        ]
        return sorted(rows, key=lambda row: (-row["bytes_read"], row["language"]))


def _key(id: str) -> bytes:
    return blake2b(id.encode(), digest_size=8, person=b"tokenizer").digest()
