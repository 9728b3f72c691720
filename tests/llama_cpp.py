"""llama.cpp itself, as the server in the `xllamacpp` package: what runs an exported GGUF file."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

xllamacpp = pytest.importorskip("xllamacpp")


class LlamaCpp:
    """A GGUF file, loaded. One thread, and keys and values in float32, so that its arithmetic is as exact as ours."""

    def __init__(self, path: Path, context_length: int = 512):
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_ctx, settings.n_parallel, settings.verbosity = context_length, 1, -1
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
        settings.cache_prompt = settings.fit_params = settings.warmup = False
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        self._server = xllamacpp.Server(settings)

    def encode(self, text: str, whole: bool = False) -> list[int]:
        """Ids of a text: of a plain one, or with `whole` of one that begins here and may name special tokens."""
        found = self._post("/tokenize", {"content": text, "add_special": whole, "parse_special": whole})
        return list(found["tokens"])

    def greedy(self, prompt: list[int], most: int, likely: int | None = None) -> list[int]:
        """The likeliest tokens, one after the other, with the one that ends the text; `likely` always is, if given."""
        wanted = {"prompt": prompt, "n_predict": most, "temperature": 0, "return_tokens": True}
        if likely is not None:
            wanted["logit_bias"] = [[likely, 1000]]
        return list(self._post("/completion", wanted)["tokens"])

    def likeliest(self, prompt: list[int], count: int) -> dict[int, float]:
        """Log-probabilities of the likeliest next tokens."""
        # Half a character, or an end, would be told nothing of: so a letter is drawn, which leaves these numbers alone.
        letter = [[self.encode("a")[0], 1000]]
        wanted = {"prompt": prompt, "n_predict": 1, "temperature": 0, "n_probs": count, "logit_bias": letter}
        found = self._post("/completion", wanted)["completion_probabilities"][0]["top_logprobs"]
        return {token["id"]: token["logprob"] for token in found}

    def chat_prompt(self, messages: list[dict[str, Any]], **more: Any) -> str:
        """What its template engine makes of a dialog, with the header of a reply."""
        return str(self._post("/apply-template", {"messages": messages, **more})["prompt"])

    def _post(self, path: str, wanted: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            self._server.listening_address + path, json.dumps(wanted).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found
