"""What a document is about, in the four kinds that Llama 3's mix is made of.

Llama 3 tells code and reasoning pages apart with classifiers (section 3.1.1). The extraction has seen formulas and code
as such, which decides more surely than words do; words decide where mathematics is written without formulas.
"""

from __future__ import annotations

import re

from herdsman.documents.extraction.blocks import CODE

FORMULAS_PER_1000_CHARS = 0.5
REASONING_WORDS, REASONING_WORDS_SHARE = 4, 0.012  # different ones, and their share of the words outside code
CODE_SHARE, SOURCE_SHARE = 0.2, 0.6  # of the characters in code blocks: a page about code, and hardly anything else
_READ_CHARS = 50_000
ENGLISH = ("en", "und")
_WORD = re.compile(r"[a-z]{2,}")
_MATHEMATICAL = (
    "theorem theorems lemma proof proofs prove proved corollary axiom axioms hypothesis equation equations inequality"
    " integral derivative differential polynomial polynomials matrix matrices eigenvalue eigenvalues logarithm"
    " logarithms exponential exponent trigonometric sine cosine tangent hyperbolic arithmetic algebra algebraic"
    " calculus probability probabilities statistical median variance deviation quantile quantiles gaussian"
    " numerator denominator fraction fractions rational irrational modulo divisor multiplication multiply addition"
    " rounding rounded permutation permutations combinatorics deduce infer conjecture infinite infinity finite"
    " convergence regression correlation covariance sqrt cos sin tan digits approximation"
)
_REASONING_WORDS = frozenset(_MATHEMATICAL.split())


def categorise(language: str, text: str, kinds: str, features: dict[str, float]) -> str:
    """The category of a document: "multilingual", "reasoning", "code" or "general".

    Args:
        kinds: the kind of each line of `text`, see `extract.Extract`.
        features: those of `extract`.
    """
    if language not in ENGLISH:
        return "multilingual"
    chars = max(features["chars"], 1)
    code_share = features["code_chars"] / chars
    if features["formulas"] >= 2 and 1000 * features["formulas"] / chars >= FORMULAS_PER_1000_CHARS:
        return "reasoning"
    if code_share < SOURCE_SHARE and _speaks_mathematics(text, kinds):
        return "reasoning"
    return "code" if code_share >= CODE_SHARE else "general"


def _speaks_mathematics(text: str, kinds: str) -> bool:
    lines = zip(text[:_READ_CHARS].split("\n"), kinds, strict=False)
    words = _WORD.findall("\n".join(line for line, kind in lines if kind != CODE).lower())
    found = [word for word in words if word in _REASONING_WORDS]
    return len(set(found)) >= REASONING_WORDS and len(found) >= REASONING_WORDS_SHARE * len(words)
