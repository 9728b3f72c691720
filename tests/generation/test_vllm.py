"""vLLM cannot run where these tests do: what can be seen is that its absence is said in one sentence."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from herdsman.errors import MachineError
from herdsman.generation.vllm import VLLMEngine
from tests.generation.models import small_tokenizer


@pytest.mark.skipif(find_spec("vllm") is not None, reason="vLLM is installed here")
def test_its_absence_is_said_in_one_sentence() -> None:
    with pytest.raises(MachineError, match="vLLM is not installed; pip install vllm, or use Herdsman's own engine"):
        VLLMEngine("somewhere", small_tokenizer())
