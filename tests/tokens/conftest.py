from __future__ import annotations

from pathlib import Path

import pytest

from herdsman.tokens.learn import train
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import read_ranks
from herdsman.workspace import Workspace
from tests.tokens.material import ADVERSARIAL, raise_tokens, real_documents, real_texts


@pytest.fixture(scope="session")
def meta_vocabulary() -> Path:
    """Llama 3's own vocabulary."""
    llama3 = pytest.importorskip("llama_models.llama3")
    return Path(llama3.__file__).with_name("tokenizer.model")


@pytest.fixture(scope="session")
def meta_ranks(meta_vocabulary: Path) -> dict[bytes, int]:
    return read_ranks(meta_vocabulary)


@pytest.fixture(scope="session")
def meta(meta_ranks: dict[bytes, int]) -> Tokenizer:
    return Tokenizer(meta_ranks)


@pytest.fixture(scope="session")
def small_ranks() -> dict[bytes, int]:
    """A vocabulary learned here."""
    return train([*real_texts(), *ADVERSARIAL.values()], 2048)


@pytest.fixture(scope="session")
def small(small_ranks: dict[bytes, int]) -> Tokenizer:
    return Tokenizer(small_ranks)


@pytest.fixture(scope="session")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Real documents in three shards, their vocabulary and their streams, raised on one worker."""
    return raise_tokens(tmp_path_factory.mktemp("tokens") / "herd", real_documents(), shards=3)


@pytest.fixture(scope="session")
def streams(herd: Workspace) -> TokenStreams:
    return TokenStreams.open(herd.folder("tokens"))
