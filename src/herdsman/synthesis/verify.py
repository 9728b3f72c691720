"""Checks of an answer to a prompt: the one place where a verdict is formed, for references and samples alike."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from difflib import SequenceMatcher

from herdsman.synthesis import numbers, snippets, words
from herdsman.synthesis.conduct import conduct_fault
from herdsman.synthesis.conversation import persona_fault
from herdsman.synthesis.prompt import Prompt
from herdsman.synthesis.sample import Check, Policy

FAMILIES = (*numbers.FAMILIES, *words.FAMILIES, *snippets.FAMILIES)
BY_NAME = {family.name: family for family in FAMILIES}

POLICY: Policy = {
    "tasks": ("format", "answer"),
    "grounded": ("format", "grounded"),
    "conversation": ("format", "persona"),
    "safety": ("format", "conduct"),
}

LONGEST_CHARACTERS = 600
SPECIAL_NAME = re.compile(r"<\|[a-z_]+\|>")
REPEATED_WORDS = 4
REPEATS_ALLOWED = 2

Library = Mapping[str, str]
"""Texts of the documents that prompts quote, by document id."""


def verify(prompt: Prompt, answer: str, ended: bool, library: Library) -> tuple[Check, ...]:
    """All checks that the policy of the prompt's source names, for one answer.

    Args:
        ended: whether the answer ended its turn, rather than being cut at a length limit.
        library: must hold the documents that the prompt names as its parents.
    """
    checks = []
    for name in POLICY[prompt.source]:
        try:
            fault = _format_fault(answer, ended) if name == "format" else _content_fault(prompt, answer, library)
            checks.append(Check(f"{name}@1", "fail" if fault else "pass", fault))
        except Exception as error:  # A checker that breaks has not passed anything, and must not stop the others.
            checks.append(Check(f"{name}@1", "error", f"{type(error).__name__}: {error}"[:200]))
    return tuple(checks)


def _format_fault(answer: str, ended: bool) -> str:
    """What is wrong with the form of an answer, whatever it says; empty if nothing is."""
    if not ended:
        return "does not end its turn"
    if not answer.strip():
        return "is empty"
    if len(answer) > LONGEST_CHARACTERS:
        return f"longer than {LONGEST_CHARACTERS} characters"
    if SPECIAL_NAME.search(answer):
        return "holds the name of a special token"
    if any(unicodedata.category(c) in ("Cc", "Co", "Cn") and c not in "\n\t" for c in answer) or "\ufffd" in answer:
        return "holds characters that are not text"
    tokens = answer.split()
    runs = [tuple(tokens[i : i + REPEATED_WORDS]) for i in range(len(tokens) - REPEATED_WORDS + 1)]
    if any(runs.count(run) > REPEATS_ALLOWED for run in dict.fromkeys(runs)):
        return "repeats itself"
    return ""


def _content_fault(prompt: Prompt, answer: str, library: Library) -> str:
    """What is wrong with what an answer says; empty if nothing is."""
    if prompt.source == "tasks":
        return "" if BY_NAME[prompt.family].right(prompt.facts, answer) else "not the right answer"
    if prompt.source == "grounded":
        return _grounding_fault(prompt, answer, library)
    if prompt.source == "conversation":
        return persona_fault(prompt.facts["mentions"], answer)
    return conduct_fault(prompt.facts, answer)


def _grounding_fault(prompt: Prompt, answer: str, library: Library) -> str:
    """An answer must stand in a document that the prompt names; of an open book, it must be the passage asked for."""
    if not any(_plain(answer) in _plain(library[document]) for document in prompt.parents):
        return "does not stand in the document"
    if prompt.facts["open_book"]:
        return "" if _plain(answer) == _plain(prompt.facts["answer"]) else "not what was asked for"
    return "" if len(answer.split()) >= 4 else "too short to say anything"


def _plain(text: str) -> str:
    """Text with all white space alike."""
    return " ".join(text.split())


def similarity(first: str, second: str) -> float:
    """Share of characters that two texts have in common, in order: 1 for equal texts."""
    return SequenceMatcher(None, first, second, autojunk=False).ratio()
