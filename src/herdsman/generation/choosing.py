"""The next token of each row of a batch, whose rows may each have settings of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from herdsman.generation.constraint import Matcher
from herdsman.generation.engine import TokenLogprob
from herdsman.generation.sampling import Sampling, draws

GUESSES = (64, 1024)
"""How many of the likeliest tokens are put in order before the whole vocabulary is."""

LEAST_TEMPERATURE = 1e-6


class Row:
    """What one completion needs to be drawn: its settings, its stream of random numbers, and what it has said.

    Args:
        sampling: its settings.
        number: of its stream.
        prompt: the tokens before it.
        matcher: follows its constraint, if it has one.
    """

    def __init__(self, sampling: Sampling, number: int, prompt: Sequence[int], matcher: Matcher | None = None):
        self.sampling, self.matcher = sampling, matcher
        self.random = draws(sampling.seed, number)
        self.prompt = set(prompt) if sampling.repetition_penalty != 1 else set()
        self.said: Counter[int] = Counter()

    def accept(self, token: int) -> None:
        """The token that was drawn and belongs to the completion."""
        self.said[token] += 1
        if self.matcher:
            self.matcher.accept(token)

    def adjust(self, logits: Tensor) -> None:
        """Penalties, bias and constraint. logits: [vocab], changed in place."""
        wish = self.sampling
        if wish.repetition_penalty != 1:
            seen = torch.tensor(sorted(self.prompt | self.said.keys()), device=logits.device)
            values, penalty = logits[seen], wish.repetition_penalty
            logits[seen] = torch.where(values > 0, values / penalty, values * penalty)
        if self.said and (wish.presence_penalty or wish.frequency_penalty):
            said = torch.tensor(list(self.said), device=logits.device)
            counts = torch.tensor(list(self.said.values()), dtype=logits.dtype, device=logits.device)
            logits[said] -= wish.presence_penalty + wish.frequency_penalty * counts
        if wish.logit_bias:
            biased = torch.tensor(list(wish.logit_bias), device=logits.device)
            logits[biased] += torch.tensor(list(wish.logit_bias.values()), dtype=logits.dtype, device=logits.device)
        if self.matcher:
            self.matcher.forbid(logits)


def choose(logits: Tensor, rows: Sequence[Row]) -> tuple[list[int], list[TokenLogprob | None]]:
    """The next token of each row, and its log-probability where the row asks for it.

    logits: float32 [rows, vocab]; those of rows with penalties, bias or constraint are changed.
    """
    asking = [place for place, row in enumerate(rows) if row.sampling.logprobs is not None]
    raw = logits[asking] if asking else None
    for place, row in enumerate(rows):
        row.adjust(logits[place])
    tokens = [0] * len(rows)
    greedy = [place for place, row in enumerate(rows) if row.sampling.temperature == 0]
    drawn = [place for place, row in enumerate(rows) if row.sampling.temperature != 0]
    if greedy:
        best = (logits if not drawn else logits[greedy]).argmax(-1)
        for place, token in zip(greedy, best.tolist(), strict=True):
            tokens[place] = token
    if drawn:
        numbers = torch.tensor([rows[place].random.random() for place in drawn], dtype=torch.float64)
        found = draw(logits[drawn] if greedy else logits, [rows[place].sampling for place in drawn], numbers)
        for place, token in zip(drawn, found.tolist(), strict=True):
            tokens[place] = token
    logprobs: list[TokenLogprob | None] = [None] * len(rows)
    if raw is not None:
        top = max(rows[place].sampling.logprobs or 0 for place in asking)
        for place, logprob in zip(asking, likelihoods(raw, [tokens[place] for place in asking], top), strict=True):
            count = rows[place].sampling.logprobs
            logprobs[place] = TokenLogprob(logprob.id, logprob.logprob, logprob.top[:count])
    return tokens, logprobs


def likelihoods(logits: Tensor, tokens: Sequence[int], top: int) -> list[TokenLogprob]:
    """Of each token in the distribution [tokens, vocab] it was drawn from, with the `top` likeliest beside it."""
    normaliser = logits.logsumexp(-1, keepdim=True)
    chosen = logits.gather(-1, torch.tensor(tokens, device=logits.device)[:, None]) - normaliser
    values, ids = logits.topk(min(top, logits.shape[-1]), -1) if top else (logits[:, :0], logits[:, :0])
    named = zip(ids.tolist(), (values - normaliser).tolist(), strict=True)
    return [
        TokenLogprob(token, logprob, tuple(zip(map(int, ids), logprobs, strict=True)))
        for token, logprob, (ids, logprobs) in zip(tokens, chosen[:, 0].tolist(), named, strict=True)
    ]


def draw(logits: Tensor, settings: Sequence[Sampling], numbers: Tensor) -> Tensor:
    """A token for each row, [rows].

    Args:
        logits: [rows, vocab].
        settings: each row's temperature, top_k, top_p and min_p.
        numbers: float64 [rows] in [0, 1), turned into tokens by inverting the cumulative distribution.
    """
    vocab, numbers = logits.shape[-1], numbers.to(logits.device)
    temperatures = torch.tensor([max(wish.temperature, LEAST_TEMPERATURE) for wish in settings], device=logits.device)
    probabilities = torch.softmax(logits / temperatures[:, None], -1)
    left = [place for place, wish in enumerate(settings) if wish.top_p < 1 or wish.top_k or wish.min_p]
    if not left:
        return _invert(probabilities.double(), numbers)
    tokens = torch.zeros(len(settings), dtype=torch.int64, device=logits.device)
    plain = sorted(set(range(len(settings))) - set(left))
    if plain:
        tokens[plain] = _invert(probabilities[plain].double(), numbers[plain])
    for count in (*(guess for guess in GUESSES if guess < vocab // 16), vocab):
        some, own = (probabilities, numbers) if len(left) == len(settings) else (probabilities[left], numbers[left])
        kept, ids, whole = _likeliest(some, [settings[place] for place in left], count)
        tokens[left] = ids.gather(-1, _invert(kept, own)[:, None])[:, 0]
        left = [place for place, is_whole in zip(left, whole.tolist(), strict=True) if not is_whole]
        if not left:
            break
    return tokens


def _likeliest(probabilities: Tensor, settings: Sequence[Sampling], count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities of the `count` likeliest tokens in falling order with those filtered out at 0, their tokens, both
    [rows, count], and whether no token further down could be left, [rows].

    The nucleus (Holtzman et al. 2020) is the smallest set of likeliest tokens with at least the share `top_p`: a token
    is in it when those before it hold less.
    """
    vocab, device = probabilities.shape[-1], probabilities.device
    limits = [(min(wish.top_k or vocab, vocab), wish.top_p if wish.top_p < 1 else 2.0, wish.min_p) for wish in settings]
    top_k, top_p, min_p = torch.tensor(limits, dtype=torch.float64, device=device)[..., None].unbind(1)
    if count < vocab:
        values, ids = probabilities.topk(count, dim=-1)
    else:
        values, ids = probabilities.sort(dim=-1, descending=True, stable=True)
    values = ordered = values.double()
    if any(wish.top_k for wish in settings):
        ordered = values.masked_fill(torch.arange(count, device=device) >= top_k, 0.0)
        top_p = torch.where(top_k < vocab, top_p * ordered.sum(-1, keepdim=True), top_p)
    outside = ordered.cumsum(-1) - ordered >= top_p
    if any(wish.min_p for wish in settings):
        outside |= values < min_p * values[:, :1]
    # A row without top_k is whole when its last token is outside; one with top_k, when so many are here.
    whole = torch.where(top_k[:, 0] < vocab, top_k[:, 0] <= count, outside[:, -1])
    return ordered.masked_fill(outside, 0.0), ids, whole | (count == vocab)


def _invert(weights: Tensor, numbers: Tensor) -> Tensor:
    """Places [rows] where the cumulative sums of `weights` [rows, places] pass the shares `numbers` [rows] of all."""
    cumulative = weights.cumsum(-1)
    places = torch.searchsorted(cumulative, (numbers * cumulative[:, -1])[:, None], right=True)
    # A number rounded up to the whole must still fall on the last place that has any weight.
    last = (weights > 0).long().cumsum(-1).argmax(-1, keepdim=True)
    return torch.minimum(places, last)[:, 0]
