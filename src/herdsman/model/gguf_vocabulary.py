"""The vocabulary of a GGUF file as a `tokenizer.json`: it lists tokens and merges and only names the splitting rule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from herdsman.errors import InputError
from herdsman.model.gguf import GgufFile
from herdsman.tokens.vocabulary import SPLIT_PATTERN

NORMAL, CONTROL, USER_DEFINED = 1, 3, 4
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
        tokenizer = _byte_level(file, tokens) if kind == "gpt2" else _sentencepiece(file, tokens, types)
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


def _byte_level(file: GgufFile, tokens: Sequence[str]) -> Tokenizer:
    """GPT-2's kind, and Llama 3's: merges are listed in their order."""
    rule, merges = file.get("tokenizer.ggml.pre"), file.get("tokenizer.ggml.merges")
    if rule not in SPLITS:
        raise _unknown(file, "tokenizer.ggml.pre", rule, list(SPLITS))
    if not isinstance(merges, list):
        raise _not_whole(file)
    split, ignore_merges = SPLITS[rule]
    ids = {token: id for id, token in enumerate(tokens)}
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


def _unknown(file: GgufFile, key: str, value: object, known: Sequence[str]) -> InputError:
    return InputError(
        f"{key} is {value!r} and only {' or '.join(map(repr, known))} is supported",
        where=file.path,
        do="import the Hugging Face folder of the same model: its tokenizer.json says all",
    )


def _not_whole(file: GgufFile) -> InputError:
    return InputError("the vocabulary is not whole", where=file.path, do="fetch the file again")
