"""Mathematics as people and models write it, to SymPy and back."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy
from sympy.parsing.sympy_parser import (
    convert_xor,
    factorial_notation,
    implicit_multiplication_application,
    parse_expr,
    rationalize,
    standard_transformations,
)

Pods = list[tuple[str, list[str]]]
"""Titles, each with one or more texts: the parts of an answer of Wolfram|Alpha."""
Form = tuple[re.Pattern[str], Callable[..., Pods]]
"""How a question may be put, and what answers it, given the pattern's groups."""

NAME = r"([A-Za-z]\w*)"
"""In a pattern: the name of a variable."""

DIGITS = 15
TRANSFORMATIONS = (*standard_transformations, factorial_notation, convert_xor, rationalize,
                   implicit_multiplication_application)  # fmt: skip
CHARACTERS = str.maketrans(
    {
        "\u2212": "-", "\u2013": "-", "\u00d7": "*", "\u22c5": "*", "\u00b7": "*", "\u00f7": "/", "\u03c0": " pi ",
        "\u221e": " oo ", "\u00b2": "^2", "\u00b3": "^3", "\u2264": "<=", "\u2265": ">=", "\u222b": " integrate ",
        "\u2192": "->", "\u00b0": " degrees ", "\u2032": "'", "\u2018": "'", "\u2019": "'", "$": "", "\u221a": " sqrt ",
    }
)  # fmt: skip
REWRITTEN = [
    (re.compile(pattern), written)
    for pattern, written in (
        (r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))"),
        (r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)"),
        (r"\\(left|right|,|;|!)", ""),
        (r"\\(cdot|times)\b", "*"),
        (r"\\to\b", "->"),
        (r"\\int\b", "integrate "),
        (r"\\infty\b", "oo"),
        (r"\\([a-z]+)", r"\1 "),
        (r"\blambda\b", "lamda"),
        (r"\b(infinity|inf)\b", "oo"),
        (r"\barc(sin|cos|tan|sinh|cosh|tanh)\b", r"a\1"),
        (r"\b(raised )?to the power (of )?", "^"),
        (r"\s*\bsquared\b", "^2"),
        (r"\s*\bcubed\b", "^3"),
        (r"\bsquare root of\b", "sqrt"),
        (r"\bcube root of\b", "cbrt"),
        (r"\bplus\b", "+"),
        (r"\bminus\b", "-"),
        (r"\b(times|multiplied by)\b", "*"),
        (r"\bdivided by\b", "/"),
        (r"\b(equals|is equal to)\b|==", "="),
        (r"\|([^|]+)\|", r"abs(\1)"),
        (r"([\d.]+)\s*(%|percent)\s+of\b", r"(\1/100)*"),
        (r"([\d.]+)\s*(%|percent)(?!\s*[\w(])", r"(\1/100)"),
        (r"(\w+)\s+choose\s+(\w+)", r"binomial(\1,\2)"),
        (r"(\w+|\))\s+mod(ulo)?\s+(\w+|\()", r"\1 % \3"),
        (r"\b(sqrt|cbrt)\s+([\w.]+)", r"\1(\2)"),
        (r"\blog(?:arithm)?\s+base\s+(\d+)\s+(?:of\s+)?\(?([\w.]+)\)?", r"log(\2,\1)"),
        (r"\b(sin|cos|tan|ln|exp)([a-z])\b", r"\1 \2"),
        (r"\bhalf of\b", "(1/2)*"),
        (r"\b(twice|double)\b", "2*"),
        (r"\bspeed of light\b", "speed_of_light"),
        (r"\blog_?(\d+)\s*\(([^()]*)\)", r"log(\2,\1)"),
        (r"\blog_?(\d+)\s+(?:of\s+)?([\w.]+)", r"log(\2,\1)"),
    )
]
THOUSANDS = re.compile(r"(?<![\d.])\d{1,3}(,\d{3})+(?![\d])")


NAMES: dict[str, Any] = {
    **{name: value for name, value in vars(sympy).items() if isinstance(value, sympy.FunctionClass)},
    **{name: getattr(sympy, name) for name in ("Integer", "Float", "Rational", "Symbol", "Function", "Matrix")},
    **{name: getattr(sympy, name) for name in ("pi", "oo", "sqrt", "cbrt", "gcd", "lcm", "root")},
    "e": sympy.E, "i": sympy.I, "ln": sympy.log, "abs": sympy.Abs, "nCr": sympy.binomial, "ceil": sympy.ceiling,
    **dict.fromkeys(("degrees", "degree", "deg"), sympy.pi / 180),
    "Integrate": sympy.integrate, "Solve": sympy.solve, "NSolve": sympy.solve, "D": sympy.diff, "Sqrt": sympy.sqrt,
    "Sin": sympy.sin, "Cos": sympy.cos, "Tan": sympy.tan, "ArcTan": sympy.atan, "Exp": sympy.exp, "Log": sympy.log,
    "Factor": sympy.factor, "Expand": sympy.expand, "Simplify": sympy.simplify, "Limit": sympy.limit,
    "Sum": sympy.summation, "Product": sympy.product, "Pi": sympy.pi, "Infinity": sympy.oo, "GCD": sympy.gcd,
    "LCM": sympy.lcm, "PrimeQ": sympy.isprime, "Binomial": sympy.binomial, "Prime": sympy.prime, "N": sympy.N,
    "Factorial": sympy.factorial, "Det": lambda rows: sympy.Matrix(rows).det(),
}  # fmt: skip
"""What words mean. The parser sees nothing else of SymPy."""
AMBIGUOUS = ("beta", "gamma", "zeta", "D", "N", "LC")
"""Functions only where they are applied, else variables."""
PRODUCTS = frozenset(("abc", "xyz", "pqr", "uvw", "mgh", "ijk", "abcd", "wxyz"))
GREEK = frozenset(
    ("alpha", "beta", "gamma", "delta", "epsilon", "eta", "theta", "iota", "kappa", "lamda", "mu", "nu", "xi", "rho",
     "sigma", "tau", "phi", "chi", "psi", "omega")
)  # fmt: skip
WORD = re.compile(r"[A-Za-z_]\w*")
SMALL_WORDS = frozenset(
    ("of", "is", "in", "to", "as", "at", "by", "or", "on", "an", "if", "do", "be", "it", "my", "we", "so", "no", "up",
     "us", "me", "he", "am", "go")
)  # fmt: skip


class Unclear(Exception):
    """The question is not understood, or has no answer that could be found: the message says so."""


def form(pattern: str, answered: Callable[..., Pods]) -> Form:
    """A form of question. A space in the pattern stands for any spaces, and a comma may have some before and behind."""
    spaced = pattern.replace(" ", r"\s+").replace(",", r"\s*,?\s*")
    return re.compile(spaced, re.IGNORECASE | re.DOTALL), answered


def rewritten(text: str) -> str:
    """The text with other spellings, in words or LaTeX, made those that `expression` reads."""
    text = text.translate(CHARACTERS)
    for pattern, written in REWRITTEN:
        text = pattern.sub(written, text)
    if not re.search(r"[A-Za-z(\[{]", THOUSANDS.sub("", text)):  # else a comma may be one of a list
        text = THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return text.strip()


def expression(text: str, **names: Any) -> Any:
    """A value of SymPy, or a list of such.

    Args:
        names: what words mean, beside `NAMES`.

    Raises:
        Unclear: it is no value.
        Exception: whatever SymPy's parser raises.
    """
    text = text.strip().rstrip(",;").replace("{", "[").replace("}", "]")
    if not text:
        raise Unclear("something is missing")
    known = NAMES | {
        name: sympy.Symbol(name) for name in AMBIGUOUS if not re.search(rf"\b{name}\s*[(]", text)
    } | names  # fmt: skip
    for word in WORD.findall(text):
        if word not in known and word not in PRODUCTS | GREEK and (len(word) > 2 or word.lower() in SMALL_WORDS):
            raise Unclear(f"the word {word!r} has no meaning here")
    value = parse_expr(text, dict(names), TRANSFORMATIONS, known)
    if isinstance(value, tuple | list):
        return [sympy.sympify(each) for each in value]
    value = sympy.sympify(value)
    if not isinstance(value, sympy.Basic | sympy.MatrixBase) or isinstance(value, sympy.FunctionClass):
        raise Unclear(f"{text!r} is no value")
    return value


def wolfram_expression(text: str) -> Any:
    """The value of an expression in Wolfram's language, such as `Integrate[x^2, {x, 0, 1}]`."""
    return expression(text.translate(str.maketrans("[]{}", "()()")).replace("==", "-"))


def symbol(text: str) -> sympy.Symbol:
    text = text.strip()
    if not re.fullmatch(r"[A-Za-z]\w*", text):
        raise Unclear(f"{text!r} is no variable")
    return sympy.Symbol(text)


def variable(*values: Any, named: str | None = None) -> sympy.Symbol:
    """The variable that is meant: the one that is named, or else the likeliest."""
    if named:
        return symbol(named)
    free = {each for value in values for each in value.free_symbols}
    return min(free, key=lambda each: ("xytzn".find(each.name) % 99, each.name), default=sympy.Symbol("x"))


def relation(text: str, **names: Any) -> Any:
    """An equation or inequality; an expression by itself is to be 0."""
    parts = re.split(r"(<=|>=|<|>|=)", text)
    if len(parts) == 1:
        return sympy.Eq(expression(text, **names), 0, evaluate=False)
    if len(parts) != 3:
        raise Unclear(f"{text!r} is not one equation")
    kinds = {"=": sympy.Eq, "<": sympy.Lt, ">": sympy.Gt, "<=": sympy.Le, ">=": sympy.Ge}
    return kinds[parts[1]](expression(parts[0], **names), expression(parts[2], **names), evaluate=False)


def shown(value: Any) -> str:
    """A value as text, in the usual notation: `x^2`, `i`, `e`, `infinity`."""
    if isinstance(value, list | tuple):
        return "{" + ", ".join(map(shown, value)) + "}"
    if isinstance(value, sympy.MatrixBase):
        return shown([list(value.row(row)) for row in range(value.rows)])
    if isinstance(value, sympy.Eq | sympy.core.relational.Relational) and not isinstance(value, bool):
        sign = {"==": "="}.get(value.rel_op, value.rel_op)
        return f"{shown(value.lhs)} {sign} {shown(value.rhs)}"
    text = sympy.sstr(value).replace("**", "^")
    for name, usual in (("zoo", "complex infinity"), ("oo", "infinity"), ("I", "i"), ("E", "e"), ("nan", "undefined"),
                        ("lamda", "lambda")):  # fmt: skip
        text = re.sub(rf"\b{name}\b", usual, text)
    return text


def decimal(value: Any) -> str | None:
    """The value in digits, if it is a number whose text is not that already."""
    if not isinstance(value, sympy.Expr) or value.free_symbols or not value.is_number or value.is_infinite:
        return None
    if all(part.is_Integer for part in value.as_real_imag()):
        return None if abs(value) < 10**DIGITS else tidy(sympy.N(value, DIGITS))
    number = sympy.N(value, DIGITS, chop=True)
    if number.has(sympy.oo, sympy.zoo, sympy.nan) or any(not part.is_Float for part in number.as_real_imag() if part):
        return None
    text = tidy(number)
    return None if text == shown(value) else text


def tidy(number: Any) -> str:
    """A decimal without zeros at its end."""
    return re.sub(r"(\.\d*?)0+(?!\d)", r"\1", shown(number)).replace(". ", " ").removesuffix(".").replace(".*", "*")


def pods(said: str, value: Any, title: str = "Result") -> Pods:
    """An answer: what was understood, the value, and the value in digits.

    Raises:
        Unclear: SymPy has left the question as it was.
    """
    found: Pods = [("Input interpretation", [said])]
    digits = decimal(value)
    if isinstance(value, sympy.Basic) and value.has(sympy.Integral, sympy.Limit, sympy.Sum, sympy.Product):
        if digits is None:
            raise Unclear(f"{shown(value)} has no closed form that could be found")
        return [*found, (title, [digits])]
    if digits and isinstance(value, sympy.Rational) and re.search(r"\d\.\d", said) and len(digits) < DIGITS:
        return [*found, (title, [digits])]
    found.append((title, [shown(value) if value not in ([], ()) else "none"]))
    return [*found, ("Decimal approximation", [digits])] if digits else found
