"""The vocabulary on disk: tiktoken's `tokenizer.model`, Hugging Face's `tokenizer.json`, names of special tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

from herdsman.errors import InputError
from herdsman.files import atomic_open, write_text
from herdsman.tokens.options import SPECIAL_TOKENS

MODEL_FILE, HUGGINGFACE_FILE, SPECIAL_FILE = "tokenizer.model", "tokenizer.json", "special_tokens.json"

# Llama 3's rule for cutting text into pieces that merges never cross: contractions, words with one leading mark,
# numbers in groups of three digits, punctuation with its line ends, line ends, and runs of space.
SPLIT_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_NAMED = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|reserved_special_token_0|>", "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>", "<|step_id|>", "<|start_header_id|>", "<|end_header_id|>",
    "<|eom_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>",
)  # fmt: skip
SPECIAL_NAMES = _NAMED + tuple(f"<|reserved_special_token_{2 + i}|>" for i in range(SPECIAL_TOKENS - len(_NAMED)))
"""Names of the special tokens. The id of each is the number of BPE tokens plus its place here, as in Llama 3."""

Ranks = Mapping[bytes, int]
"""Bytes of each BPE token and its rank, which is its id: the lower, the earlier it was merged."""


def special_ids(ranks: Ranks) -> dict[str, int]:
    """Ids of the special tokens by name."""
    return {name: len(ranks) + place for place, name in enumerate(SPECIAL_NAMES)}


def read_ranks(path: Path | str) -> dict[bytes, int]:
    """Reads a `tokenizer.model`: one token a line, base64 and rank.

    Raises:
        InputError: the file is missing or is not such a vocabulary.
    """
    path = Path(path)
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=path, do="point to a tokenizer.model") from error
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(lines, 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise InputError(
                "is not a token in base64 and its rank", where=f"{path}, line {number}", do="make the vocabulary again"
            ) from error
    whole = sorted(ranks.values()) == list(range(len(lines))) and all(bytes([byte]) in ranks for byte in range(256))
    if not whole:
        raise InputError(
            "does not hold every byte and every rank exactly once", where=path, do="make the vocabulary again"
        )
    return ranks


def extend(base: Ranks, learned: Ranks, most_tokens: int) -> dict[bytes, int]:
    """A vocabulary with the base's tokens, at their ids, and after them those learned tokens that it lacks.

    The way of Llama 3 (section 3.2), as its own vocabulary shows: 678 of its tokens are no merge of earlier ones, for
    they were learned apart. The base's merges rank before all new ones, so a text is first cut as the base cuts it, and
    then some neighbours are joined: no text takes more tokens than before, and one in which no new token occurs takes
    the same ones.
    """
    new = sorted((token for token in learned if token not in base), key=lambda token: learned[token])[:most_tokens]
    return {**base, **{token: len(base) + place for place, token in enumerate(new)}}


def write_ranks(path: Path | str, ranks: Ranks) -> None:
    """Writes a `tokenizer.model`."""
    with atomic_open(path) as file:
        for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
            file.write(base64.b64encode(token) + f" {rank}\n".encode())


def last_merge(token: bytes, ranks: Ranks) -> tuple[bytes, bytes] | None:
    """The two tokens whose merge gives this one when only the tokens ranked before it are known.

    None for a single byte, and for a token that those before it do not lead to: it occurs only where it is all of a
    piece that the splitting rule cuts. There are such tokens in vocabularies put together from several trainings.
    """
    parts = [bytes([byte]) for byte in token]
    while len(parts) > 2:
        known = [(ranks.get(a + b, ranks[token]), place) for place, (a, b) in enumerate(pairwise(parts))]
        rank, place = min(known)
        if rank >= ranks[token]:
            break
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    return (parts[0], parts[1]) if len(parts) == 2 else None


def byte_level(ranks: Ranks) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Tokens in GPT-2's letters with their ids, and the merges that give tiktoken's ids, as Hugging Face writes them.

    tiktoken joins two neighbours whenever their bytes together are a token, Hugging Face only where the pair is listed.
    So every split of a token into two tokens is listed, in the order of ranks: 280,147 pairs for Llama 3's vocabulary,
    as in Meta's own export. For a vocabulary learned in one go one pair a token would do, since a token can only ever
    come about in one way; for one that was put together from several trainings it would not.
    """
    letters = byte_letters()
    written = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=lambda token: ranks[token]):
        splits = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        splits.sort(key=lambda split: (ranks[split[0]], ranks[split[1]]))
        merges += [(written[left], written[right]) for left, right in splits]
    return {written[token]: rank for token, rank in ranks.items()}, merges


def write_huggingface(path: Path | str, ranks: Ranks) -> None:
    """Writes a `tokenizer.json` that gives tiktoken's ids for any tiktoken vocabulary.

    Unlike `Tokenizer.encode`, Hugging Face's encoder reads the names of special tokens in a text as special tokens,
    and it prepends `<|begin_of_text|>` unless told otherwise.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

    vocabulary, merges = byte_level(ranks)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT_PATTERN), "isolated", False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIAL_NAMES])
    bos = SPECIAL_NAMES[0]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A {bos}:1 $B:1", special_tokens=[(bos, special_ids(ranks)[bos])]
    )
    write_text(path, tokenizer.to_str(pretty=True) + "\n")


def byte_letters() -> dict[int, str]:
    """GPT-2's alphabet: printable bytes stand for themselves, the other bytes for letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(others)}
