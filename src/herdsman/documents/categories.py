"""What a document is about, in the four kinds that Llama 3's mix is made of.

Llama 3 tells code and reasoning pages apart with classifiers (section 3.1.1). The extraction has seen formulas and code as
such, which decides more surely than words do; words decide where mathematics is written without formulas.
"""

from __future__ import annotations

import re

FORMULAS_PER_1000_CHARS = 0.5
REASONING_WORDS_SHARE = 0.012
CODE_SHARE = 0.2  # of the characters in code blocks and in terms that are signatures
_READ_CHARS = 50_000
_ENGLISH = ("en", "und")
_WORD = re.compile(r"[a-z]{2,}")
_REASONING_WORDS = frozenset(
    "theorem theorems lemma proof proofs corollary axiom axioms hypothesis equation equations inequality integer integers"
    " integral derivative differential polynomial polynomials matrix matrices vector vectors eigenvalue logarithm logarithms"
    " exponential trigonometric sine cosine tangent hyperbolic arithmetic algebra algebraic geometry geometric calculus"
    " probability probabilities statistics statistical median variance deviation quantile quantiles distribution gaussian"
    " numerator denominator fraction fractions rational irrational decimal modulo divisor multiplication exponent precision"
    " rounding permutation permutations combinatoric combinatorics theoretical deduce infer inference implies therefore"
    " hence conjecture finite infinite convergence regression correlation covariance sqrt".split()
)


def categorise(language: str, text: str, features: dict[str, float]) -> str:
    """The category of a document: "multilingual", "reasoning", "code" or "general".

    Args:
        features: those of `extract`.
    """
    if language not in _ENGLISH:
        return "multilingual"
    chars = max(features["chars"], 1)
    if features["formulas"] >= 2 and 1000 * features["formulas"] / chars >= FORMULAS_PER_1000_CHARS:
        return "reasoning"
    words = _WORD.findall(text[:_READ_CHARS].lower())
    if sum(word in _REASONING_WORDS for word in words) >= REASONING_WORDS_SHARE * max(len(words), 50):
        return "reasoning"
    return "code" if features["code_chars"] / chars >= CODE_SHARE else "general"
