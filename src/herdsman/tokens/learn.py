"""The `tokenizer` stage: a byte-level BPE vocabulary learned from the kept documents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path

import rustbpe

from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.files import write_json
from herdsman.tokens.compression import compression_table, token_gallery
from herdsman.tokens.options import TokenizerOptions
from herdsman.tokens.tokenizer import Tokenizer, guarded
from herdsman.tokens.vocabulary import (
    HUGGINGFACE_FILE,
    MODEL_FILE,
    SPECIAL_FILE,
    SPLIT_PATTERN,
    read_ranks,
    write_huggingface,
    write_ranks,
)
from herdsman.workspace import Work


def learn_tokenizer(options: TokenizerOptions, work: Work) -> None:
    """Learns a vocabulary from the training documents and measures it on the held-out ones.

    Writes `tokenizer.model`, `tokenizer.json`, `special_tokens.json` and `summary.json`. Where the text is too small
    for the vocabulary asked for, every merge it holds is taken and the smaller vocabulary is reported.

    Raises:
        InputError: there are no training documents with text.
    """
    folder = work.inputs["documents"]
    sample = Sample.choose(
        ((row["id"], len(row["text"].encode())) for row in read_documents(folder, "train", ["id", "text"])),
        options.training_bytes,
    )
    if not sample.total_bytes:
        raise InputError("no training documents are here", where=folder, do="gather more pages or loosen the filters")
    model = work.out / MODEL_FILE
    if not model.exists():
        with work.progress.task(f"learn {options.vocab_size:,} tokens", sample.total_bytes, "bytes") as task:

            def texts() -> Iterator[str]:
                for row in read_documents(folder, "train", ["id", "text"]):
                    if sample.holds(row["id"]):
                        yield from guarded(row["text"])
                        task.advance(len(row["text"].encode()))
                task.note("all text read, merging pairs")

            write_ranks(model, train(texts(), options.vocab_size))
    ranks = read_ranks(model)
    tokenizer = Tokenizer(ranks)
    write_huggingface(work.out / HUGGINGFACE_FILE, ranks)
    write_json(work.out / SPECIAL_FILE, tokenizer.special)
    held_out = read_documents(folder, "held_out", ["text", "category", "language"])
    table = compression_table(tokenizer, held_out, work.progress)
    work.counts.update(
        bpe_tokens=len(ranks), rows=tokenizer.vocab_size, documents=sample.documents, training_bytes=sample.total_bytes
    )
    work.metrics.update(vocab_size_asked=options.vocab_size, vocab_size_reached=len(ranks), held_out=table["held_out"])
    work.summarise(
        {
            "vocabulary": {
                "bpe_tokens": len(ranks),
                "asked": options.vocab_size,
                "special_tokens": len(tokenizer.special),
                "rows": tokenizer.vocab_size,
            },
            "trained_on": {
                "documents": sample.documents,
                "bytes": sample.total_bytes,
                "share_of_bytes": round(sample.total_bytes / sample.bytes_in_all, 4),
            },
            **table,
            **token_gallery(tokenizer, ranks, _first_text(folder)),
        }
    )


class Sample:
    """Whole documents up to a number of bytes, chosen by a hash of their ids: the same ones in any order.

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
        last_key, documents, total_bytes, bytes_in_all, full = b"", 0, 0, 0, False
        for key, size in sorted((_key(id), size) for id, size in sizes):
            bytes_in_all += size
            full = full or (total_bytes > 0 and total_bytes + size > most_bytes)
            if not full:
                last_key, documents, total_bytes = key, documents + 1, total_bytes + size
        return cls(last_key, documents, total_bytes, bytes_in_all)

    def holds(self, id: str) -> bool:
        return _key(id) <= self.last_key


def _key(id: str) -> bytes:
    return blake2b(id.encode(), digest_size=8, person=b"tokenizer").digest()


def train(texts: Iterable[str], vocab_size: int) -> dict[bytes, int]:
    """Learns byte-level BPE: the pair with the highest count is merged first, ties go to the lower ids.

    The result depends only on the counts of the pieces that Llama 3's rule cuts the texts into, so neither the order of
    the texts nor the number of threads changes it.
    """
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size, pattern=SPLIT_PATTERN)
    return {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}


def _first_text(folder: Path) -> str:
    """A text to show split into tokens: the first held-out one, or the first of all."""
    row = next(read_documents(folder, "held_out", ["text"]), None) or next(read_documents(folder, "train", ["text"]))
    return str(row["text"])
