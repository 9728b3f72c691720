"""The scheduler under random schedules, in memory that is too small: nothing is left behind, and nothing is changed by
who shares a step."""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from random import Random

import pytest
import torch

from herdsman.errors import InputError
from herdsman.generation.cache import BLOCK_TOKENS, PagedCache, block_bytes, blocks_for
from herdsman.generation.choosing import Row, choose
from herdsman.generation.engine import Piece
from herdsman.generation.request import Request
from herdsman.generation.runner import TorchRunner
from herdsman.generation.sampling import Sampling
from herdsman.generation.scheduler import SHARED_PREFILL_TOKENS, Scheduler
from herdsman.model.llama import Llama
from herdsman.model.options import ModelOptions
from tests.generation.models import random_model, small_tokenizer

TOKENIZER = small_tokenizer()
CONTEXT = 120
NO_STOP: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
def model() -> Llama:
    return random_model(CONTEXT)


def scheduler(model: Llama, blocks: int) -> Scheduler:
    return Scheduler(TorchRunner(model, torch.float32), PagedCache(model.options, blocks, torch.float32))


class Asked:
    """A request, what it brought, and what it should bring."""

    def __init__(self, prompt: list[int], sampling: Sampling, row: int, context: int = CONTEXT):
        self.prompt, self.sampling, self.row = prompt, sampling, row
        self.pieces: list[Piece] = []
        self.request = Request(prompt, sampling, row, TOKENIZER, context, self.pieces.append)

    @property
    def ids(self) -> list[int]:
        return [id for piece in self.pieces for id in piece.ids]

    def alone(self, model: Llama) -> list[int]:
        """The same sample without cache, batch or padding: the whole sequence is computed for every token."""
        ids, row = list(self.prompt), Row(self.sampling, self.row, self.prompt)
        while len(ids) < min(model.options.context_length, len(self.prompt) + self.sampling.max_new_tokens):
            with torch.inference_mode():
                [token], _ = choose(model.logits(model(torch.tensor([ids])))[:, -1], [row])
            if token in (self.sampling.stop_ids or ()):
                break
            row.accept(token)
            ids.append(token)
        return ids[len(self.prompt) :]


def some_sampling(random: Random) -> Sampling:
    return Sampling(
        max_new_tokens=random.randint(1, 60),
        temperature=random.choice([0.0, 0.7, 1.0]),
        top_p=random.choice([1.0, 0.9]),
        top_k=random.choice([0, 0, 20]),
        min_p=random.choice([0.0, 0.05]),
        repetition_penalty=random.choice([1.0, 1.0, 1.2]),
        presence_penalty=random.choice([0.0, 0.5]),
        frequency_penalty=random.choice([0.0, 0.1]),
        logit_bias=random.choice([{}, {7: 4.0}]),
        stop_ids=random.choice([NO_STOP, frozenset(range(0, 519, 40))]),
        seed=random.randrange(5),
        logprobs=random.choice([None, 0, 3]),
    )


def drive(scheduler: Scheduler) -> None:
    for request, piece in scheduler.step():
        request.deliver(piece)


@pytest.mark.parametrize("seed", range(5))
def test_any_schedule_gives_what_each_request_gives_alone(model: Llama, seed: int) -> None:
    random = Random(seed)
    queue = scheduler(model, blocks=random.choice([8, 9, 12]))
    beginnings = [[random.randrange(519) for _ in range(random.randint(1, 80))] for _ in range(4)]
    asked: list[Asked] = []
    cancelled: list[Asked] = []
    while len(asked) < 24 or queue.waiting or queue.running:
        if len(asked) < 24 and random.random() < 0.8:
            beginning = random.choice(beginnings)
            prompt = beginning[: random.randint(1, len(beginning))] + [random.randrange(519)] * random.randint(0, 3)
            new = Asked(prompt, some_sampling(random), random.randrange(9))
            queue.check(new.request)
            queue.add(new.request)
            asked.append(new)
        if asked and random.random() < 0.05:
            gone = random.choice(asked)
            if not gone.request.finish:
                queue.cancel(gone.request)
                cancelled.append(gone)
        drive(queue)
        held = defaultdict(int)
        for request in queue.running:
            for block in request.blocks:
                held[block] += 1
        assert dict(held) == {block: count for block, count in enumerate(queue.cache._holders) if count}
        assert not any(request.blocks for request in queue.waiting)
    assert queue.cache.free_blocks == queue.cache.blocks
    assert queue.cache.bytes_used == 0
    assert queue.counts.preemptions
    assert queue.counts.tokens_reused
    for each in asked:
        expected = each.alone(model)
        if each in cancelled:
            assert not each.request.finish
            assert each.ids == expected[: len(each.ids)]
        else:
            assert each.ids == expected
            assert each.request.finish == ("length" if len(expected) == each.request.limit else "stop")


MEASURE_MEMORY = """
import psutil, sys, torch
from herdsman.generation.cache import PagedCache, blocks_for
from herdsman.model.options import ModelOptions

options = ModelOptions(layers=4, dim=128, heads=4, kv_heads=2, context_length=64)
before = psutil.Process().memory_info().rss
cache = PagedCache(options, blocks_for(int(sys.argv[1])), torch.bfloat16)
untouched = psutil.Process().memory_info().rss - before
cache.keys.fill_(1.0)
cache.values.fill_(1.0)
print(untouched, psutil.Process().memory_info().rss - before, cache.bytes)
"""


def test_memory_is_what_arithmetic_says() -> None:
    options = ModelOptions(layers=4, dim=128, heads=4, kv_heads=2, context_length=64)
    one_token = 2 * 4 * 2 * 32 * 2
    assert block_bytes(options, torch.bfloat16) == BLOCK_TOKENS * one_token
    tokens = 128 * 2**20 // one_token
    # A process of its own: here, what other tests leave to the garbage collector may go in the middle of it.
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE_MEMORY, str(tokens)], capture_output=True, text=True, check=True
    )
    untouched, touched, counted = map(int, measured.stdout.split())
    assert untouched < 0.05 * counted, "memory that is not used costs nothing"
    assert touched == pytest.approx(tokens * one_token, rel=0.05)
    assert counted == tokens * one_token


def test_samples_of_one_prompt_share_it(model: Llama) -> None:
    queue = scheduler(model, blocks=100)
    asked = [Asked(list(range(100)), Sampling(8, temperature=1.0, stop_ids=NO_STOP), row) for row in range(12)]
    for each in asked:
        queue.add(each.request)
    drive(queue)
    assert len(queue.running) == 1, "the others wait for its blocks"
    drive(queue)
    assert len(queue.running) == 12
    assert queue.cache.blocks - queue.cache.free_blocks == 6 + 12
    while queue.running:
        drive(queue)
    assert queue.counts.tokens_prefilled == 100 + 11 * 4
    assert len({tuple(each.ids) for each in asked}) == 12


def test_the_next_turn_of_a_chat_reads_only_what_is_new(model: Llama) -> None:
    queue = scheduler(model, blocks=20)
    first = Asked(list(range(40)), Sampling(30, temperature=0, stop_ids=NO_STOP), 0)
    queue.add(first.request)
    while queue.running or queue.waiting:
        drive(queue)
    second = Asked([*range(40), *first.ids, 1, 2, 3], Sampling(5, temperature=0, stop_ids=NO_STOP), 0)
    before = queue.counts.tokens_prefilled
    queue.add(second.request)
    while queue.running or queue.waiting:
        drive(queue)
    assert queue.counts.tokens_reused == 64
    assert queue.counts.tokens_prefilled - before == 73 - 64
    assert second.ids == second.alone(model)


def test_content_is_forgotten_when_its_memory_is_needed(model: Llama) -> None:
    queue = scheduler(model, blocks=8)
    for start in (0, 200, 0):
        each = Asked(list(range(start, start + 100)), Sampling(4, temperature=0, stop_ids=NO_STOP), 0)
        queue.add(each.request)
        while queue.running or queue.waiting:
            drive(queue)
        assert each.ids == each.alone(model)
    assert queue.counts.tokens_reused == BLOCK_TOKENS, "beginnings stay longest"
    cache = queue.cache
    assert len(cache._found) == len(cache._content) <= cache.blocks


def test_a_long_prompt_does_not_stop_the_streams() -> None:
    model = random_model(8 * SHARED_PREFILL_TOKENS)
    queue = scheduler(model, blocks=blocks_for(9 * SHARED_PREFILL_TOKENS))
    streaming = Asked([1, 2, 3], Sampling(200, temperature=0, stop_ids=NO_STOP), 0, model.options.context_length)
    queue.add(streaming.request)
    drive(queue)
    long = Asked([5] * 7 * SHARED_PREFILL_TOKENS, Sampling(1, stop_ids=NO_STOP), 0, model.options.context_length)
    short = Asked([6] * 100, Sampling(1, stop_ids=NO_STOP), 0, model.options.context_length)
    queue.add(long.request)
    queue.add(short.request)
    steps = 0
    finished: dict[str, int] = {}
    while not long.request.finish:
        said = len(streaming.request.ids)
        before = queue.counts.tokens_prefilled
        drive(queue)
        steps += 1
        assert len(streaming.request.ids) == said + 1, "a token at every step"
        assert queue.counts.tokens_prefilled - before <= SHARED_PREFILL_TOKENS
        if short.request.finish:
            finished.setdefault("short", steps)
    assert steps >= 7
    assert finished["short"] == 1, "nor does it stop those who ask for little"


def test_what_can_never_fit_is_refused(model: Llama) -> None:
    queue = scheduler(model, blocks=3)
    queue.check(Asked([1] * 40, Sampling(9), 0).request)  # the last token is not computed
    with pytest.raises(InputError, match="40 tokens of prompt and 10 new ones need 4 blocks of cache and there are 3"):
        queue.check(Asked([1] * 40, Sampling(10), 0).request)
