"""Models from elsewhere in Herdsman's form: weights, tokenizer, and what is refused before anything is left."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tokenizers
import torch

from herdsman.errors import InputError
from herdsman.files import read_json, sha256_file
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.herd import chat_with, open_herd
from herdsman.model.importing import import_model
from herdsman.model.store import load_model
from herdsman.release.huggingface import export
from herdsman.tokens.foreign import ForeignTokenizer, load_tokenizer
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import HUGGINGFACE_FILE, MODEL_FILE, write_huggingface, write_ranks
from herdsman.workspace import Workspace
from tests.conftest import Herdsman
from tests.model.hub import COMMIT, hub
from tests.model.peers import furthest, peer, write_gguf
from tests.release.conftest import make_model
from tests.tokens.vocabularies import TEXTS, add_to_gguf, foreign_json, llama3_ranks

transformers = pytest.importorskip("transformers")


@pytest.fixture
def foreign(tmp_path: Path) -> Path:
    """A folder of transformers with a vocabulary of its own, eos in three places."""
    folder = tmp_path / "theirs"
    peer(eos_token_id=0).save_pretrained(folder)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(foreign_json()),
        eos_token="<|im_end|>", pad_token="<|endoftext|>",
    )  # fmt: skip
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    tokenizer.save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    return folder


@pytest.fixture
def llama3(tmp_path: Path) -> Path:
    """A herd's own export."""
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    write_ranks(folder / MODEL_FILE, llama3_ranks())
    write_huggingface(folder / HUGGINGFACE_FILE, llama3_ranks())
    make_model(folder, tmp_path / "model")
    export(tmp_path / "model", folder, tmp_path / "theirs")
    return tmp_path / "theirs"


def test_a_folder_with_a_foreign_vocabulary(foreign: Path, tmp_path: Path) -> None:
    origin = import_model(str(foreign), tmp_path / "out")
    assert (origin.licence, origin.stored_as, origin.llama3_tokenizer) == ("apache-2.0", "float32", False)
    assert origin.sha256 == {"model.safetensors": sha256_file(foreign / "model.safetensors")}
    assert read_json(tmp_path / "out" / "origin.json") == vars(origin)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(foreign).eval()
    model = load_model(tmp_path / "out" / "model")
    assert furthest(model, theirs) < 1e-5
    assert origin.parameters == sum(parameter.numel() for parameter in theirs.parameters())
    ours, peers = load_tokenizer(tmp_path / "out" / "tokenizer"), transformers.AutoTokenizer.from_pretrained(foreign)
    assert isinstance(ours, ForeignTokenizer)
    assert (ours.stop_ids, ours.pad, ours.beginning) == ({0, 2}, 0, [])
    assert ours.chat_template == "{{ messages[0]['content'] }}"
    for text in TEXTS:
        assert ours.encode(text) == peers.encode(text, add_special_tokens=False)
        assert ours.decode(ours.encode(text)) == text
    prompt = ours.encode("The with")
    greedy = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=40, do_sample=False, pad_token_id=0, eos_token_id=-1
    )
    sampling = Sampling(40, temperature=0, stop_ids=frozenset())
    assert LocalEngine(model, ours).generate([prompt], sampling)[0].ids == greedy[0, len(prompt) :].tolist()


def test_an_export_of_a_herd_comes_back_as_it_was(llama3: Path, tmp_path: Path) -> None:
    origin = import_model(str(llama3), tmp_path / "out")
    assert origin.llama3_tokenizer
    before, after = load_model(tmp_path / "model"), load_model(tmp_path / "out" / "model")
    assert all(torch.equal(after.state_dict()[name], weight) for name, weight in before.state_dict().items())
    tokenizer = load_tokenizer(tmp_path / "out" / "tokenizer")
    assert isinstance(tokenizer, Tokenizer)
    for file in (MODEL_FILE, HUGGINGFACE_FILE):
        assert (tmp_path / "out" / "tokenizer" / file).read_bytes() == (tmp_path / "tokenizer" / file).read_bytes()


def test_a_gguf_file(tmp_path: Path, llama3: Path) -> None:
    """With a vocabulary in Llama 3's form, as llama.cpp's converter writes it."""
    theirs = transformers.AutoModelForCausalLM.from_pretrained(llama3).eval()
    tokenizer_json = (llama3 / HUGGINGFACE_FILE).read_text(encoding="utf-8")
    path = write_gguf(
        tmp_path / "model.gguf", theirs, general__license="mit",
        vocabulary=lambda writer: add_to_gguf(writer, tokenizer_json, "llama-bpe"),
    )  # fmt: skip
    origin = import_model(str(path), tmp_path / "out")
    assert (origin.licence, origin.llama3_tokenizer) == ("mit", True)
    assert furthest(load_model(tmp_path / "out" / "model"), theirs) < 1e-5
    written = tmp_path / "out" / "tokenizer" / MODEL_FILE
    assert written.read_bytes() == (tmp_path / "tokenizer" / MODEL_FILE).read_bytes()


def test_mistakes_leave_nothing_behind(foreign: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (foreign / "tokenizer.json").rename(tmp_path / "away.json")
    with pytest.raises(InputError, match=r"there is no readable tokenizer\.json"):
        import_model(str(foreign), out)
    (foreign / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match="library cannot read it"):
        import_model(str(foreign), out)
    (tmp_path / "away.json").rename(foreign / "tokenizer.json")
    (foreign / "generation_config.json").write_text("{")
    with pytest.raises(InputError, match=r"generation_config\.json: is not JSON"):
        import_model(str(foreign), out)
    (foreign / "generation_config.json").unlink()
    small = peer(vocab_size=200)
    small.save_pretrained(foreign)
    with pytest.raises(InputError, match="the tokenizer has 300 ids and the model only 200 rows"):
        import_model(str(foreign), out)
    assert not list(tmp_path.glob("out*"))
    out.mkdir()
    (out / "letter.txt").write_text("Dear")
    with pytest.raises(InputError, match="there is something here already"):
        import_model(str(foreign), out)
    assert (out / "letter.txt").read_text() == "Dear"


def fetched(model_id: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """What `fetch_from_hub` says in a process of its own, for the client reads its settings when it is imported."""
    script = f"""
from herdsman.errors import HerdsmanError
from herdsman.model.hub import fetch_from_hub
try:
    print(fetch_from_hub({model_id!r}))
except HerdsmanError as error:
    print(type(error).__name__, error)
"""
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **settings}, timeout=120)


def test_the_hub_by_its_own_client(foreign: Path, tmp_path: Path) -> None:
    (foreign / "original").mkdir()
    (foreign / "original" / "other.safetensors").write_bytes(b"the same in another form")
    (foreign / "pytorch_model.bin").write_bytes(b"the same as a pickle")
    with hub({"team/small": foreign, "team/shy": "GatedRepo"}) as (address, asked):
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf")}
        folder = Path(fetched("team/small", **settings).stdout.strip())
        assert (folder / "model.safetensors").read_bytes() == (foreign / "model.safetensors").read_bytes()
        assert {path.name for path in folder.iterdir()} == {
            path.name for path in foreign.iterdir() if path.name not in ("original", "pytorch_model.bin")
        }
        assert "InputError team/shy: this model is shown only to those who" in fetched("team/shy", **settings).stdout
        assert "no such model on the Hub" in fetched("team/none", **settings).stdout
        weights = f"GET /team/small/resolve/{COMMIT}/model.safetensors"
        assert asked.count(weights) == 1
        assert fetched("team/small", **settings).stdout.strip() == str(folder)
        assert asked.count(weights) == 1
    without = fetched("team/large", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "hf")).stdout
    assert without.startswith("NetworkError team/large: there is no such folder here, and the Hub does not give")


def test_command_line(foreign: Path, tmp_path: Path, herdsman: Herdsman) -> None:
    """From the Hub into a folder, and the model goes on with a text."""
    with hub({"team/small": foreign}) as (address, _):
        settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        result = herdsman("import", "team/small", "--to", tmp_path / "out", **settings)
    assert result.returncode == 0, result.stderr
    assert "team/small: 64,368 parameters, 2 layers, width 48" in result.stdout
    assert "another form than Llama 3's" in result.stdout
    settings = Sampling(5, temperature=0, stop_ids=frozenset())
    herd = open_herd(Workspace(tmp_path / "out"))
    prompt = herd.tokenizer.encode("The with")
    output = io.StringIO()
    sampling = {"temperature": 0, "top_p": 1.0, "max_tokens": 5, "seed": 1}
    chat_with(Workspace(tmp_path / "out"), io.StringIO("The with\n"), output, **sampling, system=None, use_guard=True)
    assert output.getvalue() == herd.engine.generate([prompt], settings)[0].text + "\n"
    with pytest.raises(InputError, match="it takes no system message"):
        chat_with(Workspace(tmp_path / "out"), io.StringIO(), output, **sampling, system="Be brief.", use_guard=True)
