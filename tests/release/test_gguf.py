"""The GGUF export against llama.cpp: the same ids, the same text, the same chat as here and in transformers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from herdsman.errors import InputError
from herdsman.files import sha256_file
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.gguf import GgufFile
from herdsman.model.importing import import_model
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions, RopeScaling
from herdsman.model.store import load_model, save_model
from herdsman.release import huggingface
from herdsman.release.chat_template import CHAT_TEMPLATE
from herdsman.release.gguf import export
from herdsman.tokens.chat import encode
from herdsman.tokens.foreign import ForeignTokenizer, load_tokenizer, write_tokenizer
from herdsman.tokens.messages import Call, Message, ToolSpecs
from herdsman.tokens.tokenizer import Tokenizer
from tests.llama_cpp import LlamaCpp
from tests.release.conftest import make_model
from tests.tokens.material import ADVERSARIAL, random_texts, real_texts
from tests.tokens.vocabularies import foreign_json

PROMPTS = [[text[place : place + 40] for place in (0, 300)] for text in real_texts()[:20]]
SCALING = RopeScaling(factor=8, original_context=16)
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def decided(tokenizer_folder: Path, out: Path, **changes: object) -> Llama:
    """A random model with weights so large that its choices are clear of rounding."""
    model = make_model(tokenizer_folder, out, context_length=256, **changes)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8) if parameter.dim() > 1 else parameter.uniform_(0.5, 1.5)
    save_model(model, out)
    return model


@pytest.fixture(scope="module")
def folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model with every trait of Llama 3.2: tied embeddings, grouped heads, rotary scaling."""
    folder = tmp_path_factory.mktemp("gguf")
    decided(tokenizer_folder, folder / "model", tied_embeddings=True, rope_scaling=SCALING.model_dump())
    return folder


@pytest.fixture(scope="module")
def llama_cpp(tokenizer_folder: Path, folder: Path) -> LlamaCpp:
    export(folder / "model", tokenizer_folder, folder / "f32.gguf", "f32", name="Flock", licence="apache-2.0")
    return LlamaCpp(folder / "f32.gguf")


def test_llama_cpp_gives_the_same_ids(llama_cpp: LlamaCpp, tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    texts = [*(text[:3000] for text in real_texts()), *ADVERSARIAL.values(), *random_texts(200)]
    assert len(texts) > 300
    assert [text for text in texts if llama_cpp.encode(text) != tokenizer.encode(text)] == []
    assert llama_cpp.encode("Hi<|eot_id|>", whole=True) == [tokenizer.bos, *tokenizer.encode("Hi"), tokenizer.eot]


def test_llama_cpp_and_transformers_write_the_same_text(
    llama_cpp: LlamaCpp, tokenizer_folder: Path, folder: Path
) -> None:
    transformers = pytest.importorskip("transformers")
    huggingface.export(folder / "model", tokenizer_folder, folder / "hf")
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf").eval()
    tokenizer = Tokenizer.load(tokenizer_folder)
    prompts = [[tokenizer.bos, *tokenizer.encode(text)] for pair in PROMPTS for text in pair]
    engine = LocalEngine(load_model(folder / "model"), tokenizer)
    ours = [completion.ids for completion in engine.generate(prompts, Sampling(40, temperature=0))]
    assert len(prompts) == 40
    assert len({tuple(ids) for ids in ours}) > 30
    for prompt, ids in zip(prompts, ours, strict=True):
        written = llama_cpp.greedy(prompt, 40)
        assert [id for id in written if id not in tokenizer.stop_ids] == ids
        with torch.no_grad():  # The likeliest at every place at once: what transformers would write one by one.
            logits = theirs(torch.tensor([prompt + written])).logits[0]
        assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == written


@pytest.mark.parametrize(
    ("changes", "type", "furthest"),
    [
        ({"tied_embeddings": True, "rope_scaling": SCALING.model_dump()}, "f32", 5e-5),
        ({"tied_embeddings": False, "head_dim": 12, "rope_theta": 1e4, "norm_eps": 1e-4}, "f32", 5e-5),
        ({"tied_embeddings": False, "kv_heads": 6}, "f16", 0.01),
        ({"tied_embeddings": True}, "bf16", 0.1),
        ({"dim": 96, "heads": 3, "kv_heads": 1, "ffn_width": 160}, "q8_0", 0.5),
    ],
    ids=["rope scaling", "own head width", "f16", "bf16", "q8_0"],
)
def test_llama_cpp_gives_the_same_probabilities(
    tokenizer_folder: Path, tmp_path: Path, changes: dict[str, object], type: str, furthest: float
) -> None:
    ours = decided(tokenizer_folder, tmp_path / "model", **changes)
    export(tmp_path / "model", tokenizer_folder, tmp_path / "model.gguf", type)  # type: ignore[arg-type]
    theirs = LlamaCpp(tmp_path / "model.gguf")
    ids = torch.randint(0, 300, (200,), generator=torch.Generator().manual_seed(1)).tolist()
    for length in (1, 20, 200):
        with torch.no_grad():
            expected = ours.logits(ours(torch.tensor([ids[:length]])))[0, -1].log_softmax(-1)
        found = theirs.likeliest(ids[:length], 20)
        assert len(found) == 20
        assert max(abs(logprob - float(expected[id])) for id, logprob in found.items()) < furthest
        assert max(found.values()) - min(found.values()) > 0.3


def test_llama_cpp_writes_the_chat_as_we_do(llama_cpp: LlamaCpp, tokenizer_folder: Path) -> None:
    tokenizer = Tokenizer.load(tokenizer_folder)
    dialog = [Message("system", "Be brief.\n"), Message("user", " What is 日本? "), Message("assistant", "A country.")]
    for begin, end in ((0, 2), (0, 3), (1, 2), (1, 3)):
        messages = [*dialog[begin:end], Message("user", "?")]
        rows = [{"role": message.role, "content": message.content} for message in messages]
        prompt = llama_cpp.chat_prompt(rows)
        assert llama_cpp.encode(prompt, whole=True) == encode(tokenizer, messages, reply=True)[0]
    function = {"name": "weather", "description": "Tells it.", "parameters": {"type": "object", "properties": {}}}
    called = {"name": "weather", "arguments": '{"city": "Köln"}'}
    rows = [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": called}]},
        {"role": "tool", "tool_call_id": "1", "content": "Sun."},
    ]
    call = Message("assistant", "", calls=(Call("weather", {"city": "Köln"}),))
    messages = [Message("user", "Weather?"), call, Message("ipython", "Sun.")]
    prompt = llama_cpp.chat_prompt(rows, tools=[{"type": "function", "function": function}])
    expected = encode(tokenizer, messages, True, ToolSpecs(functions=(function,)))[0]
    assert llama_cpp.encode(prompt, whole=True) == expected


@pytest.mark.parametrize("end", ["<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"])
def test_llama_cpp_stops_at_every_end(llama_cpp: LlamaCpp, tokenizer_folder: Path, end: str) -> None:
    id = Tokenizer.load(tokenizer_folder).special[end]
    assert llama_cpp.greedy([1, 2, 3], 5, likely=id) == [id]
    assert llama_cpp.greedy([1, 2, 3], 5, likely=4) == [4] * 5


def test_a_base_model_has_no_chat_template(tokenizer_folder: Path, folder: Path, tmp_path: Path) -> None:
    export(folder / "model", tokenizer_folder, tmp_path / "base.gguf", chats=False)
    file, tokenizer = GgufFile(tmp_path / "base.gguf"), Tokenizer.load(tokenizer_folder)
    assert file.get("tokenizer.chat_template") is None
    assert file.get("tokenizer.ggml.eos_token_id") == tokenizer.end_of_text


def test_what_the_file_says_of_itself(folder: Path, llama_cpp: LlamaCpp, tokenizer_folder: Path) -> None:
    file, tokenizer = GgufFile(folder / "f32.gguf"), Tokenizer.load(tokenizer_folder)
    said = {
        "general.name": "Flock", "general.license": "apache-2.0", "general.type": "model", "general.file_type": 0,
        "general.size_label": "81K", "tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.bos_token_id": tokenizer.bos, "tokenizer.ggml.eos_token_id": tokenizer.eot,
        "tokenizer.ggml.padding_token_id": tokenizer.pad, "tokenizer.chat_template": CHAT_TEMPLATE,
    }  # fmt: skip
    assert {key: file.get(key) for key in said} == said


def test_same_model_gives_the_same_bytes(folder: Path, llama_cpp: LlamaCpp, tokenizer_folder: Path) -> None:
    export(folder / "model", tokenizer_folder, folder / "again.gguf", "f32", name="Flock", licence="apache-2.0")
    assert sha256_file(folder / "again.gguf") == sha256_file(folder / "f32.gguf")


def test_it_comes_home_as_it_left(folder: Path, llama_cpp: LlamaCpp, tmp_path: Path) -> None:
    origin = import_model(str(folder / "f32.gguf"), tmp_path / "home")
    assert (origin.name, origin.licence, origin.llama3_tokenizer) == ("Flock", "apache-2.0", True)
    ours, home = load_model(folder / "model"), load_model(tmp_path / "home/model")
    assert home.options.rope_scaling == SCALING
    assert all(torch.equal(weight, home.state_dict()[name]) for name, weight in ours.state_dict().items())
    assert len(home.state_dict()) == len(ours.state_dict())


def test_a_foreign_vocabulary(tmp_path: Path) -> None:
    """ChatML, digits by themselves, special tokens in front, and three rows more in the model than tokens."""
    (tmp_path / "tokenizer").mkdir()
    tokenizer = write_tokenizer(foreign_json(), frozenset({0, 2}), None, CHATML, tmp_path / "tokenizer")
    options = ModelOptions(layers=1, dim=32, heads=4, kv_heads=2, ffn_multiple_of=16, context_length=256)
    save_model(Llama(options, tokenizer.vocab_size + 3).initialise(1), tmp_path / "model")
    export(tmp_path / "model", tmp_path / "tokenizer", tmp_path / "model.gguf")
    llama_cpp = LlamaCpp(tmp_path / "model.gguf")
    texts = [*(text[:3000] for text in real_texts()[:40]), *ADVERSARIAL.values(), *random_texts(100)]
    assert [text for text in texts if llama_cpp.encode(text) != tokenizer.encode(text)] == []
    asked = llama_cpp.chat_prompt([{"role": "user", "content": "Hi"}])
    assert asked == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert llama_cpp.encode(asked, whole=True)[0] == tokenizer.special["<|im_start|>"]  # nothing is put in front
    origin = import_model(str(tmp_path / "model.gguf"), tmp_path / "home")
    home = load_tokenizer(tmp_path / "home/tokenizer")
    assert isinstance(home, ForeignTokenizer)
    assert (origin.vocab_size, home.vocab_size) == (tokenizer.vocab_size + 3, tokenizer.vocab_size)
    assert (home.stop_ids, home.chat_template, home.beginning) == ({0, 2}, CHATML, [])
    assert [home.encode(text) for text in texts] == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize(
    "change",
    [
        {"normalizer": {"type": "NFC"}},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": True}},
    ],
    ids=["normalised", "a space in front", "SentencePiece's"],
)
def test_a_vocabulary_that_llama_cpp_would_read_differently_is_refused(
    folder: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    text = json.dumps(json.loads(foreign_json()) | change)
    write_tokenizer(text, frozenset({2}), None, None, tmp_path)
    with pytest.raises(InputError, match=r"llama\.cpp knows no such vocabulary .* --to hf"):
        export(folder / "model", tmp_path, tmp_path / "model.gguf")
    assert not list(tmp_path.glob("model.gguf*"))
