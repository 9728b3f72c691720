"""The `tokens` stage: kept training documents become streams of tokens with provenance."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from herdsman.documents.mix import stream_of
from herdsman.errors import InputError
from herdsman.files import atomic_folder, read_json, write_json
from herdsman.parallel import map_ordered
from herdsman.tokens.options import TokensOptions
from herdsman.tokens.shards import LEDGER_FILE, STREAMS_FOLDER, Document, token_dtype, write_stream
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.workspace import Work

ROWS_AT_ONCE = 256
TOKENS_FILE, INDEX_FILE = "tokens.bin", "index.parquet"
INDEX = pa.schema(
    {
        "id": pa.binary(16),
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

    The index of one stream at a time is in memory, some 200 bytes a document.

    Raises:
        InputError: there are no training documents with text.
    """
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    dtype = token_dtype(tokenizer.vocab_size)
    pieces = _encode_all(work)
    sums = _sums(pieces)
    if not sums:
        raise InputError(
            "no training documents are here", where=work.inputs["documents"], do="gather more pages or loosen filters"
        )
    ledger = _ledger(tokenizer, dtype, sums) | options.model_dump()
    numbers = {name: number for number, name in enumerate(ledger["source_names"])}
    totals = {
        unit: sum(sizes[unit] for sizes in ledger["streams"].values()) for unit in ("documents", "tokens", "bytes")
    }
    with work.progress.task("write streams", total=totals["documents"], unit="documents") as task:
        for name, sizes in ledger["streams"].items():
            folder = work.out / STREAMS_FOLDER / name
            if not folder.exists():
                documents = _shuffled_documents(name, pieces, work.seed, dtype, numbers)
                write_stream(folder, documents, dtype, options.shard_tokens, len(numbers))
            task.advance(sizes["documents"])
    write_json(work.out / LEDGER_FILE, ledger)
    encoded = sum(parquet.read_metadata(piece / INDEX_FILE).num_rows for piece in pieces)
    work.counts.update(totals, streams=len(ledger["streams"]), documents_without_text=encoded - totals["documents"])
    work.metrics["bytes_per_token"] = round(totals["bytes"] / totals["tokens"], 4)
    names = ("dtype", "vocab_size", "begin_of_text", "end_of_text", "streams", "sources")
    work.summarise({"totals": totals, **work.metrics, **{name: ledger[name] for name in names}})


def _encode_all(work: Work) -> list[Path]:
    """Folders of the encoded shards, in stored order."""
    shards = sorted(work.inputs["documents"].glob("kept-*.parquet"))
    if not shards:
        raise InputError(
            "no kept documents are here", where=work.inputs["documents"], do="run the documents stage first"
        )
    apart = read_json(work.inputs["documents"] / "mix.json")["topics"]
    encode = partial(encode_shard, work.inputs["tokenizer"], work.scratch / "encoded", apart)
    with work.progress.task("encode", total=len(shards), unit="shards") as task:
        pieces = []
        for piece in map_ordered(encode, shards, min(work.workers, len(shards)), work.engine):
            pieces.append(piece)
            task.advance()
    return pieces


def encode_shard(tokenizer_folder: Path, out: Path, apart: list[str], shard: Path) -> Path:
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
            ids, starts = tokenizer.encode_arrays([row["text"] for row in training])
            rows: list[dict[str, Any]] = []
            for row, (start, end) in zip(training, pairwise(starts.tolist()), strict=True):
                tokens = np.empty(end - start + 2, dtype)
                tokens[0], tokens[1:-1], tokens[-1] = tokenizer.bos, ids[start:end], tokenizer.end_of_text
                file.write(tokens.data)
                sizes = {"tokens": len(tokens), "bytes": len(row["text"].encode())}
                stream = stream_of(row["category"], row["topic"], row["tier"], apart)
                rows.append({**row, **sizes, "stream": stream, "id": bytes.fromhex(row["id"])})
            index.write_table(pa.Table.from_pylist(rows, INDEX))
    return folder


def _shuffled_documents(
    name: str, pieces: list[Path], seed: int, dtype: np.dtype[Any], numbers: dict[str, int]
) -> Iterator[Document]:
    """The documents of a stream, in the order of a seeded hash of the ids.

    Args:
        numbers: of the sources.
    """
    ids, keys = bytearray(), bytearray()
    columns: list[list[NDArray[np.int64]]] = []
    for number, piece in enumerate(pieces):
        table = parquet.read_table(piece / INDEX_FILE, columns=["id", "stream", "source", "tokens", "bytes"])
        ends = np.cumsum(table["tokens"].to_numpy())
        table = table.append_column("start", pa.array(ends - table["tokens"].to_numpy()))
        table = table.filter(pc.and_(pc.greater(table["bytes"], 0), pc.equal(table["stream"], name)))
        for id in table["id"].to_pylist():
            ids += id
            keys += blake2b(f"{seed} {id.hex()}".encode(), digest_size=16).digest()
        sources = np.array([numbers[source] for source in table["source"].to_pylist()], np.int64)
        place = np.full(len(table), number)
        columns.append([place, table["start"].to_numpy(), table["tokens"].to_numpy(), sources])
    place, start, count, source = (np.concatenate(column) for column in zip(*columns, strict=True))
    first, second = np.frombuffer(keys, ">u8").reshape(-1, 2).T
    encoded = {int(n): np.memmap(pieces[n] / TOKENS_FILE, dtype, "r") for n in np.unique(place)}
    for row in np.lexsort((second, first)):
        tokens = encoded[int(place[row])][start[row] : start[row] + count[row]]
        yield Document(ids[16 * row : 16 * (row + 1)].hex(), int(source[row]), tokens)


def _ledger(tokenizer: Tokenizer, dtype: np.dtype[Any], sums: list[dict[str, Any]]) -> dict[str, Any]:
    """What the streams hold: by stream, and by stream, source and language."""
    streams: dict[str, dict[str, int]] = {}
    for row in sums:
        sizes = streams.setdefault(row["stream"], {"documents": 0, "tokens": 0, "bytes": 0})
        for unit in sizes:
            sizes[unit] += row[unit]
    return {
        "dtype": dtype.name,
        "vocab_size": tokenizer.vocab_size,
        "begin_of_text": tokenizer.bos,
        "end_of_text": tokenizer.end_of_text,
        "streams": streams,
        "sources": sums,
        "source_names": sorted({row["source"] for row in sums}),
    }


def _sums(pieces: list[Path]) -> list[dict[str, Any]]:
    """Documents with text, their tokens and bytes, by stream, source and language."""
    by, units = ["stream", "source", "language"], ["tokens", "bytes"]
    parts = []
    for piece in pieces:
        table = parquet.read_table(piece / INDEX_FILE, columns=[*by, *units])
        table = table.filter(pc.greater(table["bytes"], 0)).group_by(by, use_threads=False)
        parts.append(table.aggregate([([], "count_all"), *((unit, "sum") for unit in units)]))
    grouped = pa.concat_tables(parts).group_by(by, use_threads=False)
    sums = grouped.aggregate([(column, "sum") for column in ("count_all", "tokens_sum", "bytes_sum")])
    sums = sums.rename_columns([*by, "documents", *units])
    rows: list[dict[str, Any]] = sums.sort_by([(column, "ascending") for column in by]).to_pylist()
    return rows
