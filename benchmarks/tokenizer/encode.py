"""Encoding, against tiktoken and Hugging Face's tokenizers: same texts, same vocabulary, one thread.

    pip install gigatoken          (a peer; left out where it is not installed)
    python benchmarks/tokenizer/encode.py TEXTS.parquet [--vocabulary FILE ...] [--megabytes 10] [--rounds 3]

TEXTS.parquet is made by texts.py; FILE is a tokenizer.model, measured beside Llama 3's in the llama-models wheel. Each
run is a process of its own, in turns. Megabytes a CPU second: cold is the first pass over the texts, warm the second,
when caches of words are full. `load` is CPU seconds until the encoder is ready; memory is what the resident set rose
by from before loading to after the first pass, ids kept. `ids` compares every text's ids with tiktoken's.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, in_turns, read_texts, show

from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import SPLIT_PATTERN, read_ranks, write_huggingface

Encode = Callable[[list[str]], Any]
AT_ONCE = 256


def herdsman(model: Path, _: Path) -> Encode:
    tokenizer = Tokenizer.load(model)
    tokenizer._characters_before_fast = 0
    assert tokenizer._fast is not None
    return tokenizer.encode_arrays


def herdsman_lists(model: Path, _: Path) -> Encode:
    herdsman_tokenizer = Tokenizer.load(model)
    herdsman_tokenizer._characters_before_fast = 0
    assert herdsman_tokenizer._fast is not None
    return herdsman_tokenizer.encode_batch


def herdsman_without_fastokens(model: Path, _: Path) -> Encode:
    sys.modules["fastokens"] = None  # type: ignore[assignment]
    return Tokenizer.load(model).encode_arrays


def tiktoken(model: Path, _: Path) -> Encode:
    from tiktoken import Encoding

    encoding = Encoding("peer", pat_str=SPLIT_PATTERN, mergeable_ranks=read_ranks(model), special_tokens={})
    return lambda texts: list(map(encoding.encode_ordinary, texts))


def hugging_face(_: Path, description: Path) -> Encode:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(description))
    return lambda texts: [found.ids for found in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]


def gigatoken(_: Path, description: Path) -> Encode:
    from gigatoken import Tokenizer

    tokenizer = Tokenizer.from_json(description.read_text(encoding="utf-8"))
    return lambda texts: list(map(tokenizer.encode, texts))


ENCODERS: dict[str, Callable[[Path, Path], Encode]] = {
    "Herdsman, arrays": herdsman,
    "Herdsman, lists": herdsman_lists,
    "Herdsman without fastokens": herdsman_without_fastokens,
    "tiktoken": tiktoken,
    "Hugging Face tokenizers": hugging_face,
    "gigatoken": gigatoken,
}


def digests(encoded: list[Any], texts: list[str]) -> str:
    """One hash over the ids of every text."""
    hashed = blake2b(digest_size=16)
    for batch, at in zip(encoded, range(0, len(texts), AT_ONCE), strict=True):
        if isinstance(batch, tuple):
            ids, starts = batch
            batch = [ids[start:end] for start, end in pairwise(starts)]
        assert len(batch) == len(texts[at : at + AT_ONCE])
        for ids in batch:
            hashed.update(len(ids).to_bytes(8, "little") + np.asarray(ids, np.uint32).tobytes())
    return hashed.hexdigest()


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def one(texts: list[str], total_bytes: int, name: str, vocabulary: str, model: Path, description: Path) -> None:
    batches = [texts[at : at + AT_ONCE] for at in range(0, len(texts), AT_ONCE)]
    memory, cpu = resident_bytes(), time.process_time()
    encode = ENCODERS[name](model, description)
    load = time.process_time() - cpu
    rates = []
    for _ in range(2):
        cpu = time.process_time()
        encoded = list(map(encode, batches))
        rates.append(total_bytes / 1e6 / (time.process_time() - cpu))
        if len(rates) == 1:
            memory = resident_bytes() - memory
    row = {"vocabulary": vocabulary, "encoder": name, "load_seconds": round(load, 2), "cold": round(rates[0], 1)}
    row |= {"warm": round(rates[1], 1), "memory_megabytes": round(memory / 1e6), "ids": digests(encoded, texts)}
    print(json.dumps(row))


def llama_3() -> Path:
    spec = importlib.util.find_spec("llama_models.llama3")
    if spec is None or spec.origin is None:
        raise SystemExit("Llama 3's vocabulary comes with: pip install llama-models")
    return Path(spec.origin).with_name("tokenizer.model")


def main() -> None:
    def more(parser: Any) -> None:
        parser.add_argument("--megabytes", type=float, default=10)
        parser.add_argument("--vocabulary", type=Path, nargs="+", default=[])

    options = arguments("Encoding, against tiktoken and Hugging Face's tokenizers.", more)
    if options.one:
        name, vocabulary, model, description = options.one
        texts, total_bytes = read_texts(options.texts, options.megabytes)
        return one(texts, total_bytes, name, vocabulary, Path(model), Path(description))
    models = {"Llama 3": llama_3()} | {path.stem: path for path in options.vocabulary}
    encoders = [name for name in ENCODERS if name != "gigatoken" or importlib.util.find_spec("gigatoken")]
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for number, (vocabulary, model) in enumerate(models.items()):
            description = Path(folder) / f"{number}.json"
            write_huggingface(description, read_ranks(model))
            start = [str(options.texts), "--megabytes", str(options.megabytes), "--one"]
            runs += [[*start, name, vocabulary, str(model), str(description)] for name in encoders]
        rows = in_turns(__file__, runs, options.rounds)
    for vocabulary in models:
        some = {row["encoder"]: row for row in rows if row["vocabulary"] == vocabulary}
        expected = some["tiktoken"]["ids"]
        for row in some.values():
            row["ids"] = "same" if row["ids"] == expected else "differ"
            row["times_tiktoken_cold"] = round(row["cold"] / some["tiktoken"]["cold"], 2)
            row["times_hugging_face_cold"] = round(row["cold"] / some["Hugging Face tokenizers"]["cold"], 1)
    return show(rows, options.out, megabytes=options.megabytes, rounds=options.rounds)


if __name__ == "__main__":
    main()
