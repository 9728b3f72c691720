"""Choosing tokens: the distributions that come out, and rows that do not disturb each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.generation.choosing import Row, choose, draw
from herdsman.generation.sampling import Sampling, draws


def drawn(logits: Tensor, temperature: float, top_p: float, numbers: Tensor) -> Tensor:
    return draw(logits, [Sampling(temperature=temperature, top_p=top_p)] * len(logits), numbers)


def test_temperature_and_nucleus_follow_the_distribution() -> None:
    logits = torch.tensor([2.0, 1.0, 0.5, -1.0, float("-inf")])
    numbers = torch.from_numpy(draws(1, 2).random(20_000))
    rows = logits.expand(len(numbers), -1)
    for temperature, top_p, kept in ((1.0, 1.0, 4), (0.5, 1.0, 4), (1.0, 0.8, 2), (1.0, 0.85, 3), (1.0, 1e-9, 1)):
        counts = torch.bincount(drawn(rows, temperature, top_p, numbers), minlength=5).double() / len(numbers)
        expected = torch.softmax(logits.double() / temperature, -1)
        expected[kept:] = 0
        assert counts[kept:].sum() == 0
        assert torch.allclose(counts, expected / expected.sum(), atol=0.012)
    assert drawn(logits[None], 1.0, 1.0, torch.tensor([1.0])).tolist() == [3], "never a token without probability"
    assert drawn(logits.flip(0)[None], 1.0, 1.0, torch.tensor([0.0])).tolist() == [1], "at this end neither"


def test_a_wide_nucleus_is_found_beyond_the_first_guess() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1000, generator=generator) * torch.tensor([[0.1], [1.0], [8.0]])
    numbers = torch.from_numpy(draws(0, 0).random(500))
    for row in logits:
        found = drawn(row.expand(500, -1), 1.0, 0.9, numbers)
        probabilities, order = torch.softmax(row, -1).double().sort(descending=True)
        nucleus = order[: int((probabilities.cumsum(-1) - probabilities < 0.9).sum())]
        assert set(found.tolist()) <= set(nucleus.tolist())
        assert len(set(found.tolist())) > 0.5 * min(len(nucleus), 200)


WISHES = [
    Sampling(temperature=0.7, top_k=5),
    Sampling(temperature=1.3, top_k=80, top_p=0.9),
    Sampling(temperature=1.0, top_p=0.5),
    Sampling(temperature=1.0, top_p=1.0, min_p=0.02),
    Sampling(temperature=0.8, top_p=0.95, top_k=300, min_p=0.001),
    Sampling(temperature=1.0, top_p=1.0),
    Sampling(temperature=1.0, top_p=0.9999),
]


def processed(logits: Tensor, wish: Sampling) -> Tensor:
    """Probabilities [vocab] as transformers' own processors leave them."""
    transformers = pytest.importorskip("transformers")
    scores = logits[None] / wish.temperature
    if wish.top_k:
        scores = transformers.TopKLogitsWarper(wish.top_k)(None, scores)
    if wish.top_p < 1:
        scores = transformers.TopPLogitsWarper(wish.top_p)(None, scores)
    if wish.min_p:  # of the likeliest token, which no filter takes away
        scores = transformers.MinPLogitsWarper(wish.min_p)(None, scores)
    return torch.softmax(scores.double(), -1)[0]


@pytest.mark.parametrize("vocab", [40, 1500, 20_000])
def test_rows_of_different_settings_each_follow_the_distribution_of_transformers(vocab: int) -> None:
    """Draws at even distances show the whole distribution, with no chance in it."""
    logits = torch.randn(vocab, generator=torch.Generator().manual_seed(1)) * 2.5
    count = 200
    even = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    settings = [wish for wish in WISHES for _ in even]
    found = draw(logits.expand(len(settings), -1), settings, even.repeat(len(WISHES))).view(len(WISHES), -1)
    for wish, tokens in zip(WISHES, found, strict=True):
        expected = processed(logits, wish)
        shares = torch.bincount(tokens, minlength=vocab).double() / count
        assert (shares - expected).abs().max() <= 1.01 / count
        assert not shares[expected == 0].any()


def test_penalties_and_bias_equal_those_of_transformers_and_of_openai() -> None:
    transformers = pytest.importorskip("transformers")
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(2))
    prompt, said = [1, 2, 3, 3], [4, 4, 4, 5]
    rows = [
        Row(Sampling(repetition_penalty=1.3), 0, prompt),
        Row(Sampling(presence_penalty=0.5, frequency_penalty=0.2), 0, prompt),
        Row(Sampling(logit_bias={7: 3.0, 8: float("-inf")}), 0, prompt),
    ]
    changed = logits.clone()
    for row, mine in zip(rows, changed, strict=True):
        for token in said:
            row.accept(token)
        row.adjust(mine)
    repeated = transformers.RepetitionPenaltyLogitsProcessor(1.3)(torch.tensor([prompt + said]), logits[:1].clone())
    assert torch.equal(changed[0], repeated[0])
    expected = logits[1:].clone()
    expected[0, 4] -= 0.5 + 3 * 0.2
    expected[0, 5] -= 0.5 + 0.2
    expected[1, 7] += 3.0
    expected[1, 8] = float("-inf")
    assert torch.allclose(changed[1:], expected)


def test_log_probabilities_are_those_of_the_model_whatever_is_done_to_the_draw() -> None:
    logits = torch.randn(3, 100, generator=torch.Generator().manual_seed(3))
    expected = torch.log_softmax(logits.double(), -1)
    wishes = [
        Sampling(temperature=0.3, top_k=1, logprobs=5),
        Sampling(temperature=0),
        Sampling(temperature=0, logit_bias={9: 100.0}, logprobs=0),
    ]
    tokens, found = choose(logits.clone(), [Row(wish, 0, [1]) for wish in wishes])
    assert tokens == [int(logits[0].argmax()), int(logits[1].argmax()), 9]
    assert found[1] is None
    for place, count in ((0, 5), (2, 0)):
        logprob = found[place]
        assert logprob is not None
        assert logprob.id == tokens[place]
        assert logprob.logprob == pytest.approx(float(expected[place, tokens[place]]), abs=1e-5)
        best = expected[place].topk(count)
        assert [id for id, _ in logprob.top] == best.indices.tolist()
        assert [value for _, value in logprob.top] == pytest.approx(best.values.tolist(), abs=1e-5)


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.1}, {"stop": ("",)}]
)
def test_impossible_sampling_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"is not possible; it must be|a stop string is empty"):
        Sampling(**wrong)
