"""Tasks about words that occur in the herd's own documents."""

from __future__ import annotations

import random
from collections.abc import Sequence

from herdsman.synthesis.families import Facts, Family
from herdsman.synthesis.material import Material

SEPARATORS = {"-": "a hyphen", "/": "a slash", "_": "an underscore", ".": "a dot"}


def _word(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"word": rng.choice(material.words)}


def _words(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"items": rng.sample(material.words, rng.randint(2, 2 + difficulty))}


def _two(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"items": rng.sample(material.words, 2)}


def _separated(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {**_words(rng, material, difficulty), "separator": rng.choice(sorted(SEPARATORS))}


def _membership(rng: random.Random, material: Material, difficulty: int) -> Facts:
    *items, other = rng.sample(material.words, 3 + difficulty)
    return {"items": items, "word": rng.choice(items) if rng.random() < 0.5 else other}


def quoted(items: Sequence[str]) -> str:
    """Words in quotation marks, which tell a task's words from its wording and give them the tokens of the answer."""
    return ", ".join(f'"{item}"' for item in items)


def _quoted_word(facts: Facts) -> Facts:
    return {"word": f'"{facts["word"]}"'}


def _listed(facts: Facts) -> Facts:
    return {"items": quoted(facts["items"]), "word": f'"{facts.get("word", "")}"'}


def _named_separator(facts: Facts) -> Facts:
    return {"items": quoted(facts["items"]), "name": SEPARATORS[facts["separator"]]}


FAMILIES = (
    Family(
        "repeat",
        _word,
        ("Repeat the word {word}.", "Say this word: {word}"),
        lambda f: f["word"],
        shown=_quoted_word,
    ),
    Family(
        "first",
        _words,
        ("What is the first word of this list: {items}", "First of {items}?"),
        lambda f: f["items"][0],
        shown=_listed,
    ),
    Family(
        "last",
        _words,
        ("What is the last word of this list: {items}", "Last of {items}?"),
        lambda f: f["items"][-1],
        shown=_listed,
    ),
    Family(
        "join",
        _separated,
        ("Join with {name}: {items}", "Put {name} between these words: {items}"),
        lambda f: f["separator"].join(f["items"]),
        shown=_named_separator,
        least_difficulty=2,
    ),
    Family(
        "swap",
        _two,
        ("Swap these two words: {items}", "Turn the order around: {items}"),
        lambda f: quoted(f["items"][::-1]),
        accepts=lambda f, answer: answer.replace('"', "") == ", ".join(f["items"][::-1]),
        shown=_listed,
        least_difficulty=2,
    ),
    Family(
        "count",
        _words,
        ("How many words are these: {items}", "Count the words: {items}"),
        lambda f: str(len(f["items"])),
        shown=_listed,
    ),
    Family(
        "member",
        _membership,
        ("Is {word} in this list: {items}", "Does this list hold {word}: {items}"),
        lambda f: "yes" if f["word"] in f["items"] else "no",
        shown=_listed,
        least_difficulty=2,
    ),
    Family(
        "letter",
        _word,
        ("Which letter does {word} begin with?", "First letter of {word}?"),
        lambda f: f["word"][0],
        shown=_quoted_word,
    ),
)
