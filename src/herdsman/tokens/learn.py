"""The `tokenizer` stage: a byte-level BPE vocabulary learned from the kept documents, or an existing one extended."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import rustbpe

from herdsman.documents.store import read_documents
from herdsman.errors import InputError
from herdsman.files import write_json
from herdsman.tokens.compression import compression_table, token_gallery
from herdsman.tokens.draw import Balance, Sample
from herdsman.tokens.options import TokenizerOptions
from herdsman.tokens.tokenizer import Tokenizer, guarded
from herdsman.tokens.vocabulary import (
    HUGGINGFACE_FILE,
    MODEL_FILE,
    SPECIAL_FILE,
    SPLIT_PATTERN,
    Ranks,
    extend,
    read_ranks,
    write_huggingface,
    write_ranks,
)
from herdsman.workspace import Work


def learn_tokenizer(options: TokenizerOptions, work: Work) -> None:
    """Makes the vocabulary from the training documents and measures it on the held-out ones.

    Writes `tokenizer.model`, `tokenizer.json`, `special_tokens.json` and `summary.json`. Where the text is too small
    for the vocabulary asked for, every merge it holds is taken and the smaller vocabulary is reported.

    Raises:
        InputError: there are no training documents with text, none in the languages that something is to be learned
            from, or the base is no vocabulary or too small.
    """
    folder = work.inputs["documents"]
    sizes = [
        (row["id"], row["language"], len(row["text"].encode()))
        for row in read_documents(folder, "train", ["id", "language", "text"])
    ]
    if not any(size for _, _, size in sizes):
        raise InputError("no training documents are here", where=folder, do="gather more pages or loosen the filters")
    covers = options.base_covers
    sample = Sample.choose(
        ((id, size) for id, language, size in sizes if covers(language)),
        options.training_bytes if options.base is None else 0,
    )
    others = (size for size in sizes if not covers(size[1]))
    balance = Balance.choose(others, options.training_bytes, options.language_exponent)
    base = _made_once(
        (work.scratch if options.extension_tokens else work.out) / MODEL_FILE, lambda: _base(options, work, sample)
    )
    ranks: Ranks = base
    if options.extension_tokens:
        ranks = _made_once(work.out / MODEL_FILE, lambda: _extended(options, work, base, balance))
    _report(options, work, base, ranks, sample, balance)


def train(texts: Iterable[str], vocab_size: int) -> dict[bytes, int]:
    """Learns byte-level BPE: the pair with the highest count is merged first, ties go to the lower ids.

    The result depends only on the counts of the pieces that Llama 3's rule cuts the texts into, so neither the order of
    the texts nor the number of threads changes it.
    """
    trainer = rustbpe.Tokenizer()
    trainer.train_from_iterator(iter(texts), vocab_size, pattern=SPLIT_PATTERN)
    return {bytes(token): rank for token, rank in trainer.get_mergeable_ranks()}


def _base(options: TokenizerOptions, work: Work, sample: Sample) -> dict[bytes, int]:
    """The first tokens: those of the vocabulary that is given, or learned."""
    if options.base is None:

        def times(id: str, language: str) -> int:
            return int(options.base_covers(language) and sample.holds(id))

        return _learned(work, times, sample.total_bytes, options.base_tokens, "the languages of the base")
    given = read_ranks(options.base)
    if len(given) < options.base_tokens:
        raise InputError(
            f"holds {len(given):,} tokens, fewer than the {options.base_tokens:,} that are to come from it",
            where=options.base,
            do="lower tokenizer.vocab_size, or raise tokenizer.extension_tokens with it",
        )
    return {token: rank for token, rank in given.items() if rank < options.base_tokens}


def _extended(options: TokenizerOptions, work: Work, base: Ranks, balance: Balance) -> dict[bytes, int]:
    # Even if all the base's tokens were learned again, as many new ones as asked for would be left.
    most = len(base) + options.extension_tokens
    learned = _learned(work, balance.times, balance.total_bytes, most, "languages other than the base's")
    return extend(base, learned, options.extension_tokens)


def _learned(
    work: Work, times: Callable[[str, str], int], total_bytes: int, vocab_size: int, source: str
) -> dict[bytes, int]:
    """A vocabulary learned from every training document as often as `times` says for its id and language."""
    folder = work.inputs["documents"]
    if not total_bytes:
        raise InputError(
            f"there is no text to learn from in {source}",
            where=folder,
            do="gather pages in these languages, or change tokenizer.base_languages or tokenizer.extension_tokens",
        )
    with work.progress.task(f"learn {vocab_size:,} tokens", total_bytes, "bytes") as task:

        def texts() -> Iterator[str]:
            for row in read_documents(folder, "train", ["id", "language", "text"]):
                for _ in range(times(row["id"], row["language"])):
                    yield from guarded(row["text"])
                    task.advance(len(row["text"].encode()))
            task.note("all text read, merging pairs")

        return train(texts(), vocab_size)


def _made_once(path: Path, make: Callable[[], Ranks]) -> dict[bytes, int]:
    """The vocabulary in a file, made if it is not there: a stage that was killed does not learn it twice."""
    if not path.exists():
        write_ranks(path, make())
    return read_ranks(path)


def _report(options: TokenizerOptions, work: Work, base: Ranks, ranks: Ranks, sample: Sample, balance: Balance) -> None:
    """Writes the files for readers of the vocabulary, and measures it."""
    folder = work.inputs["documents"]
    tokenizer = Tokenizer(ranks)
    write_huggingface(work.out / HUGGINGFACE_FILE, ranks)
    write_json(work.out / SPECIAL_FILE, tokenizer.special)
    held_out = read_documents(folder, "held_out", ["text", "category", "language"])
    before = Tokenizer(base) if options.extension_tokens else None
    table = compression_table(tokenizer, held_out, work.progress, before)
    work.counts.update(
        bpe_tokens=len(ranks), rows=tokenizer.vocab_size, documents=sample.documents, training_bytes=sample.total_bytes
    )
    work.metrics.update(vocab_size_asked=options.vocab_size, vocab_size_reached=len(ranks), held_out=table["held_out"])
    extension: dict[str, Any] = {}
    if options.extension_tokens:
        new_tokens = len(ranks) - len(base)
        extension["extension"] = {
            "new_tokens": new_tokens,
            "asked": options.extension_tokens,
            "languages": balance.summary(),
        }
        work.counts.update(new_tokens=new_tokens, extension_bytes=balance.total_bytes)
    work.summarise(
        {
            "vocabulary": {
                "bpe_tokens": len(ranks),
                "asked": options.vocab_size,
                "special_tokens": len(tokenizer.special),
                "rows": tokenizer.vocab_size,
            },
            "base": options.base,
            "trained_on": sample.summary(),
            **extension,
            **table,
            **token_gallery(tokenizer, ranks, _first_text(folder)),
        }
    )


def _first_text(folder: Path) -> str:
    """A text to show split into tokens: the first held-out one, or the first of all."""
    row = next(read_documents(folder, "held_out", ["text"]), None) or next(read_documents(folder, "train", ["text"]))
    return str(row["text"])
