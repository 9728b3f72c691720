"""What counts as the answer of a GSM8K problem, and how the problem is put."""

from __future__ import annotations

import re

import pytest

from herdsman.evaluation.benchmarks import BENCHMARKS
from herdsman.evaluation.free_text import (
    NO_ANSWER,
    WORKED,
    Problem,
    chat_prompt,
    flexible_answer,
    matches,
    plain_prompt,
    read_problem,
    solve_problems,
    strict_answer,
)
from herdsman.generation.local import LocalEngine
from herdsman.tokens.tokenizer import Tokenizer
from tests.generation.models import parrot

GSM8K = BENCHMARKS["gsm8k"]
# text, strict, flexible: what lm-evaluation-harness's two filters of gsm8k extract
EXTRACTED = [
    ("He has 2 + 3 = 5.\n#### 5", "5", "5"),
    ("#### 1,234", "1,234", "1,234"),
    ("#### -7", "-7", "-7"),
    ("#### 3.50", "3.50", "3.50"),
    ("#### 42.", "42.", "42."),
    ("That is $1,250 in all.", NO_ANSWER, "$1,250"),
    ("It costs $18.", NO_ANSWER, "$18."),
    ("It is 7", NO_ANSWER, "7"),
    ("-4 degrees", NO_ANSWER, "-4"),
    ("#### 9 apples, not 10", "9", "10"),
    ("#### 1\n\n#### 2", "1", "2"),
    ("####5", NO_ANSWER, "5"),
    ("five", NO_ANSWER, NO_ANSWER),
    ("", NO_ANSWER, NO_ANSWER),
]
STEP = re.compile(r"(\d+(?: [-+*/] \d+)+) = \$?(\d+)")
EQUAL = [
    ("1,234", "1234"), ("1234", "1,234"), ("$18.", "18"), ("-7", "-7"), ("5.", "5"), ("3.50", "3.50"),
    ("18", "Work: 3 * 6 = 18\n#### 18"), ("65,960", "65,960"),
]  # fmt: skip
DIFFERENT = [("7", "-7"), ("70", "7"), ("3.5", "35"), (NO_ANSWER, "5"), ("", "5"), ("5.0", "5"), ("18 19", "19")]


@pytest.mark.parametrize(("text", "strict", "flexible"), EXTRACTED)
def test_extraction(text: str, strict: str, flexible: str) -> None:
    assert (strict_answer(text), flexible_answer(text)) == (strict, flexible)


def test_comparison() -> None:
    assert [pair for pair in EQUAL if not matches(*pair)] == []
    assert [pair for pair in DIFFERENT if matches(*pair)] == []


def test_worked_examples_are_right_and_none_is_a_question_of_the_benchmark(questions: dict[str, list[dict]]) -> None:
    for question, answer in WORKED:
        assert strict_answer(answer) == flexible_answer(answer)
        assert question not in {row["question"] for row in questions["gsm8k"]}
        steps = STEP.findall(answer)
        assert steps
        assert all(eval(left) == int(right) for left, right in steps), answer
        assert matches(strict_answer(answer), steps[-1][1])


def test_a_base_model_reads_the_examples_as_one_text(tokenizer: Tokenizer, questions: dict[str, list[dict]]) -> None:
    row = questions["gsm8k"][0]
    ids = plain_prompt(tokenizer, GSM8K, read_problem(GSM8K, row), shots=2)
    assert ids[0] == tokenizer.bos
    assert tokenizer.decode(ids[1:]) == (
        f"Question: {WORKED[0][0]}\nAnswer: {WORKED[0][1]}\n\n"
        f"Question: {WORKED[1][0]}\nAnswer: {WORKED[1][1]}\n\n"
        f"Question: {row['question']}\nAnswer:"
    )


def test_a_chat_model_reads_them_as_turns(tokenizer: Tokenizer, questions: dict[str, list[dict]]) -> None:
    row = questions["gsm8k"][0]
    text = tokenizer.decode(chat_prompt(tokenizer, GSM8K, read_problem(GSM8K, row), shots=1))
    start, end = "<|start_header_id|>", "<|end_header_id|>\n\n"
    assert text == (
        f"<|begin_of_text|>{start}user{end}Question: {WORKED[0][0]}\nAnswer:<|eot_id|>"
        f"{start}assistant{end}{WORKED[0][1]}<|eot_id|>"
        f"{start}user{end}Question: {row['question']}\nAnswer:<|eot_id|>{start}assistant{end}"
    )


def solved(says: bytes, right: str, length: int = 4, max_new_tokens: int = 40) -> dict:
    model, tokenizer = parrot(says, context_length=64)
    prompt = [tokenizer.bos, *[ord("?")] * length, ord("\n")]
    problem = Problem("GSM8K/0", "?", right)
    (row,) = solve_problems(LocalEngine(model, tokenizer), [prompt], [problem], max_new_tokens)
    return row


def test_what_a_model_writes_is_read() -> None:
    row = solved(b"It's 1,48.", "148")
    assert row["answer"] == "It's 1,48."
    assert (row["flexible"], row["strict"], row["cut"]) == (1, 0, False)
    assert solved(b"It's 1,48.", "149")["flexible"] == 0


def test_the_next_question_is_not_part_of_the_answer() -> None:
    row = solved(b"7 Question:9", "7")
    assert (row["answer"], row["flexible"]) == ("7 ", 1)


def test_a_long_prompt_is_cut_from_the_left_and_said_so() -> None:
    row = solved(b"7", "7", length=200)
    assert (row["flexible"], row["cut"]) == (1, True)
    assert solved(b"7", "7", length=200, max_new_tokens=4)["cut"]
    assert not solved(b"7", "7", length=58, max_new_tokens=4)["cut"]
    assert solved(b"7", "7", length=59, max_new_tokens=4)["cut"]
