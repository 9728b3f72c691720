"""`herdsman export`: which model is taken, and what is refused before anything is written."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest
import torch

from herdsman.errors import InputError, MachineError, WorkspaceError
from herdsman.files import read_json, write_json
from herdsman.model.gguf import GgufFile
from herdsman.model.importing import import_model
from herdsman.model.llama import Llama
from herdsman.model.store import load_model, save_model
from herdsman.release import gguf
from herdsman.release.export import TYPES, Form, Stage, Type, export_model
from herdsman.tokens.tokenizer import Tokenizer
from tests.conftest import Herdsman
from tests.release.conftest import make_model, write_vocabulary
from tests.tokens.vocabularies import llama3_ranks


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace as far as an export looks at it: two models that differ, their tokenizer, and the recipe."""
    root = tmp_path_factory.mktemp("herd")
    write_vocabulary(root / "tokenizer", llama3_ranks())
    for number, stage in enumerate(("pretrain", "posttrain")):
        (root / stage).mkdir()
        make_model(root / "tokenizer", root / stage / "model", rope_theta=1000.0 + number)
        write_json(root / stage / "manifest.json", {})
    write_json(root / "recipe.json", {"name": "tiny", "release": {"licence": "apache-2.0"}})
    return root


def test_each_form_of_each_stage(herd: Path, tmp_path: Path, herdsman: Herdsman) -> None:
    stages: list[tuple[Stage, float, str, int]] = [("base", 1000.0, "tiny-base", 1), ("chat", 1001.0, "tiny", 3)]
    for stage, theta, name, stop in stages:
        found = herdsman(
            "export", herd, "--to", "gguf", "--stage", stage, "--out", tmp_path / f"{stage}.gguf", "--json"
        )
        assert json.loads(found.stdout)["files"].keys() == {str(tmp_path / f"{stage}.gguf")}
        file = GgufFile(tmp_path / f"{stage}.gguf")
        assert file.options.rope_theta == theta
        assert (file.get("general.name"), file.get("general.license")) == (name, "apache-2.0")
        export_model(herd, "hf", tmp_path / stage, "bf16", stage)
        assert len(read_json(tmp_path / stage / "config.json")["eos_token_id"]) == stop
        assert (tmp_path / stage / "chat_template.jinja").exists() == (stage == "chat")
    options = ("--to", "ollama", "--out", tmp_path / "ollama", "--type", "q8_0", "--stage", "base", "--json")
    found = herdsman("export", herd, *options)
    expected = {str(tmp_path / "ollama" / name) for name in ("Modelfile", "model.gguf")}
    assert json.loads(found.stdout)["files"].keys() == expected
    assert 'TEMPLATE """{{ .Prompt }}"""' in (tmp_path / "ollama/Modelfile").read_text()


@pytest.mark.parametrize(("to", "type"), [(to, type) for to, types in TYPES.items() for type in types])
def test_every_type_of_every_form_comes_home(herd: Path, tmp_path: Path, to: Form, type: Type) -> None:
    out = tmp_path / ("out.gguf" if to == "gguf" else "out")
    files = export_model(herd, to, out, type)
    weights = [file for file in files if file.suffix in (".gguf", ".safetensors")]
    source = out if to != "ollama" else weights[0]
    assert import_model(str(source), tmp_path / "home").llama3_tokenizer
    ours, home = load_model(herd / "posttrain/model").state_dict(), load_model(tmp_path / "home/model").state_dict()
    lost = max(float((ours[name] - home[name]).abs().max()) for name in ours)
    assert (lost == 0) == (type == "f32")
    assert lost < 0.01


def test_an_imported_model_goes_out_again(herd: Path, tmp_path: Path) -> None:
    export_model(herd, "gguf", tmp_path / "a.gguf", "f32")
    import_model(str(tmp_path / "a.gguf"), tmp_path / "home")
    export_model(tmp_path / "home", "gguf", tmp_path / "b.gguf", "f32")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()
    with pytest.raises(InputError, match="this is an imported model, which has no stages; leave out --stage"):
        export_model(tmp_path / "home", "gguf", tmp_path / "c.gguf", stage="base")


def test_nothing_that_is_there_is_lost(herd: Path, tmp_path: Path, herdsman: Herdsman) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/letter.txt").write_text("dear")
    (tmp_path / "a.gguf").write_text("dear")
    sentence = "there is something here already; choose a new place with --out"
    forms: list[tuple[Form, str]] = [("hf", "kept"), ("ollama", "kept"), ("gguf", "a.gguf"), ("hf", "a.gguf")]
    for to, name in forms:
        with pytest.raises(InputError, match=sentence):
            export_model(herd, to, tmp_path / name)
    found = herdsman("export", herd, "--to", "hf", "--out", tmp_path / "kept")
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr == f"herdsman: {tmp_path / 'kept'}: {sentence}\n"
    assert (tmp_path / "kept/letter.txt").read_text() == (tmp_path / "a.gguf").read_text() == "dear"
    (tmp_path / "empty").mkdir()
    export_model(herd, "hf", tmp_path / "empty")


def test_what_cannot_be_is_refused(herd: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--to hf has no type q8_0; use one of f32, bf16, f16"):
        export_model(herd, "hf", tmp_path / "out", "q8_0")
    for out in (tmp_path, tmp_path / "model.bin"):
        with pytest.raises(InputError, match=r"(there is something here already|let --out end in \.gguf)"):
            export_model(herd, "gguf", out)
    (tmp_path / "young").mkdir()
    with pytest.raises(WorkspaceError, match="this herd has no base model yet; raise it to the end"):
        export_model(tmp_path / "young", "hf", tmp_path / "out", stage="base")


def test_a_model_with_more_rows_than_tokens_comes_home(herd: Path, tmp_path: Path) -> None:
    """Rows that only fill the embedding up stay rows without a token."""
    model = load_model(herd / "posttrain/model")
    wider = Llama(model.options, model.vocab_size + 5).initialise(1)
    assert Tokenizer.load(herd / "tokenizer").vocab_size == model.vocab_size
    save_model(wider, tmp_path / "model")
    gguf.export(tmp_path / "model", herd / "tokenizer", tmp_path / "model.gguf", "f32")
    origin = import_model(str(tmp_path / "model.gguf"), tmp_path / "home")
    assert (origin.vocab_size, origin.llama3_tokenizer) == (model.vocab_size + 5, True)
    assert torch.equal(load_model(tmp_path / "home/model").embedding.weight, wider.embedding.weight)


@pytest.mark.parametrize("to", list(TYPES))
def test_a_place_that_takes_nothing_is_named(herd: Path, tmp_path: Path, to: Form) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match=r"file/out\.gguf: cannot be written .*--out"):
        export_model(herd, to, tmp_path / "file" / "out.gguf")


@pytest.mark.parametrize("to", list(TYPES))
def test_files_that_may_not_grow_so_long_leave_nothing_behind(herd: Path, tmp_path: Path, to: Form) -> None:
    most = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most[1]))
    try:
        with pytest.raises(MachineError, match="cannot be written"):
            export_model(herd, to, tmp_path / "out.gguf")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, most)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())
