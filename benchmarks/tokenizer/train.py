"""Learning a vocabulary, against Hugging Face's trainer: same texts, same splitting rule, same size, one thread.

    python benchmarks/tokenizer/train.py TEXTS.parquet [--megabytes 50] [--sizes 32000 128000] [--rounds 3] [--out FILE]

TEXTS.parquet is made by texts.py. Each run is a process of its own, in turns; CPU and wall seconds count from the texts
in memory to the ranks, memory is what the peak rose by meanwhile. `shared` is how many tokens both vocabularies have:
they differ where pairs are equally frequent.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from common import arguments, in_turns, peak_memory_bytes, read_texts, show

from herdsman.tokens.learn import train
from herdsman.tokens.tokenizer import guarded
from herdsman.tokens.vocabulary import SPLIT_PATTERN


def with_herdsman(texts: list[str], size: int) -> set[bytes]:
    return set(train((part for text in texts for part in guarded(text)), size))


def with_hugging_face(texts: list[str], size: int) -> set[bytes]:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated", False)
    bytewise = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytewise])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
    return {bytes(byte_of[letter] for letter in token) for token in tokenizer.get_vocab()}


TRAINERS = {"herdsman (rustbpe)": with_herdsman, "Hugging Face tokenizers": with_hugging_face}


def one(texts: list[str], total_bytes: int, name: str, size: int, tokens_file: Path) -> None:
    before, wall, cpu = peak_memory_bytes(), time.perf_counter(), time.process_time()
    tokens = TRAINERS[name](texts, size)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    tokens_file.write_text(json.dumps(sorted(token.hex() for token in tokens)))
    row = {"trainer": name, "tokens": len(tokens), "megabytes": round(total_bytes / 1e6), "cpu_seconds": round(cpu, 2)}
    row |= {"wall_seconds": round(wall, 2), "memory_megabytes": round((peak_memory_bytes() - before) / 1e6)}
    print(json.dumps(row))


def main() -> None:
    def more(parser: object) -> None:
        parser.add_argument("--megabytes", type=float, default=50)  # type: ignore[attr-defined]
        parser.add_argument("--sizes", type=int, nargs="+", default=[32_000, 128_000])  # type: ignore[attr-defined]

    options = arguments("Learning a vocabulary, against Hugging Face's trainer.", more)
    if options.one:
        texts, total_bytes = read_texts(options.texts, options.megabytes)
        name, size, tokens_file = options.one
        return one(texts, total_bytes, name, int(size), Path(tokens_file))
    with tempfile.TemporaryDirectory() as folder:
        runs, files = [], []
        for size in options.sizes:
            for number, name in enumerate(TRAINERS):
                files.append(Path(folder) / f"{number}-{size}.json")
                more_arguments = [name, str(size), str(files[-1])]
                runs.append([str(options.texts), "--megabytes", str(options.megabytes), "--one", *more_arguments])
        rows = in_turns(__file__, runs, options.rounds)
        for at in range(0, len(rows), 2):
            ours, theirs = (set(json.loads(file.read_text())) for file in files[at : at + 2])
            times = rows[at + 1]["cpu_seconds"] / rows[at]["cpu_seconds"]
            rows[at] |= {"times_hugging_face": round(times, 2), "shared": len(ours & theirs)}
            rows[at + 1] |= {"times_hugging_face": 1.0, "shared": len(ours & theirs)}
    return show(rows, options.out, rounds=options.rounds)


if __name__ == "__main__":
    main()
