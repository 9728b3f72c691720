"""Questions of mathematics in plain language, and what answers each.

A question is matched with `FORMS` in their order; what fits none is an equation or an expression.
"""

from __future__ import annotations

import re

import sympy

from herdsman.tools.mathematics.calculus import FORMS as CALCULUS
from herdsman.tools.mathematics.equations import FORMS as EQUATIONS
from herdsman.tools.mathematics.equations import solve
from herdsman.tools.mathematics.language import NAMES, Pods, expression, form, pods, rewritten, wolfram_expression
from herdsman.tools.mathematics.numbers import FORMS as NUMBERS
from herdsman.tools.mathematics.numbers import is_prime
from herdsman.tools.mathematics.units import UNITS, convert, in_base_units

POLITE = re.compile(
    r"^(please|can you|what'?s|what|is|are|calculate|compute|evaluate|find|determine|work out|give( me)?|show( me)?"
    r"|tell me|how much|how many|the|(exact )?value of|result of|all( of)?|an?)\b[\s:,]*", re.IGNORECASE,
)  # fmt: skip


def answer(query: str) -> Pods:
    """Answers a question.

    Raises:
        Unclear: it is not understood, or has no answer that could be found.
        Exception: whatever SymPy raises over what it cannot do.
    """
    query = query.strip().rstrip("?. \n")
    if re.match(r"[A-Z]\w*\[", query):
        return pods(query, wolfram_expression(query))
    text, before = rewritten(query), ""
    prime = re.fullmatch(r"(?i)(?:is\s+)?([^=]+?)\s+(?:is\s+)?(?:a\s+)?prime(?:\s+number)?", text)
    if prime and re.match(r"(?i)is\s|.*\sis\s", text):
        return is_prime(expression(prime[1]))
    while text != before:
        before, text = text, POLITE.sub("", text)
    for pattern, answered in FORMS:
        if match := pattern.fullmatch(text):
            return answered(*match.groups())
    if re.search(r"[=<>]", text):
        return solve(text)
    if found := _converted(text):
        return found
    return _plain(text)


def _plain(text: str) -> Pods:
    value = expression(text)
    if isinstance(value, sympy.Expr):
        value = value.expand(complex=True) if value.is_number and value.has(sympy.I) else sympy.simplify(value)
    return pods(text, value)


def _converted(text: str) -> Pods | None:
    """The answer if the question is of quantities with units."""
    match = re.fullmatch(r"(.+?)\s+(?:to|into|in|as)\s+(.+)", text)
    if match and (found := convert(match[1], match[2])):
        return found
    words = re.findall(r"[A-Za-z_]{2,}", text)
    return in_base_units(text) if any(word in UNITS and word not in NAMES for word in words) else None


FORMS = (
    *CALCULUS,
    *EQUATIONS,
    *NUMBERS,
    form(r"expand (.+)", lambda text: pods(f"expand {text}", sympy.expand(expression(text)))),
    form(r"simplify (.+)", lambda text: pods(f"simplify {text}", sympy.simplify(expression(text)))),
    form(r"partial fractions? (?:of|decomposition of) (.+)",
         lambda text: pods(f"partial fractions of {text}", sympy.apart(expression(text)))),
    form(r"factorial of (.+)", lambda text: _plain(f"({text})!")),
    form(r"convert (.+)", lambda text: _converted(text) or _plain(text)),
)  # fmt: skip
