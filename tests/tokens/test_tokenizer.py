"""Ids equal Meta's encoder, plain tiktoken and Hugging Face's tokenizers; text never becomes a special token.

The fixtures `meta`, `small` and `extended` come twice, with either encoder.
"""

from __future__ import annotations

import base64
import os
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import tiktoken

from herdsman.errors import InputError
from herdsman.parallel import map_ordered
from herdsman.tokens.fast import load_fastokens
from herdsman.tokens.tokenizer import LONGEST_RUN, MOST_CHARACTERS, WORTH_LOADING, Tokenizer, guarded
from herdsman.tokens.vocabulary import read_ranks, special_ids, write_huggingface, write_ranks
from tests.tokens.conftest import made_with
from tests.tokens.material import ADVERSARIAL, random_texts, real_texts

TEXTS = [*ADVERSARIAL.values(), *real_texts()[:40], *random_texts(1000)]

LONG = {
    "a long run of letters": "x" * (2 * LONGEST_RUN + 1),
    "a run of the longest length": "x" * LONGEST_RUN + " y",
    "a run one longer": "y " + "x" * (LONGEST_RUN + 1) + " z",
    "a long run of spaces": "a" + " " * (3 * LONGEST_RUN) + "b",
    "line ends": "\n" * (LONGEST_RUN + 7) + "a",
    "Chinese without spaces": "漢字" * LONGEST_RUN,
    "emoji": "👩‍👩‍👧‍👦" * LONGEST_RUN,
    "separators that only Python calls spaces": "\x1c" * (LONGEST_RUN + 5) + "\x1d" * 5,
    "over the most characters": "word " * (MOST_CHARACTERS // 5 + 1000),
    "exactly the most characters": "ab " * (MOST_CHARACTERS // 3) + "a",
    "a million letters": "a" * 1_000_000,
    "a million line ends": "\r\n" * 500_000,
    "a million spaces": " " * 1_000_000,
    "a run across the most characters": "a b" * ((MOST_CHARACTERS - 10) // 3) + "x" * (LONGEST_RUN + 20),
}


def test_ids_of_the_special_tokens_are_llama_3s(meta: Tokenizer, meta_ranks: dict[bytes, int]) -> None:
    assert (meta.bpe_tokens, meta.vocab_size) == (128_000, 128_256)
    assert {name: meta.special[name] for name in meta.special if "reserved" not in name} == {
        "<|begin_of_text|>": 128_000,
        "<|end_of_text|>": 128_001,
        "<|finetune_right_pad_id|>": 128_004,
        "<|step_id|>": 128_005,
        "<|start_header_id|>": 128_006,
        "<|end_header_id|>": 128_007,
        "<|eom_id|>": 128_008,
        "<|eot_id|>": 128_009,
        "<|python_tag|>": 128_010,
        "<|image|>": 128_011,
    }
    assert (meta.bos, meta.end_of_text, meta.pad, meta.eom, meta.eot) == (128_000, 128_001, 128_004, 128_008, 128_009)
    assert (meta.start_header, meta.end_header, meta.python_tag) == (128_006, 128_007, 128_010)
    assert meta.stop_ids == {128_001, 128_008, 128_009}
    assert special_ids(meta_ranks) == reference(None).special_tokens


def reference(_: object):
    from llama_models.llama3.tokenizer import Tokenizer as Reference

    return Reference.get_instance()


def test_ids_equal_metas_encoder(meta: Tokenizer) -> None:
    encode = reference(None).encode
    assert meta.encode("This is a test sentence.") == [2028, 374, 264, 1296, 11914, 13]
    for text in TEXTS:
        assert meta.encode(text) == encode(text, bos=False, eos=False), text


@pytest.mark.parametrize("name", LONG)
def test_ids_of_absurd_text_equal_metas_encoder(meta: Tokenizer, name: str) -> None:
    assert meta.encode(LONG[name]) == reference(None).encode(LONG[name], bos=False, eos=False)


def test_guards_cut_where_metas_do() -> None:
    rng = random.Random(0)
    kinds = ["x", "é", "漢", " ", "\n", "\u00a0", "\x1f"]
    for _ in range(5):
        runs = (rng.choice(kinds) * rng.choice([1, 2, 7, LONGEST_RUN - 1, LONGEST_RUN, 60_000]) for _ in range(30))
        text = "".join(runs)
        parts = [text[start : start + MOST_CHARACTERS] for start in range(0, len(text), MOST_CHARACTERS)]
        split = reference(None)._split_whitespaces_or_nonwhitespaces
        assert list(guarded(text)) == [piece for part in parts for piece in split(part, LONGEST_RUN)]
        assert "".join(guarded(text)) == text


def plain(ranks: dict[bytes, int]) -> tiktoken.Encoding:
    pattern = reference(None).pat_str
    return tiktoken.Encoding("plain", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special_ids(ranks))


@pytest.mark.parametrize("vocabulary", ["small", "extended"])
def test_ids_equal_plain_tiktoken(vocabulary: str, encoder: str, request: pytest.FixtureRequest) -> None:
    ours: Tokenizer = request.getfixturevalue(vocabulary)
    theirs = plain(request.getfixturevalue(f"{vocabulary}_ranks"))
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, disallowed_special=()), text


@pytest.mark.parametrize("shape", ["{}", " {}b ", "'{0}{0}1\r\n"])
def test_every_character_there_is(small_ranks: dict[bytes, int], shape: str) -> None:
    """Encoders know different versions of Unicode, in which a character may or may not be a letter."""
    small, theirs = made_with("fastokens", small_ranks), plain(small_ranks)
    characters = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(characters), 4096):
        text = "".join(map(shape.format, characters[start : start + 4096]))
        assert small.encode_arrays([text])[0].tolist() == [
            id for part in guarded(text) for id in theirs.encode_ordinary(part)
        ]


@pytest.mark.parametrize("vocabulary", ["small", "extended", "meta"])
def test_tokenizer_json_gives_the_same_ids(vocabulary: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    from tokenizers import Tokenizer as HuggingFace

    ranks = request.getfixturevalue(f"{vocabulary}_ranks")
    ours = made_with("fastokens", ranks)
    write_huggingface(tmp_path / "tokenizer.json", ranks)
    theirs = HuggingFace.from_file(str(tmp_path / "tokenizer.json"))
    assert theirs.get_vocab_size() == ours.vocab_size
    assert {name: theirs.token_to_id(name) for name in ours.special} == ours.special
    texts = [text.replace("<|", "< |") for text in TEXTS]
    for text, encoding in zip(texts, theirs.encode_batch(texts, add_special_tokens=False), strict=True):
        assert encoding.ids == ours.encode(text), text
        assert theirs.decode(encoding.ids) == text
    assert theirs.encode("a").ids == [ours.bos, *ours.encode("a")]


@pytest.mark.parametrize("vocabulary", ["small", "meta"])
def test_text_comes_back_and_is_never_special(vocabulary: str, encoder: str, request: pytest.FixtureRequest) -> None:
    tokenizer: Tokenizer = request.getfixturevalue(vocabulary)
    names = "".join(tokenizer.special)
    for text in [*TEXTS, *tokenizer.special, names, names * 40, *LONG.values()]:
        ids = tokenizer.encode(text)
        assert max(ids, default=0) < tokenizer.bpe_tokens
        assert tokenizer.decode(ids) == text
    for name, id in tokenizer.special.items():
        assert tokenizer.decode([id]) == name


def test_every_byte_can_be_written(small: Tokenizer, small_ranks: dict[bytes, int]) -> None:
    every = bytes(range(256))
    assert small.decode_bytes([small_ranks[bytes([byte])] for byte in every]) == every
    half = small.decode_bytes([small_ranks[b"\xf0"], small_ranks[b"\x9f"]])
    assert half == b"\xf0\x9f"
    assert small.decode([small_ranks[b"\xf0"]]) == "\ufffd"


SURROGATES = ["a\ud800b", "\udfff", "\ud83d\ude00", "\ude00\ud83d", "\ud83d" * 3, "x" * LONGEST_RUN + "\ud83d\ude00"]


def test_lone_surrogates_become_replacement_characters(small: Tokenizer, small_ranks: dict[bytes, int]) -> None:
    assert small.decode(small.encode("a\ud800b")) == "a\ufffdb"
    assert small.decode(small.encode("\udfff" * (LONGEST_RUN + 1))) == "\ufffd" * (LONGEST_RUN + 1)
    theirs = plain(small_ranks)
    for text in SURROGATES:
        assert small.encode(text) == [id for part in guarded(text) for id in theirs.encode_ordinary(part)]
    mixed = ["whole", *SURROGATES, "characters"]
    assert small.encode_batch(mixed) == list(map(small.encode, mixed))


def test_a_batch_is_its_texts(small: Tokenizer) -> None:
    texts = [*TEXTS, LONG["a run one longer"], LONG["exactly the most characters"], ""]
    expected = [small.encode(text) for text in texts]
    assert small.encode_batch(texts, 1) == small.encode_batch(texts, 3) == small.encode_batch(iter(texts)) == expected
    ids, starts = small.encode_arrays(texts)
    assert (ids.dtype, starts.dtype) == (np.uint32, np.int64)
    assert [ids[start:end].tolist() for start, end in pairwise(starts)] == expected
    assert starts[-1] == len(ids)
    assert [array.tolist() for array in small.encode_arrays([])] == [[], [0]]
    assert [array.tolist() for array in small.encode_arrays(["", ""])] == [[], [0, 0, 0]]
    assert small.encode_batch([]) == []


def test_threads_share_a_tokenizer(small: Tokenizer) -> None:
    expected = [small.encode(text) for text in TEXTS]
    with ThreadPoolExecutor(4) as pool:
        for ids in pool.map(small.encode_batch, [TEXTS] * 8):
            assert ids == expected


def test_other_processes_get_a_tokenizer_of_their_own(small: Tokenizer) -> None:
    expected = small.encode_batch(TEXTS)
    copy = pickle.loads(pickle.dumps(small))
    assert copy.special == small.special
    encode = partial(Tokenizer.encode_batch, small)
    assert list(map_ordered(encode, [TEXTS, TEXTS], 2)) == [expected, expected]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_goes_on_encoding(small: Tokenizer) -> None:
    expected = small.encode_batch(TEXTS)
    child = os.fork()
    if not child:
        os._exit(0 if small.encode_batch(TEXTS) == expected else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_the_fast_encoder_is_loaded_once_it_pays(small_ranks: dict[bytes, int]) -> None:
    tokenizer = Tokenizer(small_ranks)
    text = "sheep" * (WORTH_LOADING * len(small_ranks) // 5)
    before = tokenizer.encode(text)
    assert "_fast" not in vars(tokenizer)
    assert tokenizer.encode_batch([text]) == [before]
    assert vars(tokenizer)["_fast"] is not None


def test_where_the_fast_encoder_refuses_a_vocabulary_tiktoken_does_the_work() -> None:
    ranks = {bytes([byte]): byte for byte in range(256)} | {b"": 256}
    assert load_fastokens(ranks) is None
    tokenizer = Tokenizer(ranks)
    tokenizer._characters_before_fast = 0
    assert tokenizer.encode_batch(["herd"]) == [list(b"herd")]


@pytest.mark.parametrize("ids", [[10**6], [-1], [0, 2**40]])
def test_an_unknown_id_is_one_sentence(small: Tokenizer, ids: list[int]) -> None:
    with pytest.raises(InputError, match="not in the vocabulary of 2304 ids"):
        small.decode(ids)


def test_a_vocabulary_survives_the_disk(tmp_path: Path, small_ranks: dict[bytes, int], meta_vocabulary: Path) -> None:
    write_ranks(tmp_path / "tokenizer.model", small_ranks)
    assert read_ranks(tmp_path / "tokenizer.model") == small_ranks
    assert Tokenizer.load(tmp_path).encode("ab") == Tokenizer.load(tmp_path / "tokenizer.model").encode("ab")
    write_ranks(tmp_path / "meta.model", read_ranks(meta_vocabulary))
    assert (tmp_path / "meta.model").read_bytes() == meta_vocabulary.read_bytes()


BYTES = [base64.b64encode(bytes([byte])) + f" {byte}".encode() for byte in range(256)]
DAMAGED = {
    "empty": [],
    "a byte is missing": BYTES[:-1],
    "a token twice": [*BYTES, BYTES[0].split()[0] + b" 256"],
    "a rank twice": [*BYTES, b"YWI= 255"],
    "a gap": [*BYTES, b"YWI= 257"],
    "no rank": [*BYTES, b"YWI="],
    "not base64": [*BYTES, b"Y?I= 256"],
    "cut off": [*BYTES, b"YW"],
    "a web page": [b"<!DOCTYPE html>", b"<title>Not found</title>"],
    "binary": [bytes(range(256))],
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_vocabulary_is_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"\n".join(DAMAGED[name]) + b"\n")
    with pytest.raises(InputError, match=r"tokenizer\.model.*make the vocabulary again"):
        Tokenizer.load(tmp_path)


def test_a_missing_vocabulary_is_one_sentence(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(InputError, match="No such file"):
            Tokenizer.load(path)
