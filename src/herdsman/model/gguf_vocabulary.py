"""The vocabulary of a GGUF file as a `tokenizer.json` and back: it lists tokens and merges and only names the splitting
rule, so only those rules can be told that llama.cpp has a name for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from herdsman.errors import InputError
from herdsman.model.gguf import GgufFile
from herdsman.tokens.vocabulary import SPLIT_PATTERN

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def _llama3_split() -> Any:
    split = pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated", False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _smollm_split() -> Any:
    """Every digit by itself, then GPT-2's rule."""
    digits = pre_tokenizers.Digits(individual_digits=True)
    return pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _gpt2_split() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


# By `tokenizer.ggml.pre`: the splitting rule, and whether a word that is a token is taken without merging.
SPLITS = {"llama-bpe": (_llama3_split, True), "smollm": (_smollm_split, False), "gpt-2": (_gpt2_split, False)}


def tokenizer_json(file: GgufFile) -> str:
    """Text of a `tokenizer.json` with the file's tokens, merges and ids.

    Raises:
        InputError: the vocabulary is neither byte-level BPE with a splitting rule known here nor SentencePiece's BPE,
            or it is not whole.
    """
    tokens, types = file.get("tokenizer.ggml.tokens"), file.get("tokenizer.ggml.token_type")
    kind = file.get("tokenizer.ggml.model")
    if kind not in ("gpt2", "llama"):
        raise _unknown(file, "tokenizer.ggml.model", kind, ["gpt2", "llama"])
    if not isinstance(tokens, list) or not isinstance(types, list) or len(types) != len(tokens):
        raise _not_whole(file)
    if len(set(tokens)) != len(tokens) or len(tokens) != file.vocab_size:
        raise _not_whole(file)
    try:
        tokenizer = _byte_level(file, tokens, types) if kind == "gpt2" else _sentencepiece(file, tokens, types)
    except InputError:
        raise
    except Exception as error:  # The library raises nothing narrower for merges of unknown tokens.
        raise InputError(f"the merges do not fit the tokens ({error})", where=file.path, do="fetch it again") from error
    tokenizer.add_tokens(
        [
            AddedToken(token, special=type == CONTROL, normalized=False)
            for token, type in zip(tokens, types, strict=True)
            if type in (CONTROL, USER_DEFINED)
        ]
    )
    begins = file.get("tokenizer.ggml.add_bos_token", kind == "llama" or file.get("tokenizer.ggml.pre") == "llama-bpe")
    bos = file.get("tokenizer.ggml.bos_token_id")
    if bos is not None and begins:
        if not 0 <= bos < len(tokens):
            raise _not_whole(file)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A", pair=None, special_tokens=[(tokens[bos], bos)]
        )
    return tokenizer.to_str() + "\n"


def stop_ids(file: GgufFile) -> frozenset[int]:
    """Tokens that end what the model writes, as the file names them."""
    named = (file.get(f"tokenizer.ggml.{key}") for key in STOP_KEYS)
    return frozenset(id for id in named if id is not None)


def _byte_level(file: GgufFile, tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """GPT-2's kind, and Llama 3's: merges are listed in their order."""
    rule, merges = file.get("tokenizer.ggml.pre"), file.get("tokenizer.ggml.merges")
    if rule not in SPLITS:
        raise _unknown(file, "tokenizer.ggml.pre", rule, list(SPLITS))
    if not isinstance(merges, list):
        raise _not_whole(file)
    split, ignore_merges = SPLITS[rule]
    ids = {token: id for id, token in enumerate(tokens) if types[id] != UNUSED}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs, ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = split()
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentencepiece(file: GgufFile, tokens: Sequence[str], types: Sequence[int]) -> Tokenizer:
    """Llama 2's kind: of all neighbours that make a token, those that make the one of the highest score are merged."""
    scores = file.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise _not_whole(file)
    ids = {token: id for id, token in enumerate(tokens)}
    merges = [
        (-scores[id], ids[token[:place]], ids[token[place:]])
        for id, (token, type) in enumerate(zip(tokens, types, strict=True))
        if type == NORMAL
        for place in range(1, len(token))
        if token[:place] in ids and token[place:] in ids
    ]
    pairs = [(tokens[left], tokens[right]) for _, left, right in sorted(merges)]
    unknown = tokens[file.get("tokenizer.ggml.unknown_token_id", 0)]
    tokenizer = Tokenizer(models.BPE(vocab=ids, merges=pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    marks: list[Any] = [normalizers.Replace(" ", "▁")]
    if file.get("tokenizer.ggml.add_space_prefix", True):
        marks.insert(0, normalizers.Prepend("▁"))
    tokenizer.normalizer = normalizers.Sequence(marks)
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def add_vocabulary(writer: gguf.GGUFWriter, tokenizer_json: str, rows: int, where: Path) -> None:
    """Adds tokens, merges and the name of the splitting rule of a byte-level vocabulary to a file that is written.

    Args:
        tokenizer_json: text of a `tokenizer.json`.
        rows: of the model's embedding; those without a token are listed as unused.
        where: the tokenizer's folder, for complaints.

    Raises:
        InputError: llama.cpp has no name for this vocabulary's rules, so it would give other ids.
    """
    parsed: dict[str, Any] = json.loads(Tokenizer.from_str(tokenizer_json).to_str())
    model, added = parsed["model"], {token["id"]: token for token in parsed["added_tokens"]}
    rule = _rule_of(parsed)
    trimmed = any(token["lstrip"] or token["rstrip"] or token["single_word"] for token in added.values())
    if rule is None or trimmed:
        raise InputError(
            "llama.cpp knows no such vocabulary (it knows byte-level BPE split as by Llama 3, SmolLM or GPT-2, without "
            "normalisation)",
            where=where,
            do="export with --to hf",
        )
    tokens, types = [f"[PAD{id}]" for id in range(rows)], [UNUSED] * rows
    for token, id in model["vocab"].items():
        tokens[id], types[id] = token, NORMAL
    for id, token in added.items():
        tokens[id], types[id] = token["content"], CONTROL if token["special"] else USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(rule)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])


def _rule_of(parsed: Mapping[str, Any]) -> str | None:
    """llama.cpp's name for the way from a text to tokens in a `tokenizer.json`, or None."""
    model = parsed["model"]
    plain = parsed["normalizer"] is None and not any(
        model.get(key) for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
    )
    if model["type"] != "BPE" or not plain or not model["merges"]:
        return None
    for name, (split, ignore_merges) in SPLITS.items():
        example = Tokenizer(models.BPE())
        example.pre_tokenizer = split()
        expected = json.loads(example.to_str())["pre_tokenizer"]
        if _steps(parsed["pre_tokenizer"]) == _steps(expected) and model["ignore_merges"] == ignore_merges:
            return name
    return None


def _steps(pre_tokenizer: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a splitting rule, without what only moves the places in the text that they report."""
    steps = (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer or {}])
    return [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]


def _unknown(file: GgufFile, key: str, value: object, known: Sequence[str]) -> InputError:
    return InputError(
        f"{key} is {value!r} and only {' or '.join(map(repr, known))} is supported",
        where=file.path,
        do="import the Hugging Face folder of the same model: its tokenizer.json says all",
    )


def _not_whole(file: GgufFile) -> InputError:
    return InputError("the vocabulary is not whole", where=file.path, do="fetch the file again")
