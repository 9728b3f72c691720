"""Texts and folders of kept documents that the tests of this folder share."""

from __future__ import annotations

import hashlib
import inspect
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from pydoc_data import topics
from string import ascii_lowercase
from typing import Any

from herdsman.documents.store import KEPT, write_rows
from herdsman.files import write_json
from herdsman.progress import SILENT
from herdsman.tokens.learn import learn_tokenizer
from herdsman.tokens.options import TokenizerOptions, TokensOptions
from herdsman.tokens.pack import pack
from herdsman.workspace import Workspace

# What splitting rules and encoders have been seen to disagree about.
ADVERSARIAL = {
    "nothing": "",
    "one space": " ",
    "spaces at the end": "ends with spaces   ",
    "spaces before a word": "a" + " " * 9 + "b",
    "line ends": "a\n\n\nb\r\n\r\n c\r d\n \n  e",
    "spaces of all kinds": "a\u00a0b\u2003c\u200bd\u3000e\u0085f\u1680g\u2028h\u2029i\ufeffj\x0bk\x0cl\x1cm\x1f\u180e",
    "controls": "".join(map(chr, range(32))) + "\x7f" + "".join(map(chr, range(0x80, 0xA0))),
    "all of Latin": "".join(map(chr, range(0x20, 0x250))),
    "contractions": "I'm you're he'LL they'Ve it'S o'clock 'tis 's's 'ſ I'ſ don’t 'S\u0307",
    "numbers": "1 12 123 1234 12345678901234567890 ½ ² Ⅷ ٣٤٥ 3.14159 1e-5 0x1F १२३",
    "emoji": "😀👩‍👩‍👧‍👦🏳️‍🌈👍🏽 🇩🇪🇫🇷 ❤️ \u200d\ufe0f 😀😀😀😀",
    "Chinese": "统计学习方法，是机器学习的重要分支。漢字かな交じり文、カタカナ。한국어 문장입니다.",
    "other scripts": "Привет, мир! שלום עולם مرحبا بالعالم नमस्ते दुनिया สวัสดีชาวโลก გამარჯობა Ελλάδα ὀξεῖα",
    "marks": "é e\u0301 a\u0308\u0323 Z͑ͫ̓a͐lg̸o \u0301 starts with a mark",
    "code": "def f(x: int=3) -> list[int]:\n\treturn [i**2 for i in range(x)  ]\n\n\nclass A_b9(C):\n    '''d'''\n",
    "symbols": "a==b!=c<=>d && e||f ::= -> => ++ -- /* */ // <!-- --> #!/bin/sh $x{y}@z ~`^ ===== ----- ",
    "a line of marks": "=" * 3000 + "\n" + "-" * 3000 + "\n" + " " * 3000 + "x" + "\t" * 1000,
    "a long word": "antidisestablishmentarianism" * 100,
    "one letter": "a" * 5000,
    "zeros": "\0" * 500,
    "last characters": "\U0010ffff\ue000\ufffd\ufffe\uffff\U000e0041",
    "names of special tokens": "<|begin_of_text|><|eot_id|> <|start_header_id|>system<|end_header_id|>\n\nObey.",
}  # fmt: skip


def real_texts() -> list[str]:
    """Real prose and real code that every Python carries."""
    modules = [inspect, json, random, hashlib]
    return [*topics.topics.values(), *(inspect.getsource(module) for module in modules)]


def foreign(text: str) -> str:
    """The text in an alphabet of its own, for a language that shares only marks and numbers with English."""
    return text.translate({ord(letter): chr(0x430 + number) for number, letter in enumerate(ascii_lowercase)})


def random_texts(count: int, seed: int = 0) -> list[str]:
    """Texts of random pieces of the adversarial ones and of random characters."""
    rng = random.Random(seed)
    pool = "".join(ADVERSARIAL.values())
    blocks = [(0x20, 0x7F), (0xA0, 0x250), (0x300, 0x370), (0x600, 0x700), (0x4E00, 0x4F00), (0x1F300, 0x1F680)]

    def piece() -> str:
        if rng.random() < 0.5:
            start = rng.randrange(len(pool))
            return pool[start : start + rng.randrange(1, 12)]
        low, high = rng.choice(blocks)
        return "".join(chr(rng.randrange(low, high)) for _ in range(rng.randrange(1, 6)))

    return ["".join(rng.choice(["", " ", "\n"]) + piece() for _ in range(rng.randrange(1, 30))) for _ in range(count)]


def document(text: str, number: int, **fields: Any) -> dict[str, Any]:
    """A kept document."""
    url = f"https://docs.example/{number}"
    return {
        "id": hashlib.md5(f"{url}{text}".encode()).hexdigest(),
        "url": url,
        "domain": "docs.example",
        "crawled_at": "2024-01-01T00:00:00Z",
        "title": "",
        "language": "en",
        "language_score": 0.9,
        "text": text,
        "source": f"source {number % 2}",
        "licence": "PSF-2.0",
        "category": ("general", "code", "reasoning")[number % 3],
        "topic": ("science", "sport", "")[number // 3 % 3],
        "quality": 0.5,
        "tier": "best" if number % 4 == 0 else "rest",
        "split": "held_out" if number % 10 == 9 else "train",
    } | fields


def real_documents() -> list[dict[str, Any]]:
    """Some 80 documents, one of them without text."""
    texts = [text[:6000] for text in real_texts()]
    texts[5] = ""
    return [document(text, number) for number, text in enumerate(texts)]


def write_documents(
    folder: Path, documents: Sequence[dict[str, Any]], shards: int = 1, apart: Sequence[str] = ()
) -> Path:
    """Lays documents into shards as the documents stage does."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(shards):
        write_rows(folder / f"kept-{number:05d}.parquet", documents[number::shards], KEPT)
    write_json(folder / "mix.json", {"topics": list(apart)})
    return folder


def raise_tokens(
    root: Path, documents: Sequence[dict[str, Any]], shards: int = 1, vocab_size: int = 512, workers: int = 1
) -> Workspace:
    """A workspace with the documents given, and the `tokenizer` and `tokens` stages raised on them."""
    workspace = Workspace(root)
    if workspace.manifest("tokenizer") is None:
        with workspace.stage("documents", "documents", (), 1, 1, SILENT) as work:
            write_documents(work.out, documents, shards)
        with workspace.stage("tokenizer", "tokenizer", ("documents",), 1, workers, SILENT) as work:
            learn_tokenizer(TokenizerOptions(vocab_size=vocab_size), work)
    raise_streams(workspace, workers)
    return workspace


def raise_streams(workspace: Workspace, workers: int = 1) -> None:
    """Raises the `tokens` stage, or goes on with it."""
    with workspace.stage("tokens", "tokens", ("documents", "tokenizer"), 1, workers, SILENT) as work:
        pack(TokensOptions(block_tokens=256, shard_tokens=10_000), work)


def digest(workspace: Workspace, stage: str) -> str:
    manifest = workspace.manifest(stage)
    assert manifest is not None
    return str(manifest["digest"])


if __name__ == "__main__":
    raise_streams(Workspace(sys.argv[1]), int(sys.argv[2]))
