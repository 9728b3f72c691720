"""The vocabulary of a GGUF file as a `tokenizer.json`: it lists tokens and merges and only names the splitting rule."""

from __future__ import annotations

from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from herdsman.errors import InputError
from herdsman.model.gguf import GgufFile
from herdsman.tokens.vocabulary import SPLIT_PATTERN

CONTROL, USER_DEFINED = 3, 4
STOP_KEYS = ("eos_token_id", "eot_token_id", "eom_token_id")


def _llama3_split() -> Any:
    split = pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated", False)
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _smollm_split() -> Any:
    """Every digit by itself, then GPT-2's rule."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )


def _gpt2_split() -> Any:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


# By `tokenizer.ggml.pre`: the splitting rule, and whether a word that is a token is taken without merging.
SPLITS = {"llama-bpe": (_llama3_split, True), "smollm": (_smollm_split, False), "gpt-2": (_gpt2_split, False)}


def tokenizer_json(file: GgufFile) -> str:
    """Text of a `tokenizer.json` with the file's tokens, merges and ids.

    Raises:
        InputError: the vocabulary is not byte-level BPE with a splitting rule known here, or is not whole.
    """
    kind, rule = file.get("tokenizer.ggml.model"), file.get("tokenizer.ggml.pre")
    for key, value, known in (("model", kind, ["gpt2"]), ("pre", rule, list(SPLITS))):
        if value not in known:
            raise InputError(
                f"tokenizer.ggml.{key} is {value!r} and {' or '.join(map(repr, known))} is supported",
                where=file.path,
                do="import the Hugging Face folder of the same model: its tokenizer.json says all",
            )
    split, ignore_merges = SPLITS[rule]
    tokens, types = file.get("tokenizer.ggml.tokens"), file.get("tokenizer.ggml.token_type")
    merges = file.get("tokenizer.ggml.merges")
    whole = isinstance(tokens, list) and isinstance(merges, list) and len(set(tokens)) == len(tokens)
    if not whole or types is None or len(types) != len(tokens) or len(tokens) != file.vocab_size:
        raise InputError("the vocabulary is not whole", where=file.path, do="fetch the file again")
    try:
        pairs = [tuple(merge.split(" ")) for merge in merges]
        tokenizer = Tokenizer(
            models.BPE(vocab={token: id for id, token in enumerate(tokens)}, merges=pairs, ignore_merges=ignore_merges)
        )
    except Exception as error:  # The library raises nothing narrower for merges of unknown tokens.
        raise InputError(f"the merges do not fit the tokens ({error})", where=file.path, do="fetch it again") from error
    tokenizer.pre_tokenizer = split()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(
        [
            AddedToken(token, special=type == CONTROL, normalized=False)
            for token, type in zip(tokens, types, strict=True)
            if type in (CONTROL, USER_DEFINED)
        ]
    )
    bos = file.get("tokenizer.ggml.bos_token_id")
    if bos is not None and file.get("tokenizer.ggml.add_bos_token", rule == "llama-bpe"):
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[bos]} $A", pair=None, special_tokens=[(tokens[bos], bos)]
        )
    return tokenizer.to_str() + "\n"


def stop_ids(file: GgufFile) -> frozenset[int]:
    """Tokens that end what the model writes, as the file names them."""
    named = (file.get(f"tokenizer.ggml.{key}") for key in STOP_KEYS)
    return frozenset(id for id in named if id is not None)
