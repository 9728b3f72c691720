"""Tasks about Python names and statements; statements are judged by Python's own parser, not by their spelling."""

from __future__ import annotations

import ast
import random
import warnings

from herdsman.synthesis.families import Facts, Family
from herdsman.synthesis.material import Material
from herdsman.synthesis.words import quoted


def _dotted(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"name": rng.choice(material.dotted_names)}


def _parts(facts: Facts) -> Facts:
    module, _, leaf = facts["name"].rpartition(".")
    return {"module": module, "leaf": leaf}


def _call(rng: random.Random, material: Material, difficulty: int) -> Facts:
    thing, method = rng.sample(material.words, 2)
    return {"thing": thing, "method": method}


def _value(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"word": rng.choice(material.words), "value": rng.randrange(10**difficulty)}


def _strings(rng: random.Random, material: Material, difficulty: int) -> Facts:
    return {"items": rng.sample(material.words, 1 + difficulty)}


def _listed(facts: Facts) -> Facts:
    return {"items": quoted(facts["items"])}


def _in_backticks(facts: Facts) -> Facts:
    return {name: f"`{value}`" for name, value in facts.items()}


def same_syntax(answer: str, expected: str) -> bool:
    """True if both are the same Python, whatever their quotes and spaces."""
    try:
        with warnings.catch_warnings(action="ignore"):
            return ast.dump(ast.parse(answer)) == ast.dump(ast.parse(expected))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False


def _import(facts: Facts) -> str:
    parts = _parts(facts)
    return f"from {parts['module']} import {parts['leaf']}"


def _call_text(facts: Facts) -> str:
    return f"{facts['thing']}.{facts['method']}()"


def _assignment(facts: Facts) -> str:
    return f"{facts['word']} = {facts['value']}"


def _list_text(facts: Facts) -> str:
    return repr(list(facts["items"]))


FAMILIES = (
    Family(
        "module",
        _dotted,
        ("Which module holds {name}?", "What stands before the last dot of {name}?"),
        lambda f: str(_parts(f)["module"]),
        shown=_in_backticks,
    ),
    Family(
        "leaf",
        _dotted,
        ("What is the last part of {name}?", "Short name of {name}?"),
        lambda f: str(_parts(f)["leaf"]),
        shown=_in_backticks,
        least_difficulty=2,
    ),
    Family(
        "import",
        _dotted,
        ("Write the import of {leaf} from {module}.", "How do I import {leaf} from {module}?"),
        _import,
        accepts=lambda f, answer: same_syntax(answer, _import(f)),
        shown=lambda f: _in_backticks(_parts(f)),
        least_difficulty=2,
    ),
    Family(
        "call",
        _call,
        ("Call the method {method} of {thing}.", "Write a call of {method} on {thing}."),
        _call_text,
        accepts=lambda f, answer: same_syntax(answer, _call_text(f)),
        shown=_in_backticks,
        least_difficulty=2,
    ),
    Family(
        "assign",
        _value,
        ("Set {word} to {value} in Python.", "Write an assignment of {value} to {word}."),
        _assignment,
        accepts=lambda f, answer: same_syntax(answer, _assignment(f)),
        shown=_in_backticks,
    ),
    Family(
        "strings",
        _strings,
        ("Write a Python list of these strings: {items}", "As a list of strings: {items}"),
        _list_text,
        accepts=lambda f, answer: same_syntax(answer, _list_text(f)),
        shown=_listed,
        least_difficulty=2,
    ),
)
