"""Multiple choice by likelihood, scored as lm-evaluation-harness scores it.

Each answer is put behind the question and the model says how likely its text is there. `acc` takes the likeliest
answer, `acc_norm` the one with the highest log-likelihood per character, since long answers are less likely by nature.
Answers and questions are tokenised together and divided where the question's own tokens end, so that no token is
counted that the question already fixes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import Benchmark
from herdsman.generation.engine import Engine
from herdsman.tokens.tokenizer import Tokenizer

QUESTIONS_AT_ONCE = 16


@dataclass(frozen=True)
class Question:
    """A question with its possible answers.

    Attributes:
        context: all the text before the answer, without a space at its end.
        choices: the answers, without the space that stands before them.
        right: index of the right one.
    """

    id: str
    context: str
    choices: tuple[str, ...]
    right: int


def read_question(benchmark: Benchmark, row: dict[str, Any]) -> Question:
    """
    Raises:
        InputError: the row's answer is none of its labels, or an answer is empty.
    """
    choices = tuple(row["choices"])
    if row["answer"] not in row["labels"] or len(row["labels"]) != len(choices) or not all(choices):
        raise InputError(
            "a question whose answer is none of its choices", where=f"{benchmark.member}, {row['task_id']}"
        )
    return Question(row["task_id"], benchmark.prompt.format(**row), choices, row["labels"].index(row["answer"]))


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Ids of the context, begin-of-text first, and of the continuation as it is tokenised behind that context.

    Spaces at the end of the context move to the continuation, as a token's space stands in front of its word.
    """
    kept = context.rstrip()
    continuation = context[len(kept) :] + continuation
    head, whole = tokenizer.encode(kept), tokenizer.encode(kept + continuation)
    return [tokenizer.bos, *head], whole[len(head) :]


def fitted(pair: tuple[list[int], list[int]], context_length: int) -> tuple[list[int], list[int]]:
    """The pair cut from the left so that the model reads at most `context_length` tokens; the last one is not read."""
    context, continuation = pair
    continuation = continuation[-context_length:]
    return context[-(context_length + 1 - len(continuation)) :], continuation


def answer_questions(
    engine: Engine,
    tokenizer: Tokenizer,
    questions: list[Question],
    on_questions: Callable[[int], None] = lambda count: None,
) -> list[dict[str, Any]]:
    """Each question with what the model takes for its answer.

    Returns:
        Rows with the question's fields and logprobs (one per choice), `chosen` and `chosen_norm` (indices by `acc` and
        `acc_norm`), `acc` and `acc_norm` (0 or 1), and `cut`, whether the context was too short for it.
    """
    rows = []
    for start in range(0, len(questions), QUESTIONS_AT_ONCE):
        batch = questions[start : start + QUESTIONS_AT_ONCE]
        pairs = [
            [encode_pair(tokenizer, question.context, " " + choice) for choice in question.choices]
            for question in batch
        ]
        cut = [[fitted(pair, engine.context_length) for pair in choices] for choices in pairs]
        scores = iter(engine.score([pair for choices in cut for pair in choices]))
        for question, whole, short in zip(batch, pairs, cut, strict=True):
            logprobs = [next(scores).logprob for _ in question.choices]
            rows.append({**_judged(question, logprobs), "cut": whole != short})
        on_questions(len(batch))
    return rows


def _judged(question: Question, logprobs: list[float]) -> dict[str, Any]:
    chosen = _first_largest(logprobs)
    per_character = [value / len(choice) for value, choice in zip(logprobs, question.choices, strict=True)]
    chosen_norm = _first_largest(per_character)
    return {
        "id": question.id,
        "context": question.context,
        "choices": list(question.choices),
        "right": question.right,
        "logprobs": logprobs,
        "chosen": chosen,
        "chosen_norm": chosen_norm,
        "acc": int(chosen == question.right),
        "acc_norm": int(chosen_norm == question.right),
    }


def _first_largest(values: list[float]) -> int:
    return max(range(len(values)), key=lambda index: values[index])
