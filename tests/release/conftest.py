"""Small models and a small tokenizer, made for the tests of the release."""

from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.files import write_json
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from herdsman.model.store import save_model
from herdsman.tokens.learn import train
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import HUGGINGFACE_FILE, MODEL_FILE, SPECIAL_FILE, Ranks, write_huggingface, write_ranks

TEXTS = [
    "The with statement opens a file and closes it, even if an error occurs.",
    "Grüße aus Köln! 日本語のテキスト、そして emoji 🐑🐑.",
    "def open_file(path):\n    with open(path) as file:\n        return file.read()\n\n\n",
    "  spaces   and\ttabs, 1234567 numbers, it's we'll I'D\r\n",
    "A text that spells <|eot| > and <script>alert(1)</script>.",
]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer stage's folder with about 400 BPE tokens."""
    return write_vocabulary(tmp_path_factory.mktemp("tokenizer"), train(TEXTS * 20, 400))


def write_vocabulary(folder: Path, ranks: Ranks) -> Path:
    """What the tokenizer stage leaves."""
    folder.mkdir(exist_ok=True)
    write_ranks(folder / MODEL_FILE, ranks)
    write_huggingface(folder / HUGGINGFACE_FILE, ranks)
    write_json(folder / SPECIAL_FILE, Tokenizer(ranks).special)
    return folder


def make_model(tokenizer_folder: Path, out: Path, **changes: object) -> Llama:
    """A random model over the tokenizer's vocabulary, saved to `out`."""
    settings = {"layers": 2, "dim": 48, "heads": 6, "kv_heads": 2, "ffn_multiple_of": 16, "context_length": 64}
    options = ModelOptions.model_validate(settings | changes)
    model = Llama(options, Tokenizer.load(tokenizer_folder).vocab_size).initialise(7).eval()
    save_model(model, out)
    return model
