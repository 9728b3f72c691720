"""Whole numbers, lists of numbers, matrices, digits."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy

from herdsman.tools.mathematics.language import Pods, Unclear, expression, form, pods, shown

MOST_SHOWN = 60


def _factor(text: str) -> Pods:
    value = expression(text)
    if not value.is_Integer:
        return pods(f"factor {text}", sympy.factor(value), "Factors")
    powers = sympy.factorint(int(value))
    factors = " * ".join(f"{prime}^{power}" if power > 1 else str(prime) for prime, power in powers.items())
    return [("Input interpretation", [f"factor {text}"]), ("Prime factorization", [factors or "1"])]


def _of_list(function: Callable[..., Any], name: str) -> Callable[[str], Pods]:
    def applied(text: str) -> Pods:
        text = re.sub(r"\s*\band\b\s*", ", ", text.strip().strip("()[]{}"))
        values = [expression(part) for part in text.split(",") if part.strip()]
        if not values:
            raise Unclear(f"the {name} needs numbers")
        return pods(f"{name} of {shown(values)}", sympy.sympify(function(values)))

    return applied


def _median(values: list[Any]) -> Any:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _variance(values: list[Any]) -> Any:
    """Of a sample, as Wolfram|Alpha has it."""
    if len(values) < 2:
        raise Unclear("a variance needs two numbers or more")
    mean = sum(values) / sympy.Integer(len(values))
    return sum((value - mean) ** 2 for value in values) / sympy.Integer(len(values) - 1)


def is_prime(value: Any) -> Pods:
    if not value.is_Integer:
        raise Unclear(f"{shown(value)} is no whole number")
    if sympy.isprime(value):
        return [("Result", [f"{value} is a prime number"])]
    return [("Result", [f"{value} is not a prime number"]), *(_factor(str(value))[1:] if value > 1 else [])]


def _numbers(name: str, found: Callable[..., Any]) -> Callable[..., Pods]:
    def answered(*texts: str) -> Pods:
        values = [expression(text) for text in texts]
        if not all(value.is_Integer for value in values):
            raise Unclear(f"{name} needs whole numbers")
        result = found(*map(int, values))
        listed = result if isinstance(result, list) else [result]
        more = [f"and {len(listed) - MOST_SHOWN} more"] if len(listed) > MOST_SHOWN else []
        shown_ = [", ".join([*map(str, listed[:MOST_SHOWN]), *more]) or "none"]
        return [("Input interpretation", [f"{name}: {', '.join(texts)}"]), ("Result", shown_)]

    return answered


def _matrix(name: str, function: Callable[[Any], Any]) -> Callable[[str], Pods]:
    def answered(text: str) -> Pods:
        rows = expression(text)
        matrix = sympy.Matrix(rows if isinstance(rows[0], list | tuple | sympy.Tuple) else [rows])
        return pods(f"{name} of {shown(matrix)}", function(matrix))

    return answered


def _digits(text: str, count: str) -> Pods:
    number = sympy.N(expression(text), min(int(count), 10_000))
    return [("Input interpretation", [f"{text} to {count} digits"]), ("Decimal approximation", [shown(number)])]


def _base(text: str, name: str | None, base: str | None) -> Pods:
    radix = int(base) if base else {"binary": 2, "octal": 8, "hex": 16, "hexadecimal": 16, "decimal": 10}[str(name)]
    value = expression(text)
    if not value.is_Integer or not 2 <= radix <= 36:
        raise Unclear(f"{text} cannot be written in base {radix}")
    rest, digits = abs(int(value)), ""
    while rest or not digits:
        rest, digit = divmod(rest, radix)
        digits = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + digits
    return [("Input interpretation", [f"{text} in base {radix}"]), ("Result", ["-" * (int(value) < 0) + digits])]


def _mean(values: list[Any]) -> Any:
    return sum(values) / sympy.Integer(len(values))


def _eigenvalues(matrix: Any) -> list[Any]:
    return sorted(
        (each for each, count in matrix.eigenvals().items() for _ in range(count)), key=sympy.default_sort_key
    )


_BELOW = "(?:less than|below|under|smaller than|before)"
FORMS = (
    form(r"(?:prime factors of|prime factori[sz]ation of|factori[sz]ation of|factori[sz]e|factor) (.+)", _factor),
    form(r"(?:gcd|greatest common (?:divisor|factor)|hcf)\s*(?:of )?(.+)",
         _of_list(sympy.gcd_list, "greatest common divisor")),
    form(r"(?:lcm|(?:least|lowest) common multiple)\s*(?:of )?(.+)", _of_list(sympy.lcm_list, "least common multiple")),
    form(r"(?:mean|average) (?:of )?(.+)", _of_list(_mean, "mean")),
    form(r"median (?:of )?(.+)", _of_list(_median, "median")),
    form(r"(?:sample )?variance (?:of )?(.+)", _of_list(_variance, "variance")),
    form(r"(?:sample )?standard deviation (?:of )?(.+)",
         _of_list(lambda values: sympy.sqrt(_variance(values)), "standard deviation")),
    form(r"(?:sum|total) of (.+)", _of_list(sum, "sum")),
    form(r"product of (.+)", _of_list(sympy.prod, "product")),
    form(r"(\d+)(?:st|nd|rd|th) prime(?: number)?", _numbers("prime of this number", sympy.prime)),
    form(r"next prime (?:after|above|greater than|larger than) (.+)", _numbers("next prime", sympy.nextprime)),
    form(rf"(?:previous|largest) prime {_BELOW} (.+)", _numbers("previous prime", sympy.prevprime)),
    form(r"primes?(?: numbers)? (?:between|from) (.+?) (?:and|to) (.+)",
         _numbers("primes between", lambda low, high: list(sympy.primerange(low, high + 1)))),
    form(rf"primes?(?: numbers)? {_BELOW} (.+)", _numbers("primes below", lambda high: list(sympy.primerange(high)))),
    form(r"(?:divisors|factors) of (.+)", _numbers("divisors", sympy.divisors)),
    form(r"number of divisors of (.+)", _numbers("number of divisors", sympy.divisor_count)),
    form(r"(?:euler'?s? )?(?:totient|phi) (?:function )?of (.+)", _numbers("totient", sympy.totient)),
    form(r"inverse of (\S+) % (\S+)", _numbers("inverse of a number modulo another", sympy.mod_inverse)),
    form(r"(\d+)(?:st|nd|rd|th) fibonacci(?: number)?", _numbers("Fibonacci number", sympy.fibonacci)),
    form(r"det(?:erminant)?\s*(?:of )?(.+)", _matrix("determinant", lambda matrix: matrix.det())),
    form(r"inverse (?:of )?(?:the matrix )?([\[{].+)", _matrix("inverse", lambda matrix: matrix.inv())),
    form(r"rank (?:of )?([\[{].+)", _matrix("rank", lambda matrix: sympy.Integer(matrix.rank()))),
    form(r"transpose (?:of )?([\[{].+)", _matrix("transpose", lambda matrix: matrix.T)),
    form(r"eigenvalues (?:of )?(.+)", _matrix("eigenvalues", _eigenvalues)),
    form(r"(.+?) (?:to|with) (\d+) (?:decimal )?(?:digits|places|decimals|significant figures)", _digits),
    form(r"(?:first )?(\d+) digits of (.+)", lambda count, text: _digits(text, count)),
    form(r"(?:convert )?(.+?) (?:to|in|into) (?:(binary|octal|hex|hexadecimal|decimal)|base (\d+))", _base),
)  # fmt: skip
