"""Hugging Face's form of a model, read and written, against transformers itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from herdsman.errors import InputError
from herdsman.files import read_json, sha256_file, write_json
from herdsman.model.huggingface import from_config, read_weights, to_config, write_weights
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions, RopeScaling
from herdsman.model.store import load_model, save_model
from tests.model.peers import SIZES, brought_home, furthest, llama31, peer, tokens

transformers = pytest.importorskip("transformers")
KINDS = {
    "untied": {},
    "tied": {"tie_word_embeddings": True},
    "every head its own keys": {"num_key_value_heads": 6},
    "one head of keys": {"num_key_value_heads": 1},
    "own head width": {"head_dim": 12},
    "odd width and other constants": {
        "intermediate_size": 101, "rms_norm_eps": 1e-3, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "rope of 3.1": {"rope_parameters": llama31(8.0, 16)},
    "rope of 3.2, tied": {"rope_parameters": llama31(32.0, 32), "tie_word_embeddings": True},
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    peer().save_pretrained(tmp_path / "theirs")
    return tmp_path / "theirs"


def change(folder: Path, **changes: object) -> None:
    """Changes keys of config.json; None takes a key out."""
    config = {**read_json(folder / "config.json"), **changes}
    write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})


def home(folder: Path) -> Llama:
    return brought_home(folder, folder.parent / "ours")


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_logits_of_an_import_equal_those_of_transformers(tmp_path: Path, changes: dict[str, object]) -> None:
    theirs = peer(**changes)
    theirs.save_pretrained(tmp_path / "theirs")
    assert furthest(home(tmp_path / "theirs"), theirs) < 1e-5


@pytest.mark.parametrize("rope", [llama31(8.0, 16), {"rope_type": "default", "rope_theta": 10_000.0}])
def test_packed_documents_equal_those_of_transformers(tmp_path: Path, rope: dict[str, object]) -> None:
    """Three ways to keep documents apart: our numbers, their mask of four dimensions, each document alone."""
    theirs = peer(rope_parameters=rope)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, ids = home(tmp_path / "theirs"), tokens()
    lengths = [[7, 33, 20], [59, 1]]
    documents = torch.tensor([[number for number, n in enumerate(row) for _ in range(n)] for row in lengths])
    restarted = torch.tensor([[place for n in row for place in range(n)] for row in lengths])
    seen = (documents[:, :, None] == documents[:, None, :]) & torch.ones(60, 60, dtype=torch.bool).tril()
    with torch.no_grad():
        packed = ours.logits(ours(ids, documents=documents))
        masked = theirs(ids, attention_mask=seen[:, None]).logits
        again = theirs(ids, attention_mask=seen[:, None], position_ids=restarted).logits
        leaky = theirs(ids).logits
        for row, counts in enumerate(lengths):
            start = 0
            for count in counts:
                alone = theirs(ids[row : row + 1, start : start + count]).logits[0]
                assert (packed[row, start : start + count] - alone).abs().max() < 1e-5
                start += count
    assert (packed - masked).abs().max() < 1e-5
    assert (packed - again).abs().max() < 1e-5
    assert (packed - leaky).abs().max() > 1e-2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_read_exactly(tmp_path: Path, dtype: torch.dtype) -> None:
    peer().to(dtype).save_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs", dtype=torch.float32).eval()
    assert furthest(home(tmp_path / "theirs"), theirs) < 1e-5


def test_shards_are_read_one_at_a_time(tmp_path: Path) -> None:
    theirs = peer()
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="60KB")
    shards = sorted((tmp_path / "theirs").glob("model-*.safetensors"))
    assert len(shards) > 3
    for _, tensor in read_weights(tmp_path / "theirs"):
        tensor.sum()
        maps = Path("/proc/self/maps").read_text()
        assert sum(shard.name in maps for shard in shards) <= 1
        del tensor
    assert furthest(home(tmp_path / "theirs"), theirs) < 1e-5


def test_config_of_transformers_4(folder: Path) -> None:
    """It has the rotary settings beside each other, `type` in old files, and leaves out what is as in LlamaConfig."""
    scaling = llama31(8.0, 16)
    theta = scaling.pop("rope_theta")
    change(folder, rope_parameters=None, rope_theta=theta, rope_scaling=scaling, head_dim=None)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    assert furthest(home(folder), theirs) < 1e-5
    change(folder, rope_scaling={"type": "llama3", **{k: v for k, v in scaling.items() if k != "rope_type"}})
    assert furthest(home(folder), theirs) < 1e-5
    least = {key: SIZES[key] for key in ("vocab_size", "hidden_size", "intermediate_size")}
    least |= {"model_type": "llama", "num_hidden_layers": 1, "num_attention_heads": 4}
    options, _ = from_config(least, "config.json")
    default = transformers.LlamaConfig(**least)
    assert options.rope_theta == default.rope_parameters["rope_theta"]
    assert options.norm_eps == default.rms_norm_eps
    assert options.context_length == default.max_position_embeddings
    assert options.tied_embeddings == default.tie_word_embeddings
    assert options.kv_heads == default.num_key_value_heads


@pytest.mark.parametrize("scaling", [None, RopeScaling(factor=32)])
@pytest.mark.parametrize(
    "changes", [{"head_dim": 10}, {"ffn_multiplier": 1.3, "ffn_multiple_of": 7}, {"ffn_width": 77}]
)
def test_config_there_and_back(changes: dict[str, object], scaling: RopeScaling | None) -> None:
    options = ModelOptions(layers=3, dim=48, heads=6, kv_heads=3, rope_scaling=scaling, norm_eps=1e-6, **changes)
    back, vocab_size = from_config(to_config(options, 1234), "config.json")
    assert vocab_size == 1234
    assert back == options.model_copy(
        update={"ffn_width": options.ffn_dim, "ffn_multiplier": 1.0, "ffn_multiple_of": 256}
    )
    assert (back.ffn_dim, back.head_width) == (options.ffn_dim, options.head_width)


@pytest.mark.parametrize("shard_bytes", [10**9, 50_000, 1])
def test_round_trip_is_exact_to_the_bit(tmp_path: Path, shard_bytes: int) -> None:
    options = ModelOptions(layers=11, dim=16, heads=2, kv_heads=1, ffn_width=24, context_length=32)
    model = Llama(options, 500).initialise(3)
    save_model(model, tmp_path / "ours")
    for out in ("theirs", "again"):
        (tmp_path / out).mkdir()
        write_weights(tmp_path / "ours" / "model.safetensors", tmp_path / out, shard_bytes=shard_bytes)
        write_json(tmp_path / out / "config.json", to_config(options, 500))
    files = sorted(path.name for path in (tmp_path / "theirs").iterdir())
    assert [sha256_file(tmp_path / "theirs" / f) for f in files] == [sha256_file(tmp_path / "again" / f) for f in files]
    assert len({path.stat().st_mode for path in (tmp_path / "theirs").iterdir()}) == 1  # Who reads one reads all.
    shards = [load_file(path) for path in (tmp_path / "theirs").glob("*.safetensors")]
    assert len(shards) == {10**9: 1, 50_000: 4, 1: 102}[shard_bytes]
    for shard in shards:
        assert len(shard) == 1 or sum(tensor.nbytes for tensor in shard.values()) <= shard_bytes
    back = brought_home(tmp_path / "theirs", tmp_path / "back").state_dict()
    assert all(torch.equal(back[name], weight) for name, weight in model.state_dict().items())
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs").eval()
    ids = tokens(length=30)
    assert furthest(load_model(tmp_path / "ours"), theirs, ids) < 1e-5


def test_export_in_bfloat16(tmp_path: Path) -> None:
    options = ModelOptions(layers=2, dim=16, heads=2, kv_heads=1, ffn_width=24, context_length=64)
    model = Llama(options, 300).initialise(3)
    save_model(model, tmp_path / "ours")
    (tmp_path / "theirs").mkdir()
    write_weights(tmp_path / "ours" / "model.safetensors", tmp_path / "theirs", "bfloat16")
    write_json(tmp_path / "theirs" / "config.json", to_config(options, 300, "bfloat16"))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "theirs")
    assert theirs.dtype == torch.bfloat16
    rounded = model.bfloat16().float().eval()
    assert furthest(rounded, theirs.float().eval()) < 1e-5


REFUSED = {
    "model_type": "mixtral",
    "attention_bias": True,
    "mlp_bias": True,
    "hidden_act": "gelu",
    "sliding_window": 4096,
    "num_local_experts": 8,
    "quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "rope_scaling": {"type": "linear", "factor": 2.0},
    "rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0},
    "num_attention_heads": 5,
    "num_key_value_heads": 4,
    "intermediate_size": "wide",
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_is_no_llama_is_refused_by_name(folder: Path, key: str) -> None:
    if key == "rope_scaling":
        change(folder, rope_parameters=None)
    change(folder, **{key: REFUSED[key]})
    named = {
        "rope_scaling": "rope_type", "rope_parameters": "rope_type", "num_attention_heads": "heads",
        "num_key_value_heads": "kv_heads", "intermediate_size": "ffn_width",
    }  # fmt: skip
    with pytest.raises(InputError, match=named.get(key, key)) as caught:
        home(folder)
    assert str(folder / "config.json") in str(caught.value)


def test_a_missing_dimension_is_named(folder: Path) -> None:
    change(folder, hidden_size=None)
    with pytest.raises(InputError, match="hidden_size is missing"):
        home(folder)
    (folder / "config.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="is not a table"):
        home(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match=r"config\.json: cannot be read"):
        home(folder)


def rewrite(folder: Path, **changes: torch.Tensor | None) -> None:
    """Changes tensors of a folder with one file; names with dots written as __; None takes a tensor out."""
    state = load_file(folder / "model.safetensors")
    named = {key.replace("__", "."): value for key, value in changes.items()}
    state = {name: tensor.clone() for name, tensor in {**state, **named}.items() if tensor is not None}
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model__norm__weight": None}, "model.norm.weight is missing"),
        ({"model__norm__weight": None, "lm_head__weight": None}, "and 1 more tensors are missing"),
        (
            {"model__layers__0__self_attn__q_proj__bias": torch.zeros(48)},
            "has no tensor model.layers.0.self_attn.q_proj",
        ),
        ({"model__layers__2__mlp__up_proj__weight": torch.zeros(80, 48)}, "has no tensor model.layers.2.mlp.up_proj"),
        ({"model__norm__weight": torch.ones(47)}, r"model.norm.weight is \[47\] and the dimensions ask for \[48\]"),
        ({"model__norm__weight": torch.ones(48, dtype=torch.int8)}, "model.norm.weight is of type int8"),
        ({"model__norm__weight": torch.full((48,), torch.nan)}, "model.norm.weight holds infinities or NaN"),
    ],
)
def test_wrong_tensors_are_named(folder: Path, changes: dict[str, torch.Tensor | None], sentence: str) -> None:
    rewrite(folder, **changes)
    with pytest.raises(InputError, match=sentence):
        home(folder)


def test_frequencies_in_old_checkpoints_are_passed_over(folder: Path) -> None:
    rewrite(folder, model__layers__0__self_attn__rotary_emb__inv_freq=torch.ones(4))
    home(folder)


def test_an_output_matrix_beside_tied_embeddings_must_equal_them(tmp_path: Path) -> None:
    theirs = peer(tie_word_embeddings=True)
    theirs.save_pretrained(tmp_path / "theirs")
    embedding = theirs.model.embed_tokens.weight.detach()
    rewrite(tmp_path / "theirs", lm_head__weight=embedding)
    assert furthest(home(tmp_path / "theirs"), theirs) < 1e-5
    rewrite(tmp_path / "theirs", lm_head__weight=embedding + 1)
    with pytest.raises(InputError, match=r"lm_head\.weight differs from the embedding"):
        home(tmp_path / "theirs")


def test_damaged_folders_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    peer().save_pretrained(folder, max_shard_size="60KB")
    second = sorted(folder.glob("model-*.safetensors"))[1]
    whole = second.read_bytes()
    for cut in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        second.write_bytes(whole[:cut])
        with pytest.raises(InputError, match=rf"{second.name}: not a readable file"):
            home(folder)
    second.write_bytes(whole)
    index = folder / "model.safetensors.index.json"
    table = read_json(index)
    wrong = {
        name: ("../secret.safetensors" if file == second.name else file) for name, file in table["weight_map"].items()
    }
    for content in ({}, {"weight_map": {}}, {"weight_map": [1]}, {"weight_map": wrong}):
        write_json(index, content)
        with pytest.raises(InputError, match="not an index of shards"):
            home(folder)
    other = next(file for file in table["weight_map"].values() if file != second.name)
    write_json(index, {"weight_map": dict.fromkeys(table["weight_map"], other)})
    with pytest.raises(InputError, match=r"which model\.safetensors\.index\.json says is here"):
        home(folder)
    write_json(index, table)
    second.unlink()
    with pytest.raises(InputError, match=f"{second.name} is missing, one of"):
        home(folder)
    index.unlink()
    with pytest.raises(InputError, match=r"there is no model\.safetensors here"):
        home(folder)
    (folder / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(InputError, match="pickles"):
        home(folder)
