"""Foreign vocabularies: which become Llama 3's tokenizer, and how the others read and write text."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers

from herdsman.errors import InputError
from herdsman.tokens.foreign import ForeignTokenizer, llama3_ranks, load_tokenizer, write_tokenizer
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import read_ranks, write_huggingface
from tests.tokens import vocabularies
from tests.tokens.vocabularies import TEXTS, foreign_json

ODD = ["a <|im_end|> b<|endoftext|>", "\ud800 lone", "é\u0301 \x00\x7f", "", "  \n\n ", "१२३ ½ Ⅷ ²³ 12345"]


def parsed(path: Path) -> dict[str, Any]:
    return json.loads(tokenizers.Tokenizer.from_file(str(path)).to_str())


@pytest.fixture(scope="module")
def llama3_json(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("llama3") / "tokenizer.json"
    write_huggingface(path, vocabularies.llama3_ranks())
    return path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_vocabulary_of_llama_3_itself_is_known(tmp_path: Path) -> None:
    """All 128,000 tokens, through a tokenizer.json with its 280,147 pairs, which is what Meta's own export lists."""
    meta = pytest.importorskip("llama_models")
    ranks = read_ranks(Path(meta.__file__).parent / "llama3" / "tokenizer.model")
    write_huggingface(tmp_path / "tokenizer.json", ranks)
    found = parsed(tmp_path / "tokenizer.json")
    assert len(found["model"]["merges"]) == 280_147
    for token in found["added_tokens"]:  # Hugging Face's names of 3.1, and a name of 3.0 where 3.1 has another
        place = token["id"] - len(ranks)
        if place in (4, 5, 8, 10, 11):
            token["content"] = f"<|reserved_special_token_{place + 1000}|>"
    assert llama3_ranks(found) == ranks


def test_llama_3s_form_gives_a_tokenizer(llama3_json: str, tmp_path: Path) -> None:
    ours = write_tokenizer(llama3_json, frozenset(), None, None, tmp_path)
    assert isinstance(ours, Tokenizer)
    assert isinstance(load_tokenizer(tmp_path), Tokenizer)
    theirs = tokenizers.Tokenizer.from_str(llama3_json)
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def without_one_merge(table: dict[str, Any]) -> None:
    table["model"]["merges"].pop()


def merges_out_of_order(table: dict[str, Any]) -> None:
    table["model"]["merges"].reverse()


def merges_are_kept(table: dict[str, Any]) -> None:
    table["model"]["ignore_merges"] = False


def another_split(table: dict[str, Any]) -> None:
    split = table["pre_tokenizer"]["pretokenizers"][0]
    split["pattern"]["Regex"] = split["pattern"]["Regex"].replace("{1,3}", "")


def another_end_of_turn(table: dict[str, Any]) -> None:
    table["added_tokens"][9]["content"] = "<|end|>"


def fewer_special_tokens(table: dict[str, Any]) -> None:
    table["added_tokens"].pop()


def lower_case(table: dict[str, Any]) -> None:
    table["normalizer"] = {"type": "Lowercase"}


@pytest.mark.parametrize(
    "change",
    [
        without_one_merge, merges_out_of_order, merges_are_kept, another_split, another_end_of_turn,
        fewer_special_tokens, lower_case,
    ],
)  # fmt: skip
def test_what_is_nearly_of_llama_3s_form_stays_foreign(
    llama3_json: str, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    table = json.loads(llama3_json)
    assert llama3_ranks(table) is not None
    change(table)
    assert llama3_ranks(table) is None
    ours = write_tokenizer(json.dumps(table), frozenset([5]), None, None, tmp_path)
    assert isinstance(ours, ForeignTokenizer)
    assert (ours.pad, ours.stop_ids) == (5, {5})
    theirs = tokenizers.Tokenizer.from_str(json.dumps(table))
    for text in TEXTS:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_text_never_becomes_a_special_token(tmp_path: Path) -> None:
    write_tokenizer(foreign_json(), frozenset([2]), 0, "template", tmp_path)
    ours = load_tokenizer(tmp_path)
    assert isinstance(ours, ForeignTokenizer)
    assert ours.special == {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2}
    assert (ours.vocab_size, ours.pad, ours.chat_template, ours.beginning) == (300, 0, "template", [])
    for text in TEXTS + ODD:
        ids = ours.encode(text)
        assert not set(ids) & set(ours.special.values())
        assert ours.decode(ids) == text.replace("\ud800", "\ufffd")
    assert ours.decode([1, *ours.encode("é"), 2]) == "<|im_start|>é<|im_end|>"


def test_bytes_of_single_tokens_add_up(tmp_path: Path) -> None:
    """A stream decodes token by token, also where a token ends inside a character."""
    ours = write_tokenizer(foreign_json(), frozenset([2]), 0, None, tmp_path)
    for text in TEXTS:
        assert b"".join(ours.decode_bytes([id]) for id in ours.encode(text)) == text.encode()
    with pytest.raises(InputError, match="not in the vocabulary of 300 ids"):
        ours.decode([300])


def test_what_a_text_begins_with(tmp_path: Path) -> None:
    ours = write_tokenizer(foreign_json(beginning=True), frozenset([2]), 0, None, tmp_path)
    assert isinstance(ours, ForeignTokenizer)
    assert ours.beginning == [1]
    assert 1 not in ours.encode("text")


def test_byte_fallback(tmp_path: Path) -> None:
    """SentencePiece's manner: a mark for spaces, characters that are no tokens as their bytes."""
    pieces = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], "▁", "a", "b", "▁a", "é"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE({piece: id for id, piece in enumerate(pieces)}, [("▁", "a")], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.add_special_tokens(["<s>", "</s>"])
    ours = write_tokenizer(tokenizer.to_str(), frozenset([2]), None, None, tmp_path)
    ids = ours.encode("a bé日</s>")
    assert 2 not in ids
    assert ours.decode_bytes(ids) == " a bé日</s>".encode()


def test_a_vocabulary_without_bytes_is_refused(tmp_path: Path) -> None:
    words = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    with pytest.raises(InputError, match="the tokens stand for no bytes"):
        write_tokenizer(words.to_str(), frozenset([0]), None, None, tmp_path)
    with pytest.raises(InputError, match="cannot read it"):
        write_tokenizer("{}", frozenset([0]), None, None, tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        load_tokenizer(tmp_path / "none")
    write_tokenizer(foreign_json(), frozenset([2]), 0, None, tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="no readable tokenizer here"):
        load_tokenizer(tmp_path)
