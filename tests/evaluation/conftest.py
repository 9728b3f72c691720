from __future__ import annotations

import pytest

from herdsman.evaluation.benchmarks import BENCHMARKS, read_rows
from herdsman.generation.local import LocalEngine
from herdsman.progress import SILENT
from herdsman.tokens.learn import train
from herdsman.tokens.tokenizer import Tokenizer
from tests.evaluation.herd import random_model, real_documents

Rows = list[dict]


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer(train([row["text"] for row in real_documents()], 600))


@pytest.fixture(scope="session")
def engine(tokenizer: Tokenizer) -> LocalEngine:
    """A random model with a context of 64 tokens."""
    return LocalEngine(random_model(tokenizer, context_length=64), tokenizer)


@pytest.fixture(scope="session")
def questions() -> dict[str, Rows]:
    """The first 24 chosen rows of each benchmark."""
    return {name: read_rows(benchmark, 24, SILENT) for name, benchmark in BENCHMARKS.items()}
