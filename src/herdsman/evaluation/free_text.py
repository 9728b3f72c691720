"""Questions answered in free text and checked by exact match: GSM8K, as lm-evaluation-harness has it.

Two readings of an answer: `strict` takes the number behind "####", the form the worked examples show; `flexible` takes
the last number anywhere. A base model continues the bare text; a chat model gets each example as a turn of the chat.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from herdsman.evaluation.benchmarks import Benchmark
from herdsman.generation.engine import Engine
from herdsman.generation.sampling import Sampling
from herdsman.tokens.chat import Message, decode_reply, encode
from herdsman.tokens.tokenizer import Tokenizer

STRICT = re.compile(r"#### (-?[0-9.,]+)")
FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
UNTIL = "Question:"  # a base model that begins the next question has ended its answer
IGNORED = (re.compile(r","), re.compile(r"\$"), re.compile(r"(?s).*#### "), re.compile(r"\.$"))
NO_ANSWER = "[invalid]"

# Written for Herdsman in the form of GSM8K's own solutions; the paper's eight (Wei 2022) are others.
WORKED = (
    ("A shelf holds 4 rows of 6 jars. 5 jars break. How many jars are left?",
     "There are 4 * 6 = 24 jars. After 5 break, 24 - 5 = 19 jars are left.\n#### 19"),
    ("Mara reads 12 pages a day for 5 days. Her book has 90 pages. How many pages are left?",
     "She reads 12 * 5 = 60 pages. 90 - 60 = 30 pages are left.\n#### 30"),
    ("A ticket costs $8 and a drink costs half as much. What do 3 tickets and 2 drinks cost?",
     "A drink costs 8 / 2 = $4. The tickets cost 3 * 8 = $24, the drinks 2 * 4 = $8. Together that is 24 + 8 = $32.\n"
     "#### 32"),
    ("A train leaves with 150 people. At the first stop 40 get off and 25 get on. How many are on it now?",
     "After the stop there are 150 - 40 + 25 = 135 people on the train.\n#### 135"),
    ("Ben has 3 times as many marbles as Ann. Together they have 48. How many has Ben?",
     "Ann's marbles are one part of 1 + 3 = 4 parts. One part is 48 / 4 = 12, so Ben has 3 * 12 = 36.\n#### 36"),
    ("A tap fills 15 litres in 3 minutes. How long does it take to fill 60 litres?",
     "The tap gives 15 / 3 = 5 litres a minute. 60 litres take 60 / 5 = 12 minutes.\n#### 12"),
    ("A coat of $120 is sold for 25% less. What does it cost now?",
     "25% of 120 is 120 * 25 / 100 = $30. It costs 120 - 30 = $90 now.\n#### 90"),
    ("A class of 28 pupils forms groups of 4. Each group needs 7 sheets. How many sheets are needed?",
     "There are 28 / 4 = 7 groups. They need 7 * 7 = 49 sheets.\n#### 49"),
)  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A question, its prompt's text and the right answer as a string."""

    id: str
    question: str
    right: str


def read_problem(benchmark: Benchmark, row: dict[str, Any]) -> Problem:
    return Problem(row["task_id"], benchmark.prompt.format(**row), str(row["answer"]))


def plain_prompt(tokenizer: Tokenizer, benchmark: Benchmark, problem: Problem, shots: int) -> list[int]:
    """Ids of the worked examples and the question as one text, a blank line between them."""
    examples = [f"{benchmark.prompt.format(question=question)} {answer}" for question, answer in WORKED[:shots]]
    return [tokenizer.bos, *tokenizer.encode("\n\n".join([*examples, problem.question]))]


def chat_prompt(tokenizer: Tokenizer, benchmark: Benchmark, problem: Problem, shots: int) -> list[int]:
    """Ids of a chat in which each worked example is a question of the user and an answer of the assistant."""
    messages = []
    for question, answer in WORKED[:shots]:
        messages += [Message("user", benchmark.prompt.format(question=question)), Message("assistant", answer)]
    return encode(tokenizer, [*messages, Message("user", problem.question)], reply=True)[0]


def strict_answer(text: str) -> str:
    """The number behind the first "####", or `NO_ANSWER`."""
    match = STRICT.search(text)
    return match[1].strip() if match else NO_ANSWER


def flexible_answer(text: str) -> str:
    """The last number of the text, or `NO_ANSWER`."""
    found = FLEXIBLE.findall(text)
    return next((part for part in found[-1] if part), NO_ANSWER).strip() if found else NO_ANSWER


def matches(answer: str, right: str) -> bool:
    """Equal once thousands separators, dollar signs and a final full stop are put aside."""
    for pattern in IGNORED:
        answer, right = pattern.sub("", answer), pattern.sub("", right)
    return answer.lower() == right.lower()


def solve_problems(
    engine: Engine,
    prompts: list[list[int]],
    problems: list[Problem],
    max_new_tokens: int,
    on_problems: Callable[[int], object] = lambda count: None,
) -> list[dict[str, Any]]:
    """Each problem with the model's likeliest answer and whether it is right.

    A prompt that leaves no room for `max_new_tokens` in the context (or for half the context, if that is less) is cut
    from the left.

    Returns:
        Rows with id, question, right, answer (the text up to where the model would begin the next question), `strict`
        and `flexible` (0 or 1), and `cut`.
    """
    assert isinstance(engine.tokenizer, Tokenizer)  # benchmarks are for herds
    room = engine.context_length - min(max_new_tokens, engine.context_length // 2)
    sampling = Sampling(max_new_tokens=max_new_tokens, temperature=0.0)
    completions = engine.generate([prompt[-room:] for prompt in prompts], sampling, on_problems)
    rows = []
    for problem, prompt, completion in zip(problems, prompts, completions, strict=True):
        answer = decode_reply(engine.tokenizer, completion.ids).content.split(UNTIL)[0]
        rows.append(
            {
                "id": problem.id,
                "question": problem.question,
                "right": problem.right,
                "answer": answer,
                "strict": int(matches(strict_answer(answer), problem.right)),
                "flexible": int(matches(flexible_answer(answer), problem.right)),
                "cut": len(prompt) > room,
            }
        )
    return rows
