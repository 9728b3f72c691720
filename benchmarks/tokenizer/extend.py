"""Llama 3's recipe for more languages: a base learned from English, and tokens learned from all others after it.

    python benchmarks/tokenizer/extend.py TEXTS.parquet [--megabytes 150] [--base 100000] [--extension 28000]

TEXTS.parquet is made by texts.py. Bytes a token on every twentieth text, which nothing is learned from: with the base,
with the base extended, and with one vocabulary of the same size learned from all texts at once.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
from common import arguments, show

from herdsman.tokens.draw import Balance
from herdsman.tokens.learn import train
from herdsman.tokens.options import TokenizerOptions
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import extend

HELD_OUT = 20


def read_rows(path: Path, megabytes: float) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    total = 0
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(1000, columns=["language", "text"]):
            for row in batch.to_pylist():
                if total >= megabytes * 1e6:
                    return rows
                rows.append((row["language"], row["text"]))
                total += len(row["text"].encode())
    return rows


def main() -> None:
    def more(parser: Any) -> None:
        parser.add_argument("--megabytes", type=float, default=150)
        parser.add_argument("--base", type=int, default=100_000)
        parser.add_argument("--extension", type=int, default=28_000)

    options = arguments("Llama 3's recipe for more languages.", more)
    rows = read_rows(options.texts, options.megabytes)
    held_out = rows[::HELD_OUT]
    learned_from = [(str(at), *row) for at, row in enumerate(rows) if at % HELD_OUT]
    english = [text for _, language, text in learned_from if language == "en"]
    others = [(id, language, text) for id, language, text in learned_from if language != "en"]
    cpu = time.process_time()
    base = train(english, options.base)
    base_seconds, cpu = time.process_time() - cpu, time.process_time()
    balance = Balance.choose(
        ((id, language, len(text.encode())) for id, language, text in others),
        10**9,
        TokenizerOptions().language_exponent,
    )
    drawn = (text for id, language, text in others for _ in range(balance.times(id, language)))
    extended = extend(base, train(drawn, options.base + options.extension), options.extension)
    extension_seconds, cpu = time.process_time() - cpu, time.process_time()
    together = train((text for _, _, text in learned_from), options.base + options.extension)
    together_seconds = time.process_time() - cpu
    tokens: dict[str, Counter[str]] = {}
    for name, ranks in {"base": base, "extended": extended, "all at once": together}.items():
        counts = np.diff(Tokenizer(ranks).encode_arrays([text for _, text in held_out])[1]).tolist()
        tokens[name] = Counter()
        for (language, _), count in zip(held_out, counts, strict=True):
            tokens[name].update({language: count, "all": count})
            tokens[name]["others"] += count * (language != "en")
    sizes: Counter[str] = Counter()
    for language, text in held_out:
        size = len(text.encode())
        sizes.update({language: size, "all": size})
        sizes["others"] += size * (language != "en")
    table = []
    for language, size in sizes.most_common(20):
        row: dict[str, Any] = {"language": language, "held_out_bytes": f"{size:,}"}
        row |= {name: round(size / tokens[name][language], 3) for name in tokens}
        row["fewer_tokens"] = f"{1 - tokens['extended'][language] / tokens['base'][language]:.2%}"
        table.append(row)
    seconds = {"base": base_seconds, "extension": extension_seconds, "all at once": together_seconds}
    show(
        table,
        options.out,
        cpu_seconds={name: round(value, 1) for name, value in seconds.items()},
        tokens={"base": len(base), "extended": len(extended), "all at once": len(together)},
        english_bytes=sum(len(text.encode()) for text in english),
        others_bytes=sum(len(text.encode()) for _, _, text in others),
        drawn=balance.summary(),
    )


if __name__ == "__main__":
    main()
