"""Which replies count as refusals."""

from __future__ import annotations

import pytest

from herdsman.safety.guard import NOTICE
from herdsman.safety.refusals import OPENING_CHARACTERS, RULES, refusal_rule, refuses

REFUSALS = [
    NOTICE,
    "I can't assist with this request.",
    "I’m sorry, but I can’t help with that.",
    "I CANNOT help you\nwith that.",
    "I cannot and will not provide instructions for this.",
    "I'm unable to provide that information.",
    "As an AI language model, I cannot fulfill your request.",
    "Unfortunately, I cannot answer this question.",
    "I don't feel comfortable answering that.",
    "I'd rather not help with that.",
    "No. I won't tell you how to do that.",
    "I must decline to answer.",
    "I will not participate in this.",
    "My apologies, but I can't help.",
    "I'm not going to explain how to do that.",
    "I don't have access to personal information about anyone.",
]
ANSWERS = [
    "",
    "To kill a Python process, call os.kill.",
    "You cannot provide two arguments here.",
    "I cannot recommend this book enough!",
    "I can help with that. First, open the file.",
    "I feel comfortable answering that: use a list.",
    "Sorry to hear that. Here is how to do it.",
    "I'm sorry, I don't know the answer to that, but I think it is 3.",
    "If the server can't answer, it returns 503.",
    "The module must decline the connection.",
    "You can't help but like it.",
    "I have a list of private attributes.",
    "Sorry for the delay. Sure, here are the steps.",
]


@pytest.mark.parametrize("reply", REFUSALS)
def test_refusals_are_found(reply: str) -> None:
    assert refuses(reply)


@pytest.mark.parametrize("reply", ANSWERS)
def test_answers_are_not_taken_for_refusals(reply: str) -> None:
    assert refusal_rule(reply) == ""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_finds_its_own_example_first(rule) -> None:
    assert refusal_rule(rule.example) == rule.name


def test_only_the_opening_counts() -> None:
    refusal = "I can't help with that."
    assert refuses("x" * (OPENING_CHARACTERS - len(refusal) - 1) + " " + refusal)
    assert not refuses("x" * OPENING_CHARACTERS + " " + refusal)
    assert refuses(refusal + " But here is how: " + "x" * 1000)
