"""Needles: what is asked is as it should be, readers of known reach find what they must, a model what it writes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pytest
import torch
from torch.nn.functional import cross_entropy

from herdsman.errors import InputError
from herdsman.evaluation.needle import Needle, Pair, hide_needles, needles_found
from herdsman.generation.engine import Score
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.llama import Llama
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.training.gates import Gates
from herdsman.training.options import Phase, PretrainOptions
from tests.evaluation.herd import random_model, real_documents

TEXTS = [row["text"] for row in real_documents()[:8]]


class Reader:
    """Finds the fact that the question begins again, if it lies within reach from the end."""

    def __init__(self, tokenizer: Tokenizer, reach_tokens: int):
        self.tokenizer, self.reach_tokens = tokenizer, reach_tokens

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        return [self._score(context, answer) for context, answer in pairs]

    def _score(self, context: list[int], answer: list[int]) -> Score:
        seen = self.tokenizer.decode(context[-self.reach_tokens :])
        question = seen.rpartition("\n")[2]
        found = re.search(rf"\n{question}( \d+)\.\n", seen)
        return Score(0.0, len(answer), bool(found) and found[1] == self.tokenizer.decode(answer))


@pytest.mark.parametrize("needles", [1, 4])
def test_questions_are_as_long_as_asked_and_deep_as_said(tokenizer: Tokenizer, needles: int) -> None:
    asked = hide_needles(TEXTS, tokenizer, 300, seed=1, depths=5, facts=2, needles=needles, asked=min(2, needles))
    assert len(asked) == 10 * min(2, needles)
    for needle in asked:
        assert len(needle.context) + len(needle.answer) == 300
        text = tokenizer.decode(needle.context)
        facts = re.findall(r"\nThe secret number of \w+ is \d{5}\.\n", text)
        assert len(set(facts)) == needles
        question = text.rpartition("\n")[2]
        place = next(fact for fact in facts if f"{question} " in fact)
        assert place == f"\n{question}{tokenizer.decode(needle.answer)}.\n"
        hay = re.sub(r"\nThe secret number of \w+ is \d{5}\.\n", "", text[: text.index(place)])
        total = len(text) - sum(map(len, facts)) - len(question)
        assert len(hay) / total == pytest.approx(needle.depth, abs=0.1)
    assert {round(needle.depth, 2) for needle in asked[:: min(2, needles)]} == {0, 0.25, 0.5, 0.75, 1}


def test_the_same_arguments_give_the_same_questions(tokenizer: Tokenizer) -> None:
    one, same, other = (hide_needles(TEXTS, tokenizer, 200, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other
    assert len({tuple(needle.answer) for needle in one}) == len(one) == 20


def test_a_reader_scores_what_lies_within_its_reach(tokenizer: Tokenizer) -> None:
    asked = hide_needles(TEXTS, tokenizer, 400, seed=3, depths=11, facts=2)
    assert needles_found(Reader(tokenizer, 400).score, asked) == 1.0
    assert needles_found(Reader(tokenizer, 20).score, asked) == 0.0
    # Half the tokens: depths 0.6 to 1 for certain, 0.5 by where the facts and the question lie.
    assert needles_found(Reader(tokenizer, 200).score, asked) == pytest.approx(0.5, abs=0.05)


def test_other_needles_mislead_who_reads_the_form_alone(tokenizer: Tokenizer) -> None:
    class FirstFact(Reader):
        def _score(self, context: list[int], answer: list[int]) -> Score:
            found = re.search(r" is( \d{5})\.\n", self.tokenizer.decode(context))
            return Score(0.0, len(answer), bool(found) and found[1] == self.tokenizer.decode(answer))

    one = hide_needles(TEXTS, tokenizer, 400, seed=4)
    four = hide_needles(TEXTS, tokenizer, 400, seed=4, needles=4, asked=4)
    assert needles_found(FirstFact(tokenizer, 400).score, one) == 1.0
    assert needles_found(FirstFact(tokenizer, 400).score, four) == 0.25
    assert needles_found(Reader(tokenizer, 400).score, four) == 1.0


def test_a_model_finds_what_it_would_write(tokenizer: Tokenizer) -> None:
    """Half of the questions are learnt by heart; the engine must find these, and no others but those it writes out."""
    asked = hide_needles(TEXTS, tokenizer, 64, seed=5, depths=4, facts=2)
    model = random_model(tokenizer, context_length=64)
    assert needles_found(LocalEngine(model, tokenizer).score, asked) == 0.0
    learnt = asked[::2]
    _learn(model, learnt, torch.optim.AdamW(model.parameters(), lr=3e-3), 60)
    engine = LocalEngine(model, tokenizer)
    assert needles_found(engine.score, learnt) == 1.0
    length = len(asked[0].answer)
    written = engine.generate(
        [needle.context[-50:] for needle in asked], Sampling(temperature=0, max_new_tokens=length)
    )
    shares = [completion.ids == needle.answer for completion, needle in zip(written, asked, strict=True)]
    cut = [Needle(needle.depth, needle.context[-50:], needle.answer) for needle in asked]
    assert 0 < sum(shares) < len(asked)
    assert needles_found(engine.score, cut) == sum(shares) / len(asked)


def test_a_gate_opens_when_a_real_model_finds_its_needles(tokenizer: Tokenizer) -> None:
    """The phase is one step of ten, and too short to learn eight questions by heart; the gate sees to it."""
    asked = hide_needles(TEXTS, tokenizer, 64, seed=6, depths=4, facts=2)
    short = torch.tensor([tokenizer.encode(text)[:33] for text in TEXTS])
    gate = {"every_tokens": 10, "most_tokens": 60, "short_context": 10.0}
    phases = [Phase(name="long", tokens=10, batch_tokens=10, sequence_length=10, gate=gate)]
    gates = Gates(PretrainOptions(phases=phases, warmup_steps=0), 1)
    model = random_model(tokenizer, context_length=64)
    adam = torch.optim.AdamW(model.parameters(), lr=3e-3)

    def short_context_loss(model: Llama) -> float:
        logits = model.logits(model(short[:, :-1]))
        return float(cross_entropy(logits.flatten(0, 1), short[:, 1:].flatten()).detach())

    def needle(model: Llama, length: int) -> float:
        return needles_found(LocalEngine(model, tokenizer).score, asked)

    gates.check(0, 0, model, short_context_loss, needle)
    step = 0
    while step < gates.schedule.steps:
        _learn(model, asked, adam, 10)
        step += 1
        gates.check(step, step * 10, model, short_context_loss, needle)
    decision = gates.decisions[0]
    found = [row["needle"] for row in decision.measurements]
    assert decision.passed
    assert decision.prolonged_steps == len(found) - 1 > 0
    assert found[0] < 1.0 == found[-1]


def _learn(model: Llama, needles: list[Needle], adam: torch.optim.Optimizer, steps: int) -> None:
    rows = torch.tensor([needle.context + needle.answer for needle in needles])
    count = len(needles[0].answer)
    for _ in range(steps):
        logits = model.logits(model(rows[:, :-1])[:, -count:])
        adam.zero_grad()
        cross_entropy(logits.flatten(0, 1), rows[:, -count:].flatten()).backward()
        adam.step()
    model.eval()


def test_no_room_and_no_text(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError, match=r"20 tokens have no room for 1 needles; make sequences \d+ tokens longer"):
        hide_needles(TEXTS, tokenizer, 20, seed=1)
    with pytest.raises(InputError, match="no held-out text"):
        hide_needles([], tokenizer, 200, seed=1)
