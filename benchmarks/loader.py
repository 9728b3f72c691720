"""How fast rows of training tokens are read: tokens a CPU-second of one thread, by packing, place and row length.

    python benchmarks/loader.py                        # streams of 64 million tokens in a temporary folder
    python benchmarks/loader.py --tokens 1_000_000_000 --out loader.json

Two floors stand beside: slices of one memory map as 64-bit ids, the least that any loader does, and the same with the
number of each token's document. The kinds are measured in turn, several times over; the median counts. Files are in the
page cache and the store is in memory, so this measures the loader and not the disk. Writes a table in Markdown to
standard output; the last column says how much of a step the loader takes where a device trains 10,000 tokens a second
(an 8B model on an H100) and nothing is read in the background.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import numpy as np

from herdsman.files import write_json
from herdsman.tokens.loader import TokenOrder
from herdsman.tokens.shards import Document, write_stream
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.turns import Segment

BOS, VOCAB_SIZE, BLOCK_TOKENS, STREAMS = 128_000, 128_256, 131_072, 4
SHARD_TOKENS = 1 << 24
TRAINED_PER_SECOND = 10_000
ROUNDS = 5
LENGTHS = (256, 4096, 8192, 131_072)


def documents(tokens: int, seed: int) -> Iterator[Document]:
    """Documents of log-normal length, 860 tokens on average."""
    rng, left = np.random.default_rng(seed), tokens
    while left:
        length = min(left, max(2, int(rng.lognormal(6.2, 1.05))))
        ids = rng.integers(0, BOS, length, "<u4")
        ids[0], left = BOS, left - length
        yield Document(hashlib.md5(f"{seed} {left}".encode()).hexdigest(), 0, ids)


def make(folder: Path, tokens: int) -> None:
    sizes = {f"stream {number}": {"tokens": tokens // STREAMS} for number in range(STREAMS)}
    for number, name in enumerate(sizes):
        write_stream(folder / "streams" / name, documents(tokens // STREAMS, number), np.dtype("<u4"), SHARD_TOKENS, 1)
    describe(folder, sizes, "concatenate")


def describe(folder: Path, sizes: dict[str, dict[str, int]], packing: str) -> None:
    ledger = {"dtype": "uint32", "begin_of_text": BOS, "streams": sizes, "source_names": ["made up"]}
    write_json(
        folder / "sources.json", ledger | {"block_tokens": BLOCK_TOKENS, "shard_tokens": 1 << 24, "packing": packing}
    )


def floor(file: Path, length: int, numbered: bool) -> Callable[[int, int], None]:
    tokens = np.memmap(file, "<u4", "r")
    most = len(tokens) - length - 1

    def read(position: int, count: int) -> None:
        rows = np.empty((count, length + 1), np.int64)
        for row in range(count):
            start = (position + row * length) % most
            rows[row] = tokens[start : start + length + 1]
        if numbered:
            np.cumsum(rows == BOS, axis=1, dtype=np.int32)

    return read


def loader(streams: TokenStreams, length: int, run_tokens: int) -> Callable[[int, int], None]:
    order = order_of(streams, length, run_tokens)

    def read(position: int, count: int) -> None:
        order.read(position, count, length)

    return read


def order_of(streams: TokenStreams, length: int, run_tokens: int) -> TokenOrder:
    mix = dict(zip(streams.streams, (0.5, 0.25, 0.17, 0.08), strict=True))
    return TokenOrder(streams, 1, [Segment(mix, run_tokens, length)])


def padding(streams: TokenStreams, length: int, run_tokens: int) -> str:
    """What best-fit packing leaves empty, and how fast its index is counted."""
    started = time.process_time()
    order = order_of(streams, length, run_tokens)
    seconds = time.process_time() - started
    empty = sum(taken.padding for taken in order.ledger().values()) / run_tokens
    counted = sum(len(stream.documents) for stream in streams.streams.values()) / seconds
    return f"rows of {length:,}: {empty:.2%} padding, {counted:,.0f} documents a CPU-second"


def cpu_seconds(read: Callable[[int, int], None], length: int, batch_tokens: int, position: int, tokens: int) -> float:
    started = time.process_time()
    for start in range(position, position + tokens, batch_tokens):
        read(start, batch_tokens // length)
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=1 << 26, help="of all streams together")
    parser.add_argument("--out", type=Path, help="write the measurements as JSON, too")
    arguments = parser.parse_args()
    measured: dict[int, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "tokens"
        make(folder, arguments.tokens)
        here = TokenStreams.open(folder)
        fsspec.filesystem("memory").put(str(folder), "/bench/tokens", recursive=True)
        away = TokenStreams.open("memory://bench/tokens")
        describe(folder, here.sizes(), "best_fit")
        packed = TokenStreams.open(folder)
        run_tokens = arguments.tokens // BLOCK_TOKENS // 2 * BLOCK_TOKENS  # most of it in the first pass
        paddings = [padding(packed, length, run_tokens) for length in LENGTHS]
        for length in LENGTHS:
            file = folder / "streams" / "stream 0" / "tokens-00000.bin"
            kinds = {
                "memory map": floor(file, length, False),
                "memory map, numbered": floor(file, length, True),
                "concatenated": loader(here, length, run_tokens),
                "concatenated, in a store": loader(away, length, run_tokens),
                "best fit": loader(packed, length, run_tokens),
            }
            share = run_tokens // ROUNDS // BLOCK_TOKENS * BLOCK_TOKENS
            seconds: dict[str, list[float]] = {kind: [] for kind in kinds}
            for round in range(ROUNDS):
                for kind, read in kinds.items():
                    seconds[kind].append(cpu_seconds(read, length, BLOCK_TOKENS, round * share, share))
            measured[length] = {kind: share / statistics.median(taken) for kind, taken in seconds.items()}
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    print(f"{time.strftime('%Y-%m-%d')}, one thread of {names[0] if names else platform.processor()}, ", end="")
    print(f"Python {platform.python_version()}, NumPy {np.__version__}, {arguments.tokens:,} tokens. ", end="")
    print("Million tokens a CPU-second:\n")
    print("| row length |", " | ".join(measured[256]), "| share of a step |")
    print("|---|" + "---|" * (len(measured[256]) + 1))
    for length, rates in measured.items():
        cells = [f"{length:,}", *(f"{rate / 1e6:,.0f}" for rate in rates.values())]
        print("|", " | ".join(cells), f"| {TRAINED_PER_SECOND / rates['concatenated']:.3%} |")
    print("\nBest fit:", "; ".join(paddings) + ".")
    if arguments.out:
        arguments.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
