"""The engine over HTTP against the same engine in this process: the same text, ids and log-probabilities."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from herdsman.errors import InputError, NetworkError
from herdsman.generation.constraint import Constraint
from herdsman.generation.engine import Completion
from herdsman.generation.local import LocalEngine
from herdsman.generation.remote import RemoteEngine
from herdsman.generation.sampling import Sampling
from tests.generation.completions import Completions, serve
from tests.generation.models import random_model, small_tokenizer

TOKENIZER = small_tokenizer()
PROMPTS = [[1, 2, 3], [100, 90], [7] * 30]
NO_STOP: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
def local() -> LocalEngine:
    return LocalEngine(random_model(context_length=256), TOKENIZER)


@pytest.fixture
def server(local: LocalEngine) -> Iterator[Completions]:
    with serve(local) as state:
        yield state


def remote(server: Completions, **more: object) -> RemoteEngine:
    return RemoteEngine(server.address, "ours", TOKENIZER, 256, **({"timeout_seconds": 20.0} | more))


@pytest.mark.parametrize(
    "wish",
    [
        Sampling(20, temperature=0),
        Sampling(20, temperature=0, logprobs=3, stop_ids=NO_STOP),
        Sampling(20, temperature=0, logit_bias={5: 20.0}, presence_penalty=9.0, stop_ids=frozenset([300])),
        Sampling(20, temperature=0, repetition_penalty=1.5, frequency_penalty=0.3, logprobs=0),
        Sampling(30, temperature=0, constraint=Constraint("regex", "[a-f]{8} x")),
        Sampling(30, temperature=0, constraint=Constraint("json_schema", '{"type":"array","maxItems":2}')),
    ],
)
def test_it_equals_the_engine_behind_it(local: LocalEngine, server: Completions, wish: Sampling) -> None:
    done: list[int] = []
    found = remote(server).generate(PROMPTS, wish, on_progress=done.append)
    for ours, theirs in zip(found, local.generate(PROMPTS, wish), strict=True):
        same(ours, theirs)
    assert sum(done) == len(PROMPTS)
    for prompt, whole in zip(PROMPTS, found, strict=True):
        pieces = list(remote(server).stream(prompt, wish))
        assert "".join(piece.text for piece in pieces) == whole.text
        assert [id for piece in pieces for id in piece.ids] == whole.ids
        assert pieces[-1].finish == whole.finish
        if wish.logprobs is not None:
            said = [each.logprob for piece in pieces for each in piece.logprobs or ()]
            assert said == pytest.approx([each.logprob for each in whole.logprobs or ()], abs=1e-4)


def same(ours: Completion, theirs: Completion) -> None:
    """Equal but for rounding: who shares a step may differ."""
    assert (ours.ids, ours.text, ours.finish) == (theirs.ids, theirs.text, theirs.finish)
    assert (ours.logprobs is None) == (theirs.logprobs is None)
    for one, other in zip(ours.logprobs or (), theirs.logprobs or (), strict=True):
        assert (one.id, [id for id, _ in one.top]) == (other.id, [id for id, _ in other.top])
        values = [one.logprob, *(value for _, value in one.top)]
        assert values == pytest.approx([other.logprob, *(value for _, value in other.top)], abs=1e-4)


def test_samples_are_told_by_seed_and_row(server: Completions) -> None:
    engine, wish = remote(server), Sampling(20, temperature=1.0, seed=3, stop_ids=NO_STOP)
    three = engine.generate([PROMPTS[0]] * 3, wish)
    assert len({tuple(each.ids) for each in three}) == 3
    assert engine.generate([PROMPTS[0]], wish, rows=[2]) == three[2:]


def test_scores_and_prompts_equal_those_of_the_engine_behind_it(local: LocalEngine, server: Completions) -> None:
    greedy = local.generate([PROMPTS[0]], Sampling(5, temperature=0, stop_ids=NO_STOP))[0].ids
    pairs = [(PROMPTS[0], greedy), ([1, 2], [3]), ([9] * 300, [8, 7])]
    for engine in (remote(server), remote(server, added_fields=False)):
        found = engine.score(pairs)
        for ours, theirs in zip(found, local.score([(c[-253:], t) for c, t in pairs]), strict=True):
            assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-4)
            assert (ours.tokens, ours.greedy) == (theirs.tokens, theirs.greedy)
    assert [score.greedy for score in found] == [True, False, False]
    assert remote(server).prompt_logprobs(PROMPTS[2], 2) == local.prompt_logprobs(PROMPTS[2], 2)


def test_the_protocol_as_openai_has_it(server: Completions) -> None:
    engine = remote(server, added_fields=False, key="secret")
    [found] = engine.generate([PROMPTS[0]], Sampling(9, temperature=0, stop=("zz",)))
    assert found.text
    asked = server.asked[-1]
    assert asked.pop("key") == "Bearer secret"
    assert set(asked) == {"path", "model", "prompt", "max_tokens", "temperature", "top_p", "presence_penalty",
                          "frequency_penalty", "seed", "stop"}  # fmt: skip
    with pytest.raises(InputError, match="OpenAI's protocol has no min_p, stop_token_ids"):
        engine.generate([PROMPTS[0]], Sampling(9, min_p=0.1, stop_ids=NO_STOP))
    assert engine.chat([{"role": "user", "content": "Well?"}], Sampling(5)) == "Yes."


def test_a_closed_stream_is_noticed_by_the_server(local: LocalEngine, server: Completions) -> None:
    pieces = remote(server).stream(PROMPTS[0], Sampling(250, temperature=0, stop_ids=NO_STOP))
    next(pieces)
    assert local.scheduler.running, "the first piece comes long before the last"
    pieces.close()
    deadline = time.monotonic() + 20
    while not server.closed and time.monotonic() < deadline:
        time.sleep(0.02)
    assert server.closed == 1
    assert not local.scheduler.running


def test_busy_servers_are_asked_again_and_others_not(server: Completions) -> None:
    engine = remote(server)
    server.failures[:] = [503, 429]
    assert engine.generate([PROMPTS[0]], Sampling(2, temperature=0))
    assert len(server.asked) == 3
    server.failures[:] = [503] * 2
    with pytest.raises(NetworkError, match=r"the server cannot answer \(503: not now\); try again later"):
        remote(server, retries=1).generate([PROMPTS[0]], Sampling(2))
    server.failures[:] = [401]
    with pytest.raises(NetworkError, match=r"the server refuses the key \(401: not now\)"):
        engine.generate([PROMPTS[0]], Sampling(2))
    server.failures[:] = [400]
    with pytest.raises(InputError, match=r"the server refuses the request \(400: not now\)"):
        list(engine.stream(PROMPTS[0], Sampling(2)))
    server.cut_stream = True
    with pytest.raises(NetworkError, match="the stream ended before the completion did"):
        list(engine.stream(PROMPTS[0], Sampling(20, temperature=0, stop_ids=NO_STOP)))


def test_nobody_there() -> None:
    engine = RemoteEngine("http://127.0.0.1:9/v1", "ours", TOKENIZER, 256, retries=0)
    with pytest.raises(NetworkError, match=r"127\.0\.0\.1:9/v1: no answer"):
        engine.generate([[1]], Sampling(2))
    with pytest.raises(InputError, match="leaves no room"):
        engine.generate([[1] * 256], Sampling(2))
