"""Tokenizers that come with a model from elsewhere: Llama 3's own where the vocabulary has its form, else as they are.

A vocabulary has Llama 3's form if a `Tokenizer` over its tokens gives the same ids: it splits by Llama 3's pattern,
lists every pair of tokens that makes a token as a merge, in the order of ids, and has 256 special tokens behind, those
that frame a dialog in their places. Then it becomes a `Tokenizer` like that of any herd, chat protocol and all. Every
other vocabulary stays behind the `tokenizers` library, and behind the few methods that generation needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers

from herdsman.errors import InputError
from herdsman.files import read_json, write_json, write_text
from herdsman.tokens.options import SPECIAL_TOKENS
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import (
    HUGGINGFACE_FILE,
    MODEL_FILE,
    SPECIAL_FILE,
    SPECIAL_NAMES,
    SPLIT_PATTERN,
    byte_letters,
    write_ranks,
)

SETTINGS_FILE = "foreign.json"
# Begin and end of text, both ends of a header, end of turn: the names between them differ from release to release.
FRAME = {place: SPECIAL_NAMES[place] for place in (0, 1, 6, 7, 9)}
_BYTE = re.compile("<0x([0-9A-F]{2})>")
_LETTERS = {letter: byte for byte, letter in byte_letters().items()}


class ForeignTokenizer:
    """Any `tokenizer.json` whose tokens stand for bytes. Text never becomes a special token here either.

    Attributes:
        vocab_size: one more than the highest id.
        special: ids of the special tokens by name.
        beginning: what a text begins with: the begin-of-text token, or nothing.
        stop_ids: tokens that end what the model writes.
        pad: filler of batches.
        chat_template: the Jinja text that came with the model, if any. `tokens.template_chat` speaks through it.
    """

    def __init__(self, tokenizer_json: str, stop_ids: frozenset[int], pad: int, chat_template: str | None = None):
        self._tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        begun = self._tokenizer.encode("a")
        self.beginning = begun.ids[:1] if begun.special_tokens_mask[0] else []
        self._tokenizer.encode_special_tokens = True
        added = self._tokenizer.get_added_tokens_decoder()
        self._added = {id: token.content for id, token in added.items()}
        self.special = {token.content: id for id, token in sorted(added.items()) if token.special}
        self.vocab_size = max(self._tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.stop_ids, self.pad, self.chat_template = stop_ids, pad, chat_template
        decoders = _types(json.loads(self._tokenizer.to_str())["decoder"])
        self._byte_level = "ByteLevel" in decoders
        if not self._byte_level and "ByteFallback" not in decoders:
            raise InputError(
                "the tokens stand for no bytes (neither byte-level BPE nor byte fallback)",
                where=HUGGINGFACE_FILE,
                do="import a model with another tokenizer",
            )

    @classmethod
    def load(cls, folder: Path | str) -> ForeignTokenizer:
        """Reads what `write_tokenizer` wrote.

        Raises:
            InputError: there is none, or it is damaged.
        """
        folder = Path(folder)
        try:
            settings = read_json(folder / SETTINGS_FILE)
            text = (folder / HUGGINGFACE_FILE).read_text(encoding="utf-8")
            return cls(text, frozenset(settings["stop_ids"]), settings["pad"], settings["chat_template"])
        except InputError:
            raise
        except Exception as error:  # The library raises nothing narrower for a damaged file.
            raise InputError(
                f"no readable tokenizer here ({error})", where=folder, do="import the model again"
            ) from error

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them special. Nothing is prepended or appended.

        Lone surrogates, which are no characters, are read as U+FFFD.
        """
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens are shown as their names, broken UTF-8 as U+FFFD.

        Raises:
            InputError: an id is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 bytes of the ids, which may begin or end inside a character.

        Where the encoder marks the beginning of a text by a space (SentencePiece), that space stays: what comes here is
        mostly the middle of a text.

        Raises:
            InputError: an id is not in the vocabulary.
        """
        return b"".join(map(self._bytes, ids))

    def _bytes(self, id: int) -> bytes:
        token = self._added.get(id) or self._tokenizer.id_to_token(id)
        if token is None:
            raise InputError(
                f"there is an id that is not in the vocabulary of {self.vocab_size} ids",
                do="use the tokenizer that these ids were made with",
            )
        if id in self._added:
            return token.encode()
        if not self._byte_level:
            byte = _BYTE.fullmatch(token)
            return bytes.fromhex(byte[1]) if byte else token.replace("▁", " ").encode()
        if all(letter in _LETTERS for letter in token):
            return bytes(_LETTERS[letter] for letter in token)
        return token.encode()


def load_tokenizer(folder: Path | str) -> Tokenizer | ForeignTokenizer:
    """The tokenizer in a folder, of either kind.

    Raises:
        InputError: there is none, or it is damaged.
    """
    if (Path(folder) / SETTINGS_FILE).is_file():
        return ForeignTokenizer.load(folder)
    return Tokenizer.load(folder)


def write_tokenizer(
    tokenizer_json: str, stop_ids: frozenset[int], pad: int | None, chat_template: str | None, folder: Path
) -> Tokenizer | ForeignTokenizer:
    """Writes what `load_tokenizer` reads into an existing folder and returns it.

    Args:
        tokenizer_json: text of a `tokenizer.json`, kept as it is.
        stop_ids: tokens that end what the model writes, used where the vocabulary has not Llama 3's form.
        pad: filler of batches; any token does, for it is never looked at.

    Raises:
        InputError: the `tokenizers` library cannot read it, or its tokens stand for no bytes.
    """
    try:
        parsed = json.loads(tokenizers.Tokenizer.from_str(tokenizer_json).to_str())
    except Exception as error:  # The library raises nothing narrower.
        raise InputError(
            f"the `tokenizers` library cannot read it ({error})", where=HUGGINGFACE_FILE, do="fetch it again"
        ) from error
    ranks = llama3_ranks(parsed)
    write_text(folder / HUGGINGFACE_FILE, tokenizer_json)
    if ranks is not None:
        write_ranks(folder / MODEL_FILE, ranks)
        tokenizer = Tokenizer(ranks)
        write_json(folder / SPECIAL_FILE, tokenizer.special)
        return tokenizer
    filler = min(stop_ids, default=0) if pad is None else pad
    foreign = ForeignTokenizer(tokenizer_json, stop_ids, filler, chat_template)
    write_json(folder / SETTINGS_FILE, {"stop_ids": sorted(stop_ids), "pad": filler, "chat_template": chat_template})
    return foreign


def llama3_ranks(parsed: Mapping[str, Any]) -> dict[bytes, int] | None:
    """Bytes and ranks of a vocabulary in Llama 3's form, None for any other.

    Args:
        parsed: a `tokenizer.json` as the `tokenizers` library writes it.
    """
    model, added = parsed["model"], {token["id"]: token for token in parsed["added_tokens"]}
    if model["type"] != "BPE" or not model["ignore_merges"] or parsed["normalizer"] or not _splits_like_llama3(parsed):
        return None
    letters = {token: id for token, id in model["vocab"].items() if id not in added}
    count = len(letters)
    placed = sorted(letters.values()) == list(range(count)) and sorted(added) == list(
        range(count, count + SPECIAL_TOKENS)
    )
    if not placed or any(not token["special"] for token in added.values()):
        return None
    if any(added[count + place]["content"] != name for place, name in FRAME.items()):
        return None
    if any(letter not in letters for letter in _LETTERS) or any(set(token) - _LETTERS.keys() for token in letters):
        return None
    merges = [(left, right) for left, right in model["merges"]]
    ids = [letters.get(left + right, -1) for left, right in merges]
    if ids != sorted(ids) or set(merges) != _all_splits(letters):
        return None
    return {bytes(_LETTERS[letter] for letter in token): id for token, id in letters.items()}


def _splits_like_llama3(parsed: Mapping[str, Any]) -> bool:
    steps = (parsed["pre_tokenizer"] or {}).get("pretokenizers", [])
    if [step["type"] for step in steps] != ["Split", "ByteLevel"]:
        return False
    split, byte_level = steps
    plain = not split["invert"] and not byte_level["add_prefix_space"] and not byte_level["use_regex"]
    return plain and split["behavior"] == "Isolated" and split["pattern"] == {"Regex": SPLIT_PATTERN}


def _all_splits(letters: Mapping[str, int]) -> set[tuple[str, str]]:
    """Every split of a token into two tokens: the pairs that tiktoken joins."""
    return {
        (token[:place], token[place:])
        for token in letters
        for place in range(1, len(token))
        if token[:place] in letters and token[place:] in letters
    }


def _types(value: Any) -> set[str]:
    """All `type` entries in a part of a `tokenizer.json`."""
    if isinstance(value, Mapping):
        return {value["type"]} | set().union(*map(_types, value.values())) if "type" in value else set()
    return set().union(*map(_types, value)) if isinstance(value, list) else set()
