from __future__ import annotations

import pytest

from herdsman.tokens.tokenizer import Tokenizer
from tests.posttraining.herd import learn_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return learn_tokenizer()
