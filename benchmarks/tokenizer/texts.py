"""Makes the texts of the tokenizer's benchmarks: the main content of the refinery's corpus, with its language.

    python benchmarks/refinery/corpus.py CORPUS
    python benchmarks/tokenizer/texts.py CORPUS TEXTS.parquet [--processes 2]

One row a page with any text, in the corpus's order, which interleaves all packages and languages; no filters, but pages
with the same text are taken once. Columns: language, text.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet

from herdsman.documents.extraction.extract import extract
from herdsman.documents.extraction.hostile import HostileMarkup
from herdsman.documents.filtering.language import identify
from herdsman.pages.warc import read_warc

MOST_PAGE_BYTES = 5 * 2**20


def texts_of(path: Path) -> pa.Table:
    languages, texts = [], []
    with open(path, "rb") as file:
        for page in read_warc(file, Counter(), MOST_PAGE_BYTES):
            try:
                text = extract(page.html, page.content_type).text
            except HostileMarkup:
                continue
            if text:
                languages.append(identify(text)[0])
                texts.append(text)
    return pa.table({"language": languages, "text": texts})


def once(table: pa.Table, seen: set[bytes]) -> pa.Table:
    fresh = []
    for text in table["text"].to_pylist():
        key = blake2b(text.encode(), digest_size=16).digest()
        fresh.append(key not in seen)
        seen.add(key)
    return table.filter(pa.array(fresh))


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the texts of the tokenizer's benchmarks.")
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    options = parser.parse_args()
    seen: set[bytes] = set()
    with ProcessPoolExecutor(options.processes) as pool:
        files = sorted((options.corpus / "warc").glob("*.warc.gz"))
        table = pa.concat_tables(map(partial(once, seen=seen), pool.map(texts_of, files)))
    parquet.write_table(table, options.out, compression="zstd", row_group_size=1000)
    sizes: Counter[str] = Counter()
    for language, text in zip(table["language"].to_pylist(), table["text"].to_pylist(), strict=True):
        sizes[language] += len(text.encode())
    print(f"{len(table):,} texts, {sum(sizes.values()):,} bytes:", dict(sizes.most_common(24)))


if __name__ == "__main__":
    main()
