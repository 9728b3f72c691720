"""/v1/completions: texts, ids, echoes and log-probabilities, among them the exact requests of lm-evaluation-harness."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest
from openai import OpenAI

from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.serving.completions import listed_logprobs
from herdsman.serving.server import Server
from tests.generation.models import parrot, random_model, small_tokenizer
from tests.serving.conftest import SAYS


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    """What the server's model `random` is."""
    return LocalEngine(random_model(context_length=2048), small_tokenizer())


@pytest.mark.parametrize("n", [1, 2])
def test_texts_and_ids_give_the_engines_completions(client: OpenAI, engine: LocalEngine, n: int) -> None:
    texts = ["the an", "é"]
    bos = engine.tokenizer.bos  # type: ignore[union-attr]
    ids = [[bos, *engine.tokenizer.encode(text)] for text in texts]
    prompts = [each for each in ids for _ in range(n)]
    expected = [each.text for each in engine.generate(prompts, Sampling(12, seed=5))]
    for prompt in (texts, ids):
        answer = client.completions.create(model="random", prompt=prompt, max_tokens=12, seed=5, n=n)
        assert [choice.text for choice in answer.choices] == expected
        assert [choice.index for choice in answer.choices] == list(range(2 * n))
        assert answer.usage is not None
        assert answer.usage.prompt_tokens == sum(map(len, ids))
    for text, alone in ((texts[0], ids[0]), (texts[0], texts[0])):
        answer = client.completions.create(model="random", prompt=alone, max_tokens=12, seed=5, n=n, echo=True)
        shown = text if isinstance(alone, str) else engine.tokenizer.decode(alone)
        assert [choice.text for choice in answer.choices] == [shown + each for each in expected[:n]]


def test_a_stream_carries_the_same_text(client: OpenAI) -> None:
    asked: Any = {"model": "random", "prompt": ["the", "an"], "seed": 3, "max_tokens": 20, "echo": True}
    whole = client.completions.create(**asked)
    texts, usage = ["", ""], None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [choice.text for choice in whole.choices]
    assert usage == whole.usage


def test_the_echo_tells_how_likely_each_token_of_the_prompt_was(client: OpenAI, engine: LocalEngine) -> None:
    ids = engine.tokenizer.encode("the an é the")
    expected = engine.prompt_logprobs(ids, 2)
    for tokens in (0, 1):
        answer = client.completions.create(
            model="random", prompt=ids, max_tokens=tokens, echo=True, logprobs=2, temperature=0
        )
        found = answer.choices[0].logprobs
        assert found is not None
        assert found.token_logprobs is not None
        assert found.top_logprobs is not None
        assert len(found.tokens or []) == len(ids) + tokens
        assert found.token_logprobs[0] is None
        assert found.top_logprobs[0] is None
        for place in range(1, len(ids)):
            token = expected[place]
            assert token is not None
            assert found.token_logprobs[place] == pytest.approx(token.logprob, abs=1e-4)
            best = max(found.top_logprobs[place].values())
            assert best == pytest.approx(token.top[0][1], abs=1e-4)
            assert (found.token_logprobs[place] == best) == (token.top[0][0] == ids[place])


def harness_scores(server: Server, batch: list[tuple[list[int], list[int]]]) -> list[tuple[float, bool]]:
    """What lm-evaluation-harness 0.4.13 makes of (context, continuation) pairs, by its request to a local server."""
    payload = {
        "model": "random",
        "prompt": [context + continuation for context, continuation in batch],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = httpx.post(f"{server.address}/v1/completions", json=payload, timeout=60).raise_for_status().json()
    scores = []
    for choice, (context, _) in zip(sorted(answer["choices"], key=lambda c: c["index"]), batch, strict=True):
        logprobs = choice["logprobs"]["token_logprobs"][len(context) : -1]
        alternatives = choice["logprobs"]["top_logprobs"][len(context) : -1]
        greedy = all(own == max(top.values()) for own, top in zip(logprobs, alternatives, strict=True))
        scores.append((sum(logprobs), greedy))
    return scores


def test_scores_of_the_harness_are_the_engines(server: Server, engine: LocalEngine) -> None:
    encode = engine.tokenizer.encode
    pairs = [(encode(context), encode(rest)) for context in ("the an", "é: ") for rest in ("the", " no", "é\x90")]
    for context, _ in list(pairs[:2]):  # And what the model itself would write, which is greedy.
        pairs.append((context, engine.generate([context], Sampling(5, temperature=0, stop_ids=frozenset()))[0].ids))
    expected = engine.score(pairs)
    found = harness_scores(server, pairs)
    assert [logprob for logprob, _ in found] == pytest.approx([score.logprob for score in expected], abs=1e-3)
    assert [greedy for _, greedy in found] == [score.greedy for score in expected]
    assert {greedy for _, greedy in found} == {True, False}


def test_the_harness_gets_its_token_even_where_the_text_ends(client: OpenAI) -> None:
    """It takes the last entry for the token that was written: an end that is not listed would cost the prompt one."""
    _, tokenizer = parrot(SAYS)
    ids = tokenizer.encode(SAYS.decode())
    answer = client.completions.create(model="parrot", prompt=ids, max_tokens=1, logprobs=1, echo=True, temperature=0)
    choice = answer.choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.tokens is not None
    assert choice.logprobs.tokens[-1] == "<|eot_id|>"
    assert len(choice.logprobs.tokens) == len(ids) + 1
    assert (choice.text, choice.finish_reason) == (SAYS.decode(), "stop")


def test_the_harness_can_use_the_servers_tokenizer(server: Server) -> None:
    """Its `tokenizer_backend=remote`."""
    info = httpx.get(f"{server.address}/tokenizer_info").raise_for_status().json()
    assert (info["bos_token"], info["eos_token"]) == ("<|begin_of_text|>", "<|end_of_text|>")

    def tokenize(text: str, **more: Any) -> list[int]:
        body = {"prompt": text, "add_special_tokens": False} | more
        return httpx.post(f"{server.address}/tokenize", json=body).raise_for_status().json()["tokens"]

    tokenizer = small_tokenizer()
    assert tokenize("the é") == tokenizer.encode("the é")
    assert tokenize("<|end_of_text|>") == [tokenizer.special["<|end_of_text|>"]]
    assert tokenize("a<|end_of_text|>") == tokenizer.encode("a<|end_of_text|>")
    assert tokenize("the", add_special_tokens=True) == [tokenizer.bos, *tokenizer.encode("the")]
    body = {"tokens": tokenizer.encode("the é")}
    assert httpx.post(f"{server.address}/detokenize", json=body).json() == {"prompt": "the é"}


def test_lists_of_log_probabilities_say_where_each_token_begins() -> None:
    tokenizer = small_tokenizer()
    ids = tokenizer.encode("aé𐐑b")
    found = listed_logprobs(tokenizer, ids, [None] * len(ids), offset=10)
    assert "".join(tokenizer.decode([id]) for id in ids[:1]) == "a"
    starts = dict(zip(found["tokens"], found["text_offset"], strict=True))
    assert (starts["a"], starts["é"], starts["b"]) == (10, 11, 13)
    assert any(token.startswith("bytes:\\x") for token in found["tokens"])


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": ["a", 1]}, "prompt"),
        ({"prompt": [True]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [10**6]}, "vocabulary"),
        ({"prompt": "x" * 3000}, "context holds"),
        ({"prompt": "x" * 10**6}, "characters do not fit"),
        ({"best_of": 3}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"prompt": ["x"] * 200, "n": 2}, "completions at a time"),
        ({"prompt": ["x"] * 2000, "max_tokens": 1}, "at a time"),
        ({"stream": True, "echo": True, "logprobs": 1}, "cannot be streamed"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(client: OpenAI, more: dict[str, Any], named: str) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        client.completions.create(**{"model": "random", "prompt": "x", **more})
    body: Any = error.value.body
    assert named in body["message"]
    assert "\n" not in body["message"]
