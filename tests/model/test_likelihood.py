"""Log-probabilities in slices of the vocabulary against all logits at once."""

from __future__ import annotations

import resource

import pytest
import torch

from herdsman.model import likelihood
from herdsman.model.likelihood import token_logprobs


def sample(tokens: int = 37, dim: int = 24, vocab: int = 1000) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(tokens, dim, generator=generator, requires_grad=True)
    weight = torch.randn(vocab, dim, generator=generator, requires_grad=True)
    return hidden, weight, torch.randint(0, vocab, (tokens,), generator=generator)


def objective(logprobs: torch.Tensor, normaliser: torch.Tensor) -> torch.Tensor:
    """Something that gives every token another gradient, through both results."""
    scale = torch.linspace(-1, 2, len(logprobs))
    return (logprobs * scale).sum() + (normaliser.square() * scale.flip(0)).sum()


@pytest.mark.parametrize("elements", [1, 1 << 12, 1 << 30])
def test_equal_to_all_logits_at_once(elements: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(likelihood.SLICE_ELEMENTS, "cpu", elements)
    hidden, weight, targets = sample()
    ours = token_logprobs(hidden, weight, targets)
    logits = hidden @ weight.T
    theirs = (logits.log_softmax(-1).gather(1, targets[:, None])[:, 0], logits.logsumexp(-1))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a, b, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(objective(*ours), (hidden, weight)),
        torch.autograd.grad(objective(*theirs), (hidden, weight)),
        strict=True,
    ):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-4)


def test_extreme_logits_stay_finite() -> None:
    hidden, weight, targets = sample(tokens=3)
    logprobs, _ = token_logprobs(hidden * 1e3, weight, targets)
    exact = (hidden.double() * 1e3 @ weight.double().T).log_softmax(-1).gather(1, targets[:, None])[:, 0]
    assert torch.allclose(logprobs.double(), exact, rtol=1e-5)
    assert torch.autograd.grad(logprobs.sum(), hidden)[0].isfinite().all()


def test_half_precision_stays_close() -> None:
    hidden, weight, targets = sample()
    with torch.autocast("cpu", torch.bfloat16):
        ours, _ = token_logprobs(hidden * 0.1, weight, targets)
    exact, _ = token_logprobs(hidden * 0.1, weight, targets)
    assert ours.dtype == torch.float32
    assert torch.allclose(ours, exact, atol=0.05)
    for leaf in (hidden, weight):
        gradient, reference = (torch.autograd.grad(x.sum(), leaf, retain_graph=True)[0] for x in (ours, exact))
        assert (gradient - reference).norm() < 0.02 * reference.norm()


def test_a_large_vocabulary_takes_little_memory() -> None:
    """All logits of 2,048 tokens over 64,000 words would take 524 MB, and as much again for each copy."""
    hidden, weight, targets = sample(2048, 8, 64_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    token_logprobs(hidden, weight, targets)[0].sum().backward()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
