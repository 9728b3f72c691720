"""Scores equal a naive loop over choices, by the definitions of lm-evaluation-harness."""

from __future__ import annotations

import pytest
import torch

from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import BENCHMARKS
from herdsman.evaluation.multiple_choice import Question, answer_questions, encode_pair, fitted, read_question
from herdsman.generation.local import LocalEngine
from herdsman.tokens.tokenizer import Tokenizer

Rows = list[dict]
CHOICE = ("arc_challenge", "openbookqa")


def naive_logprob(engine: LocalEngine, tokenizer: Tokenizer, context: str, choice: str) -> float:
    """lm-evaluation-harness's loglikelihood of " choice" behind the context: one forward pass, no batch.

    Context and whole are encoded apart; the continuation is what the whole has more; the last `context_length + 1`
    tokens are kept.
    """
    head = [tokenizer.bos, *tokenizer.encode(context)]
    whole = [tokenizer.bos, *tokenizer.encode(f"{context} {choice}")]
    count = len(whole) - len(head)
    kept = whole[-(engine.context_length + 1) :]
    with torch.no_grad():
        logprobs = engine.model.logits(engine.model(torch.tensor([kept[:-1]])))[0].double().log_softmax(-1)
    return sum(float(logprobs[place - 1, kept[place]]) for place in range(len(kept) - count, len(kept)))


@pytest.mark.parametrize("name", CHOICE)
def test_it_equals_a_loop_over_choices(
    name: str, engine: LocalEngine, tokenizer: Tokenizer, questions: dict[str, Rows]
) -> None:
    found = answer_questions(engine, tokenizer, [read_question(BENCHMARKS[name], row) for row in questions[name]])
    for source, row in zip(questions[name], found, strict=True):
        context = f"Question: {source['question']}\nAnswer:" if name == "arc_challenge" else source["question"]
        logprobs = [naive_logprob(engine, tokenizer, context, choice) for choice in source["choices"]]
        assert row["logprobs"] == pytest.approx(logprobs, rel=1e-4)
        best = max(logprobs)
        best_norm = max(value / len(choice) for value, choice in zip(logprobs, source["choices"], strict=True))
        right = source["labels"].index(source["answer"])
        assert row["acc"] == (logprobs[right] == best)
        assert row["acc_norm"] == (logprobs[right] / len(source["choices"][right]) == best_norm)
        assert row["id"] == source["task_id"]
    assert any(row["chosen"] != row["chosen_norm"] for row in found)
    assert any(row["cut"] for row in found) or name == "openbookqa"
    assert not all(row["cut"] for row in found)


def test_results_do_not_depend_on_what_is_scored_together(
    engine: LocalEngine, tokenizer: Tokenizer, questions: dict[str, Rows]
) -> None:
    asked = [read_question(BENCHMARKS["openbookqa"], row) for row in questions["openbookqa"]]
    together = answer_questions(engine, tokenizer, asked)
    for question, row in zip(asked, together, strict=True):
        (alone,) = answer_questions(engine, tokenizer, [question])
        assert alone["logprobs"] == pytest.approx(row["logprobs"], rel=1e-5)


def test_equally_good_answers_are_decided_for_the_first(engine: LocalEngine, tokenizer: Tokenizer) -> None:
    (row,) = answer_questions(engine, tokenizer, [Question("q", "Is it so?", ("yes", "yes", "yes"), 1)])
    assert (row["chosen"], row["chosen_norm"], row["acc"]) == (0, 0, 0)


def test_pairs_are_the_whole_text_divided_behind_the_question(tokenizer: Tokenizer) -> None:
    context, continuation = encode_pair(tokenizer, "Question: why?\nAnswer:", " because of it")
    assert context == [tokenizer.bos, *tokenizer.encode("Question: why?\nAnswer:")]
    assert [*context[1:], *continuation] == tokenizer.encode("Question: why?\nAnswer: because of it")
    assert encode_pair(tokenizer, "why? ", "because") == encode_pair(tokenizer, "why?", " because")


def test_what_does_not_fit_is_cut_from_the_left() -> None:
    assert fitted(([1, 2, 3], [4, 5]), 4) == ([1, 2, 3], [4, 5])
    assert fitted(([1, 2, 3], [4, 5]), 3) == ([2, 3], [4, 5])
    assert fitted(([1, 2, 3], [4, 5, 6, 7, 8]), 3) == ([3], [6, 7, 8])


def test_a_row_that_contradicts_itself_is_refused() -> None:
    row = {"task_id": "ARC/9", "question": "?", "choices": ["a", "b"], "labels": ["A", "B"], "answer": "A"}
    assert read_question(BENCHMARKS["arc_challenge"], row).right == 0
    for change in ({"answer": "C"}, {"labels": ["A"]}, {"choices": ["a", ""]}):
        with pytest.raises(InputError, match="ARC/9"):
            read_question(BENCHMARKS["arc_challenge"], row | change)
