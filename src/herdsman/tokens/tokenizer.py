"""Text to ids and back: Llama 3's tokenizer over any vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import tiktoken

from herdsman.errors import InputError
from herdsman.parallel import available_cores
from herdsman.tokens.vocabulary import MODEL_FILE, SPLIT_PATTERN, Ranks, read_ranks, special_ids

MOST_CHARACTERS = 400_000
LONGEST_RUN = 25_000
_RUN = re.compile(r"\S+|\s+")
# Runs are looked for only where one begins, so that the search is linear in the text.
_TOO_LONG = re.compile(rf"(?<!\S)\S{{{LONGEST_RUN + 1}}}|(?<!\s)\s{{{LONGEST_RUN + 1}}}")


class Tokenizer:
    """Encodes text with Llama 3's rules.

    Ids below the number of BPE tokens are pieces of text, the 256 after them are special tokens. Text never becomes a
    special token: `<|eot_id|>` in a document is ten characters like any others.

    Attributes:
        vocab_size: number of ids, special tokens included: the rows of an embedding table.
        special: ids of the special tokens by name.
        stop_ids: tokens that end what a model writes.
    """

    def __init__(self, ranks: Ranks):
        self.special = special_ids(ranks)
        self.bpe_tokens = len(ranks)
        self.vocab_size = len(ranks) + len(self.special)
        self.bos = self.special["<|begin_of_text|>"]
        self.end_of_text = self.special["<|end_of_text|>"]
        self.pad = self.special["<|finetune_right_pad_id|>"]
        self.start_header = self.special["<|start_header_id|>"]
        self.end_header = self.special["<|end_header_id|>"]
        self.eom = self.special["<|eom_id|>"]
        self.eot = self.special["<|eot_id|>"]
        self.python_tag = self.special["<|python_tag|>"]
        self.stop_ids = frozenset((self.end_of_text, self.eom, self.eot))
        self._encoding = tiktoken.Encoding(
            "herdsman", pat_str=SPLIT_PATTERN, mergeable_ranks=dict(ranks), special_tokens=self.special
        )

    @classmethod
    def load(cls, folder: Path | str) -> Tokenizer:
        """Reads the vocabulary in a folder, or a `tokenizer.model` file itself, such as Meta's.

        Raises:
            InputError: there is none, or it is damaged.
        """
        path = Path(folder)
        return cls(read_ranks(path / MODEL_FILE if path.is_dir() else path))

    def encode(self, text: str) -> list[int]:
        """Ids of a text, none of them special. Nothing is prepended or appended.

        Lone surrogates, which are no characters, are read as U+FFFD.
        """
        if len(text) <= LONGEST_RUN:
            return self._encoding.encode_ordinary(text)
        return list(chain.from_iterable(map(self._encoding.encode_ordinary, guarded(text))))

    def encode_batch(self, texts: Iterable[str], threads: int | None = None) -> list[list[int]]:
        """Ids of many texts, encoded on several threads (all cores if not said)."""
        threads = threads or available_cores()
        if threads == 1:
            return list(map(self.encode, texts))
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self.encode, texts))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of the ids; special tokens are shown as their names, broken UTF-8 as U+FFFD.

        Raises:
            InputError: an id is not in the vocabulary.
        """
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """UTF-8 bytes of the ids, which may begin or end inside a character.

        Raises:
            InputError: an id is not in the vocabulary.
        """
        try:
            return self._encoding.decode_bytes(ids)
        except (KeyError, OverflowError) as error:
            raise InputError(
                f"there is an id that is not in the vocabulary of {self.vocab_size} ids",
                do="use the tokenizer that these ids were made with",
            ) from error


def guarded(text: str) -> Iterator[str]:
    """Llama 3's guards: slices of at most 400,000 characters, no run of spaces or of other characters over 25,000.

    They keep the splitting rule, which backtracks, from failing on absurd text. Meta's encoder cuts at the same places.
    """
    for start in range(0, len(text), MOST_CHARACTERS):
        part = text[start : start + MOST_CHARACTERS]
        cut = 0
        if _TOO_LONG.search(part):
            for run in _RUN.finditer(part):
                for place in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
                    yield part[cut:place]
                    cut = place
        yield part[cut:]


def readable(token: bytes) -> str:
    """A token for people: its text, with bytes that are not whole characters written as \\xNN."""
    return token.decode("utf-8", errors="backslashreplace")
