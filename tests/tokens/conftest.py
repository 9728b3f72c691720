from __future__ import annotations

import sys
from pathlib import Path

import pytest

from herdsman.tokens.learn import train
from herdsman.tokens.streams import TokenStreams
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.tokens.vocabulary import extend, read_ranks
from herdsman.workspace import Workspace
from tests.tokens.material import ADVERSARIAL, foreign, raise_tokens, real_documents, real_texts


@pytest.fixture(scope="session")
def meta_vocabulary() -> Path:
    """Llama 3's own vocabulary."""
    llama3 = pytest.importorskip("llama_models.llama3")
    return Path(llama3.__file__).with_name("tokenizer.model")


@pytest.fixture(scope="session")
def meta_ranks(meta_vocabulary: Path) -> dict[bytes, int]:
    return read_ranks(meta_vocabulary)


@pytest.fixture(scope="session", params=["fastokens", "tiktoken"])
def encoder(request: pytest.FixtureRequest) -> str:
    """What does the work in the tokenizers of these tests: each of them must give the same."""
    return str(request.param)


def made_with(encoder: str, ranks: dict[bytes, int]) -> Tokenizer:
    tokenizer = Tokenizer(ranks)
    tokenizer._characters_before_fast = 0
    with pytest.MonkeyPatch.context() as patch:
        if encoder == "tiktoken":
            patch.setitem(sys.modules, "fastokens", None)  # as if it were not installed
        assert (tokenizer._fast is None) == (encoder == "tiktoken")
    return tokenizer


@pytest.fixture(scope="session")
def meta(meta_ranks: dict[bytes, int], encoder: str) -> Tokenizer:
    return made_with(encoder, meta_ranks)


@pytest.fixture(scope="session")
def small_ranks() -> dict[bytes, int]:
    """A vocabulary learned here."""
    return train([*real_texts(), *ADVERSARIAL.values()], 2048)


@pytest.fixture(scope="session")
def small(small_ranks: dict[bytes, int], encoder: str) -> Tokenizer:
    return made_with(encoder, small_ranks)


@pytest.fixture(scope="session")
def extended_ranks(small_ranks: dict[bytes, int]) -> dict[bytes, int]:
    """A vocabulary put together from two trainings, on texts that share letters and words but not all."""
    other = [*map(foreign, real_texts()), *(text.swapcase() for text in real_texts()[:20])]
    return extend(small_ranks, train(other, 4096), 1500)


@pytest.fixture(scope="session")
def extended(extended_ranks: dict[bytes, int], encoder: str) -> Tokenizer:
    return made_with(encoder, extended_ranks)


@pytest.fixture(scope="session")
def herd(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Real documents in three shards, their vocabulary and their streams, raised on one worker."""
    return raise_tokens(tmp_path_factory.mktemp("tokens") / "herd", real_documents(), shards=3)


@pytest.fixture(scope="session")
def streams(herd: Workspace) -> TokenStreams:
    return TokenStreams.open(herd.folder("tokens"))
