"""One server for all tests that do not change it, and the real client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest

from herdsman.serving.server import Server
from tests.generation.models import BYTES, MERGES, parrot, random_model, small_tokenizer
from tests.serving.served import serving, write_model

SAYS = b"Bad. Nice!"


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """`random`, whose weights are drawn, and `parrot`, which answers every question with `SAYS`."""
    root = tmp_path_factory.mktemp("models")
    ranks = BYTES | {token: 256 + rank for rank, token in enumerate(MERGES)}
    model, tokenizer = parrot(SAYS, context_length=2048)
    return [
        write_model(root / "random", random_model(context_length=2048), small_tokenizer(), ranks),
        write_model(root / "parrot", model, tokenizer, BYTES),
    ]


@pytest.fixture(scope="session")
def server(model_folders: list[Path]) -> Iterator[Server]:
    with serving(model_folders) as running:
        yield running


@pytest.fixture(scope="session")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.address}/v1", api_key="none", max_retries=0)
