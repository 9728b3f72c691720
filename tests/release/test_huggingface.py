"""The export against transformers: weights, tokenizer and chat template say the same there as here."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from herdsman.files import read_json, sha256_file
from herdsman.model.options import RopeScaling
from herdsman.release.checks import check_export
from herdsman.release.huggingface import export
from herdsman.tokens.chat import Message, encode
from herdsman.tokens.tokenizer import Tokenizer
from tests.release.conftest import TEXTS, make_model

transformers = pytest.importorskip("transformers")
SCALING = RopeScaling(factor=8, original_context=16)


@pytest.mark.parametrize(
    "changes",
    [
        {"tied_embeddings": True},
        {"tied_embeddings": False},
        {"tied_embeddings": False, "rope_scaling": SCALING.model_dump()},
        {"tied_embeddings": True, "head_dim": 12, "rope_theta": 10_000.0, "norm_eps": 1e-4},
    ],
    ids=["tied", "untied", "rope scaling", "own head width"],
)
def test_logits_equal_those_of_transformers(tokenizer_folder: Path, tmp_path: Path, changes: dict[str, object]) -> None:
    ours = make_model(tokenizer_folder, tmp_path / "model", **changes)
    export(tmp_path / "model", tokenizer_folder, tmp_path / "out")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert type(theirs).__name__ == "LlamaForCausalLM"
    tokens = torch.randint(0, ours.vocab_size, (2, 60), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(ours.logits(ours(tokens)), theirs(tokens).logits, atol=1e-5, rtol=0)
    parameters = {id(parameter): parameter.numel() for parameter in theirs.parameters()}
    assert sum(parameters.values()) == sum(parameter.numel() for parameter in ours.parameters())


@pytest.fixture
def exported(tokenizer_folder: Path, tmp_path: Path) -> Path:
    make_model(tokenizer_folder, tmp_path / "model", tied_embeddings=True)
    export(tmp_path / "model", tokenizer_folder, tmp_path / "out")
    return tmp_path / "out"


def test_tokenizer_gives_the_same_ids(tokenizer_folder: Path, exported: Path) -> None:
    ours, theirs = Tokenizer.load(tokenizer_folder), transformers.AutoTokenizer.from_pretrained(exported)
    assert len(theirs) == ours.vocab_size
    for text in TEXTS:
        assert theirs.encode(text, add_special_tokens=False) == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == text
    assert (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id) == (ours.bos, ours.eot, ours.pad)


@pytest.mark.parametrize("reply", [False, True])
def test_chat_template_gives_the_same_ids(tokenizer_folder: Path, exported: Path, reply: bool) -> None:
    ours, theirs = Tokenizer.load(tokenizer_folder), transformers.AutoTokenizer.from_pretrained(exported)
    dialog = [
        Message("system", "Be brief.\n"),
        Message("user", "  What is 日本?  "),
        Message("assistant", "A country.\n\nIt is {{ in }} Asia {% raw %}."),
        Message("ipython", '{"x": [1, 2]}'),
        Message("user", ""),
    ]
    for end in range(1, len(dialog) + 1):
        rows = [{"role": message.role, "content": message.content} for message in dialog[:end]]
        found = theirs.apply_chat_template(rows, add_generation_prompt=reply, tokenize=True, return_dict=False)
        assert found == encode(ours, dialog[:end], reply)[0]


def test_generation_stops_at_all_ends(tokenizer_folder: Path, exported: Path) -> None:
    config = transformers.GenerationConfig.from_pretrained(exported)
    assert set(config.eos_token_id) == Tokenizer.load(tokenizer_folder).stop_ids
    assert (config.temperature, config.top_p, config.do_sample) == (0.6, 0.9, True)


def test_same_model_gives_the_same_bytes(tokenizer_folder: Path, exported: Path, tmp_path: Path) -> None:
    export(tmp_path / "model", tokenizer_folder, tmp_path / "again")
    digests = [{p.name: sha256_file(p) for p in folder.iterdir()} for folder in (exported, tmp_path / "again")]
    assert digests[0] == digests[1]


def test_shards_and_bfloat16(tokenizer_folder: Path, tmp_path: Path) -> None:
    ours = make_model(tokenizer_folder, tmp_path / "model")
    export(tmp_path / "model", tokenizer_folder, tmp_path / "out", shard_bytes=50_000)
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 6
    check_export(tmp_path / "out", tmp_path / "model", tokenizer_folder, TEXTS)
    export(tmp_path / "model", tokenizer_folder, tmp_path / "half", dtype="bfloat16", shard_bytes=50_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "half")
    assert theirs.dtype == torch.bfloat16
    assert torch.equal(theirs.model.embed_tokens.weight, ours.embedding.weight.bfloat16())


def test_checks_find_a_changed_export(tokenizer_folder: Path, exported: Path, tmp_path: Path) -> None:
    checks = check_export(exported, tmp_path / "model", tokenizer_folder, TEXTS)
    assert len(checks) == 3
    (exported / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
    with pytest.raises(RuntimeError, match="chat template"):
        check_export(exported, tmp_path / "model", tokenizer_folder, TEXTS)
    make_model(tokenizer_folder, tmp_path / "model", tied_embeddings=True, rope_theta=1.0, layers=3)
    with pytest.raises(RuntimeError, match="weights"):
        check_export(exported, tmp_path / "model", tokenizer_folder, TEXTS)


def test_config_names_the_dimensions(exported: Path) -> None:
    config = read_json(exported / "config.json")
    assert config["num_key_value_heads"] == 2
    assert config["head_dim"] == 8
    assert config["intermediate_size"] == 128
