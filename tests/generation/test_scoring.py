"""Trees of continuations against each continuation alone, for vocabularies and for rewards."""

from __future__ import annotations

import pytest
import torch

from herdsman.generation.scoring import SMALL_TOKENS, Pair, _rows, reward_continuations, score_continuations
from herdsman.model.llama import Llama
from tests.generation.models import random_model, small_tokenizer

VOCAB = small_tokenizer().vocab_size


def pairs(seed: int) -> list[Pair]:
    """Some contexts with several continuations, some with one, some continuations of one token."""
    generator = torch.Generator().manual_seed(seed)

    def ids(most: int) -> list[int]:
        length = int(torch.randint(1, most + 1, (1,), generator=generator))
        return torch.randint(0, VOCAB, (length,), generator=generator).tolist()

    contexts = [ids(60) for _ in range(8)]
    chosen = torch.randint(0, 8, (40,), generator=generator).tolist()
    return [(contexts[number], ids(1 if number == 3 else 20)) for number in chosen]


@pytest.mark.parametrize("batch_tokens", [1, 200, 4096])
@pytest.mark.parametrize("seed", range(3))
def test_a_tree_equals_its_continuations_one_by_one(seed: int, batch_tokens: int) -> None:
    model, asked = random_model(256, seed), pairs(seed)
    done: list[int] = []
    found = score_continuations(model, asked, batch_tokens, done.append)
    assert sum(done) == len(asked)
    assert any(len(row.branches) > 3 for row in _rows(asked))
    for (context, continuation), score in zip(asked, found, strict=True):
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([[*context, *continuation]])))[0, len(context) - 1 : -1]
        logprobs = torch.log_softmax(logits.double(), -1)[range(len(continuation)), continuation]
        assert score.logprob == pytest.approx(float(logprobs.sum()), abs=1e-5 * len(continuation))
        assert score.tokens == len(continuation)
        assert score.greedy == (logits.argmax(-1).tolist() == list(continuation))


def test_greedy_continuations_are_known_in_a_tree() -> None:
    model = random_model(256)
    context = list(range(50, 90))
    with torch.no_grad():
        ids = list(context)
        for _ in range(6):
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    asked = [(context, ids[40:][:count]) for count in range(1, 7)] + [(context, [*ids[40:45], 0])]
    assert [score.greedy for score in score_continuations(model, asked)] == [True] * 6 + [False]


def test_rewards_equal_those_of_whole_dialogs() -> None:
    options = random_model(256).options
    model = Llama(options, VOCAB, scores=True).initialise(1).eval()
    asked = pairs(5)
    found = reward_continuations(model, asked, 300)
    for (context, response), reward in zip(asked, found, strict=True):
        with torch.no_grad():
            alone = model.logits(model(torch.tensor([[*context, *response]])))[0, -1, 0]
        assert reward == pytest.approx(float(alone), abs=1e-5)


def test_a_context_is_computed_once_where_that_is_cheaper() -> None:
    context = tuple(range(200))
    answers = [(context, [number] * 50) for number in range(6)]
    assert [len(row.branches) for row in _rows(answers)] == [2, 4]
    windows = [((1,), [number] * (SMALL_TOKENS + 1)) for number in range(6)]
    assert [len(row.branches) for row in _rows(windows)] == [1] * 6
