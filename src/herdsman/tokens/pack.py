"""The `tokens` stage: kept training documents become streams of tokens with provenance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet

from herdsman.documents.mix import stream_of
from herdsman.errors import InputError
from herdsman.files import atomic_folder, read_json, write_json
from herdsman.parallel import map_ordered
from herdsman.tokens.options import TokensOptions
from herdsman.tokens.shards import LEDGER_FILE, STREAMS_FOLDER, TOKENS_FILE, Tokens, token_dtype, write_stream
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.workspace import Work

ROWS_AT_ONCE = 256
INDEX_FILE = "index.parquet"
INDEX = pa.schema(
    {
        "id": pa.string(),
        "stream": pa.string(),
        "source": pa.string(),
        "language": pa.string(),
        "tokens": pa.int64(),
        "bytes": pa.int64(),
    }
)


def pack(options: TokensOptions, work: Work) -> None:
    """Encodes every kept training document once and lays it into the stream of its category and tier.

    Topics that the mix weighs have streams of their own. Writes `streams/<category>.<tier>/` (see `shards`), the ledger
    `sources.json` and `summary.json`. The order of the documents in a stream follows a hash of the seed and
    of their ids: it is a shuffle, and the same one however the documents came in shards. Resumes after every encoded
    shard and after every written stream.

    Raises:
        InputError: there are no training documents with text.
    """
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    dtype = token_dtype(tokenizer.vocab_size)
    pieces = _encode_all(work)
    index = _read_index(pieces)
    with_text = index.filter(pc.greater(index["bytes"], 0))
    if not len(with_text):
        raise InputError(
            "no training documents are here", where=work.inputs["documents"], do="gather more pages or loosen filters"
        )
    with work.progress.task("write streams", total=len(with_text), unit="documents") as task:
        for name in sorted(pc.unique(with_text["stream"]).to_pylist()):
            rows = with_text.filter(pc.equal(with_text["stream"], name))
            folder = work.out / STREAMS_FOLDER / name
            if not folder.exists():
                write_stream(folder, _shuffled_documents(rows, pieces, work.seed, dtype), dtype)
            task.advance(len(rows))
    ledger = _ledger(tokenizer, dtype, with_text)
    write_json(work.out / LEDGER_FILE, ledger)
    totals = {
        unit: sum(sizes[unit] for sizes in ledger["streams"].values()) for unit in ("documents", "tokens", "bytes")
    }
    work.counts.update(totals, streams=len(ledger["streams"]), documents_without_text=len(index) - len(with_text))
    work.metrics["bytes_per_token"] = round(totals["bytes"] / totals["tokens"], 4)
    work.summarise({"totals": totals, **work.metrics, **ledger})


def _encode_all(work: Work) -> list[Path]:
    """Folders of the encoded shards, in stored order."""
    shards = sorted(work.inputs["documents"].glob("kept-*.parquet"))
    if not shards:
        raise InputError(
            "no kept documents are here", where=work.inputs["documents"], do="run the documents stage first"
        )
    threads = max(1, work.workers // len(shards))
    apart = read_json(work.inputs["documents"] / "mix.json")["topics"]
    encode = partial(encode_shard, work.inputs["tokenizer"], work.scratch / "encoded", threads, apart)
    with work.progress.task("encode", total=len(shards), unit="shards") as task:
        pieces = []
        for piece in map_ordered(encode, shards, min(work.workers, len(shards)), work.engine):
            pieces.append(piece)
            task.advance()
    return pieces


def encode_shard(tokenizer_folder: Path, out: Path, threads: int, apart: list[str], shard: Path) -> Path:
    """Encodes one shard of documents into a folder of its own, unless it stands there already. Runs in a worker.

    Args:
        apart: topics with streams of their own.
    """
    folder = out / shard.stem
    if folder.exists():
        return folder
    tokenizer = Tokenizer.load(tokenizer_folder)
    dtype = token_dtype(tokenizer.vocab_size)
    columns = ["id", "text", "category", "topic", "tier", "split", "source", "language"]
    with (
        parquet.ParquetFile(shard) as documents,
        atomic_folder(folder) as beside,
        open(beside / TOKENS_FILE, "wb") as file,
        parquet.ParquetWriter(beside / INDEX_FILE, INDEX) as index,
    ):
        for batch in documents.iter_batches(ROWS_AT_ONCE, columns=columns):
            training = [row for row in batch.to_pylist() if row["split"] == "train"]
            encoded = tokenizer.encode_batch([row["text"] for row in training], threads)
            rows: list[dict[str, Any]] = []
            for row, ids in zip(training, encoded, strict=True):
                tokens = np.array([tokenizer.bos, *ids, tokenizer.end_of_text], dtype)
                file.write(tokens.data)
                sizes = {"tokens": len(tokens), "bytes": len(row["text"].encode())}
                stream = stream_of(row["category"], row["topic"], row["tier"], apart)
                rows.append({**row, **sizes, "stream": stream})
            index.write_table(pa.Table.from_pylist(rows, INDEX))
    return folder


def _read_index(pieces: list[Path]) -> pa.Table:
    """Index of all encoded documents, with the number of the piece each lies in and its first token's place there."""
    tables = []
    for number, piece in enumerate(pieces):
        table = parquet.read_table(piece / INDEX_FILE)
        ends = np.cumsum(table["tokens"].to_numpy())
        table = table.append_column("start", pa.array(ends - table["tokens"].to_numpy()))
        tables.append(table.append_column("piece", pa.array(np.full(len(table), number))))
    return pa.concat_tables(tables)


def _shuffled_documents(
    rows: pa.Table, pieces: list[Path], seed: int, dtype: np.dtype[Any]
) -> Iterator[tuple[str, Tokens]]:
    """Id and tokens of each document of a stream, in the order of a seeded hash of the ids."""
    ids = rows["id"].to_pylist()
    keys = [blake2b(f"{seed} {id}".encode(), digest_size=16).digest() for id in ids]
    number, start, count = (rows[column].to_numpy() for column in ("piece", "start", "tokens"))
    encoded = {int(n): np.memmap(pieces[n] / TOKENS_FILE, dtype, "r") for n in np.unique(number)}
    for row in sorted(range(len(ids)), key=keys.__getitem__):
        yield ids[row], encoded[int(number[row])][start[row] : start[row] + count[row]]


def _ledger(tokenizer: Tokenizer, dtype: np.dtype[Any], index: pa.Table) -> dict[str, Any]:
    """What the streams hold: by stream, and by stream, source and language."""
    streams = {row.pop("stream"): row for row in _sums(index, ["stream"])}
    return {
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "begin_of_text": tokenizer.bos,
        "end_of_text": tokenizer.end_of_text,
        "streams": streams,
        "sources": _sums(index, ["stream", "source", "language"]),
    }


def _sums(index: pa.Table, by: list[str]) -> list[dict[str, Any]]:
    sums = index.group_by(by, use_threads=False).aggregate([([], "count_all"), ("tokens", "sum"), ("bytes", "sum")])
    sums = sums.rename_columns([*by, "documents", "tokens", "bytes"])
    rows: list[dict[str, Any]] = sums.sort_by([(column, "ascending") for column in by]).to_pylist()
    return rows
