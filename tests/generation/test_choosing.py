"""Choosing tokens: the distributions that come out, and rows that do not disturb each other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from herdsman.errors import InputError
from herdsman.generation.choosing import draw
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


@pytest.mark.parametrize(
    "wrong", [{"max_new_tokens": 0}, {"temperature": -0.1}, {"top_p": 0}, {"top_p": 1.1}, {"stop": ("",)}]
)
def test_impossible_sampling_is_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match=r"is not possible; it must be|a stop string is empty"):
        Sampling(**wrong)
