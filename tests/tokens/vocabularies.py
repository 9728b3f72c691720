"""Small vocabularies of both kinds, as GGUF metadata and as a `tokenizer.json`, learnt from a few texts."""

from __future__ import annotations

import json
from typing import Any

import gguf
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from herdsman.tokens.learn import train
from herdsman.tokens.vocabulary import SPECIAL_NAMES, Ranks

TEXTS = [
    "The with statement opens a file and closes it, even if an error occurs in 2026.",
    "Grüße aus Köln! 日本語のテキスト、そして emoji 🐑🐑. It's we'll I'D 1234567",
    "def open_file(path):\n    with open(path) as file:\n        return file.read()\n\n\n  spaces   and\ttabs\r\n",
]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def llama3_ranks() -> Ranks:
    return train(TEXTS * 20, 330)


def foreign_json(beginning: bool = False) -> str:
    """Byte-level BPE in the manner of SmolLM: digits by themselves, special tokens in front."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS * 20, trainer)
    if beginning:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|im_start|> $A", special_tokens=[("<|im_start|>", 1)]
        )
    return tokenizer.to_str()


def add_to_gguf(writer: gguf.GGUFWriter, tokenizer_json: str, pre: str, **ids: int) -> None:
    """What llama.cpp's converter writes for a `tokenizer.json`; special tokens by their id in it."""
    parsed: dict[str, Any] = json.loads(tokenizer_json)
    special = {token["id"]: token["content"] for token in parsed["added_tokens"]}
    tokens = special | {id: token for token, id in parsed["model"]["vocab"].items()}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list([tokens[id] for id in range(len(tokens))])
    kinds = [gguf.TokenType.CONTROL if id in special else gguf.TokenType.NORMAL for id in range(len(tokens))]
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(merge) for merge in parsed["model"]["merges"]])
    for name, id in ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}", id)


def frame(count: int) -> dict[str, int]:
    """Ids of Llama 3's special tokens behind `count` tokens."""
    return {name: count + place for place, name in enumerate(SPECIAL_NAMES)}
