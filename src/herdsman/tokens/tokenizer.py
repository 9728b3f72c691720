"""Text to ids and back: Llama 3's tokenizer over any vocabulary."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import accumulate, chain, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tiktoken
from numpy.typing import NDArray

from herdsman.errors import InputError
from herdsman.parallel import available_cores
from herdsman.tokens.fast import encode_with, load_fastokens
from herdsman.tokens.vocabulary import MODEL_FILE, SPLIT_PATTERN, Ranks, read_ranks, special_ids

if TYPE_CHECKING:
    import fastokens

MOST_CHARACTERS = 400_000
LONGEST_RUN = 25_000
# For each token of the vocabulary, tiktoken encodes about so many characters in the time fastokens takes to load.
WORTH_LOADING = 250
_RUN = re.compile(r"\S+|\s+")


class Tokenizer:
    """Encodes text with Llama 3's rules.

    Ids below the number of BPE tokens are pieces of text, the 256 after them are special tokens. Text never becomes a
    special token: `<|eot_id|>` in a document is ten characters like any others.

    The first texts are encoded by tiktoken, which is loaded at once. When so much text has come that it pays, fastokens
    is loaded and goes on, with the same ids; where it is not installed, tiktoken does all the work. A tokenizer can be
    used in several threads and sent to other processes.

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
        self._ranks = ranks
        self._tiktoken = tiktoken.Encoding(
            "herdsman", pat_str=SPLIT_PATTERN, mergeable_ranks=dict(ranks), special_tokens=self.special
        )
        self._characters_before_fast = WORTH_LOADING * len(ranks)

    def __reduce__(self) -> tuple[Any, ...]:
        return Tokenizer, (self._ranks,)

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
        fast = self._fast_after(len(text))
        if fast is None:
            return self._with_tiktoken(text)
        ids: list[int] = _with_fastokens(fast, [text])[0].tolist()
        return ids

    def encode_batch(self, texts: Iterable[str], threads: int | None = None) -> list[list[int]]:
        """Ids of many texts.

        Args:
            threads: for tiktoken (all cores if not said); fastokens does better with one, and uses no more.
        """
        texts = list(texts)
        fast = self._fast_after(sum(map(len, texts)))
        if fast is None:
            with ThreadPoolExecutor(threads or available_cores()) as pool:
                return list(pool.map(self._with_tiktoken, texts))
        ids, starts = _with_fastokens(fast, texts)
        return [ids[start:end].tolist() for start, end in pairwise(starts.tolist())]

    def encode_arrays(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """Ids of many texts as arrays, without a Python number for each.

        Returns:
            ids: [tokens], of all texts in their order.
            starts: [texts + 1]; those of text i are `ids[starts[i] : starts[i + 1]]`.
        """
        fast = self._fast_after(sum(map(len, texts)))
        if fast is None:
            encoded = list(map(self._with_tiktoken, texts))
            starts = np.array([0, *accumulate(map(len, encoded))], np.int64)
            return np.fromiter(chain.from_iterable(encoded), np.uint32, starts[-1]), starts
        return _with_fastokens(fast, texts)

    def _with_tiktoken(self, text: str) -> list[int]:
        if len(text) <= LONGEST_RUN:
            return self._tiktoken.encode_ordinary(text)
        return list(chain.from_iterable(map(self._tiktoken.encode_ordinary, guarded(text))))

    def _fast_after(self, characters: int) -> fastokens.Tokenizer | None:
        """The fast encoder, if there is one and with these characters enough have come for it to be loaded."""
        self._characters_before_fast -= characters
        return self._fast if self._characters_before_fast < 0 else None

    @cached_property
    def _fast(self) -> fastokens.Tokenizer | None:
        return load_fastokens(self._ranks)

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
            return self._tiktoken.decode_bytes(ids)
        except (KeyError, OverflowError) as error:
            raise InputError(
                f"there is an id that is not in the vocabulary of {self.vocab_size} ids",
                do="use the tokenizer that these ids were made with",
            ) from error


def _with_fastokens(fast: fastokens.Tokenizer, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    pieces: list[str] = []
    ends = [0]
    for text in texts:
        if len(text) <= LONGEST_RUN:
            pieces.append(text)
        else:
            pieces.extend(guarded(text))
        ends.append(len(pieces))
    ids, starts = encode_with(fast, pieces)
    return ids, starts[ends]


def guarded(text: str) -> Iterator[str]:
    """Llama 3's guards: slices of at most 400,000 characters, no run of spaces or of other characters over 25,000.

    They keep the splitting rule, which backtracks, from failing on absurd text. Meta's encoder cuts at the same places.
    """
    for start in range(0, len(text), MOST_CHARACTERS):
        part = text[start : start + MOST_CHARACTERS]
        cut = 0
        if _may_hold_long_runs(part):
            for run in _RUN.finditer(part):
                for place in range(run.start() + LONGEST_RUN, run.end(), LONGEST_RUN):
                    yield part[cut:place]
                    cut = place
        yield part[cut:]


def _may_hold_long_runs(text: str) -> bool:
    """False if no run is too long: one that is goes on for more than half its length from one of these places on."""
    half = LONGEST_RUN // 2
    runs = ((place, _RUN.match(text, place)) for place in range(0, len(text), half))
    return any(run is not None and run.end() - place > half for place, run in runs)


def readable(token: bytes) -> str:
    """A token for people: its text, with bytes that are not whole characters written as \\xNN."""
    return token.decode("utf-8", errors="backslashreplace")
