"""A new data set laid beside a herd's token streams, as one more stream, so that training can read both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from herdsman.documents.store import KEPT, read_documents, write_rows
from herdsman.errors import InputError
from herdsman.files import atomic_folder, digest_of, read_json, write_json
from herdsman.progress import Progress
from herdsman.tokens.options import TokensOptions
from herdsman.tokens.pack import pack
from herdsman.tokens.shards import LEDGER_FILE, SOURCES_FILE, STREAMS_FOLDER, TOTALS_FILE
from herdsman.workspace import MANIFEST, Work

NEW = "new"
STREAM = f"{NEW}.rest"
TEXTS = (".txt", ".md")
SHARD_CHARACTERS = 64_000_000
DOCUMENTS, TOKENS, MIX = "documents", "tokens", "mix.json"


def lay_beside(
    data: Path,
    out: Path,
    herd: Mapping[str, Path],
    held_out_share: float,
    seed: int,
    workers: int,
    progress: Progress,
) -> None:
    """Writes `out/documents`, those of the data set, and `out/tokens`: the herd's streams and the new one, `STREAM`.

    The herd's streams are links. What stands already is left alone.

    Args:
        data: see `read_texts`. Texts that are among the herd's held-out ones are left out: they would be measured.
        out: named after the data set and its `identity`.
        herd: folders of its documents, tokenizer and tokens stages.
        held_out_share: share of the documents, by a hash of their texts, that are not trained on; documents in our own
            form keep the split they have.

    Raises:
        InputError: there is no text, or only held-out text.
    """
    if not (out / DOCUMENTS).exists():
        with atomic_folder(out / DOCUMENTS) as beside:
            texts = (row["text"] for row in read_documents(herd["documents"], split="held_out", columns=["text"]))
            _write_documents(data, beside, held_out_share, {_digest(text) for text in texts})
    if (out / TOKENS).exists():
        return
    tokens = herd["tokens"]
    ledger = read_json(tokens / LEDGER_FILE)
    options = TokensOptions(**{name: ledger[name] for name in TokensOptions.model_fields})
    with atomic_folder(out / TOKENS) as beside:
        inputs = {"documents": out / DOCUMENTS, "tokenizer": herd["tokenizer"]}
        pack(options, Work("tokens", beside, inputs, seed, workers, progress))
        shutil.rmtree(beside / "scratch", ignore_errors=True)
        _join(beside, tokens, ledger)
        write_json(beside / MANIFEST, {"fingerprint": digest_of([fingerprint_of(tokens), out.name])})


def with_mix(documents: Path, folder: Path, name: str, mix: Mapping[str, float]) -> Path:
    """A documents folder like another, but for one of its mixes: a folder below `folder`, which is returned.

    Args:
        name: of the mix, "pretrain" or "anneal".
    """
    mixes = read_json(documents / MIX) | {name: dict(mix)}
    fingerprint = digest_of([fingerprint_of(documents), mixes])
    found = folder / fingerprint[:8]
    if not (found / MANIFEST).exists():
        found.mkdir(parents=True, exist_ok=True)
        for path in documents.glob("kept-*.parquet"):
            with suppress(FileExistsError):  # another process may be at the same
                (found / path.name).symlink_to(path.resolve())
        write_json(found / MIX, mixes)
        write_json(found / MANIFEST, {"fingerprint": fingerprint})
    return found


def fingerprint_of(stage: Path) -> str:
    return str(read_json(stage / MANIFEST)["fingerprint"])


def identity(data: Path) -> str:
    """Changes when the files of a data set do.

    Raises:
        InputError: there is nothing.
    """
    if not data.exists():
        raise InputError("there is no such file or folder", where=data, do="check the path")
    paths = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    told = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    return digest_of([str(data.resolve()), told])


def read_texts(data: Path) -> Iterator[dict[str, Any]]:
    """Rows with `text` and, where there are, `id` and `split`, of a folder or a file.

    A folder of a documents stage (`kept-*.parquet`); JSON Lines with a field `text`; or text files, each a document.

    Raises:
        InputError: there is none of these, or a line is not an object with a text.
    """
    if next(iter(data.glob("kept-*.parquet")), None):
        yield from read_documents(data, columns=["id", "text", "split"])
        return
    paths = [data] if data.is_file() else sorted(path for path in data.rglob("*") if path.is_file())
    lines = [path for path in paths if path.suffix in (".jsonl", ".json")]
    texts = [path for path in paths if path.suffix in TEXTS]
    if not lines and not texts:
        raise InputError(
            "no data set is here",
            where=data,
            do="point to a documents stage, to JSON Lines with a field text, or to .txt or .md files",
        )
    for path in lines:
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield {"text": _text_of(line, f"{path}, line {number}")}
    for path in texts:
        yield {"text": path.read_text(encoding="utf-8", errors="replace")}


def _text_of(line: str, where: str) -> str:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise InputError("is not a JSON object with a field text", where=where, do='write {"text": ...} in each line')
    return str(row["text"])


def _digest(text: str) -> str:
    return blake2b(text.encode(errors="replace"), digest_size=16).hexdigest()


def _write_documents(data: Path, out: Path, held_out_share: float, seen: set[str]) -> None:
    """
    Args:
        seen: digests of texts that are left out; those of the data set are added, so that no copy is held out of what
            is trained on.
    """
    rows: list[dict[str, Any]] = []
    size, shard, trained = 0, 0, False

    def write() -> None:
        nonlocal rows, size, shard
        write_rows(out / f"kept-{shard:05d}.parquet", rows, KEPT)
        rows, size, shard = [], 0, shard + 1

    for row in read_texts(data):
        id = _digest(row["text"])
        if not row["text"].strip() or id in seen:
            continue
        seen.add(id)
        drawn = int.from_bytes(blake2b(id.encode(), digest_size=4, person=b"held_out").digest()) / 2**32
        split = row.get("split") or ("held_out" if drawn < held_out_share else "train")
        trained = trained or split == "train"
        kind = {"category": NEW, "topic": "", "tier": "rest", "source": data.name, "language": ""}
        rows.append({"id": id, "text": row["text"], "split": split, **kind})
        size += len(row["text"])
        if size >= SHARD_CHARACTERS:
            write()
    if rows:
        write()
    if not trained:
        raise InputError("holds no text to train on", where=data, do="give it more documents")
    write_json(out / MIX, {"topics": []})


def _join(folder: Path, tokens: Path, ledger: dict[str, Any]) -> None:
    """Takes the herd's streams and sources into the folder that has the new stream; its source comes after theirs."""
    new, names = read_json(folder / LEDGER_FILE), ledger["source_names"]
    stream = folder / STREAMS_FOLDER / STREAM
    np.save(stream / SOURCES_FILE, np.load(stream / SOURCES_FILE) + np.uint32(len(names)))
    np.save(stream / TOTALS_FILE, np.pad(np.load(stream / TOTALS_FILE), ((0, 0), (len(names), 0))))
    for name in ledger["streams"]:
        (folder / STREAMS_FOLDER / name).symlink_to((tokens / STREAMS_FOLDER / name).resolve())
    joined = {name: ledger[name] | new[name] if name == "streams" else ledger[name] + new[name]
              for name in ("streams", "sources", "source_names")}  # fmt: skip
    write_json(folder / LEDGER_FILE, ledger | joined)
