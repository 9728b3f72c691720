"""Questions of mathematics in plain language, and what answers each. Runs inside the sandbox alone.

A question is matched with `FORMS` in their order; what fits none is an equation or an expression.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import sympy
from sympy.solvers.inequalities import reduce_inequalities

from herdsman.tools.maths_language import (
    NAMES,
    Pods,
    Unclear,
    decimal,
    expression,
    pods,
    relation,
    rewritten,
    shown,
    symbol,
    tidy,
    variable,
    wolfram_expression,
)
from herdsman.tools.maths_units import UNITS, convert, in_base_units

POLITE = re.compile(
    r"^(please|can you|what'?s|what|is|are|calculate|compute|evaluate|find|determine|work out|give( me)?|show( me)?"
    r"|tell me|how much|how many|the|(exact )?value of|result of|all( of)?|an?)\b[\s:,]*", re.IGNORECASE,
)  # fmt: skip
ORDERS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "2nd": 2, "3rd": 3, "4th": 4, None: 1}
MOST_SHOWN = 60
READABLE = 60
"""Characters of an exact solution; longer ones are given in digits."""


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
    is_prime = re.fullmatch(r"(?i)(?:is\s+)?([^=]+?)\s+(?:is\s+)?(?:a\s+)?prime(?:\s+number)?", text)
    if is_prime and re.match(r"(?i)is\s|.*\sis\s", text):
        return _is_prime(expression(is_prime[1]))
    while text != before:
        before, text = text, POLITE.sub("", text)
    for pattern, answered in FORMS:
        if match := pattern.fullmatch(text):
            return answered(*match.groups())
    if re.search(r"[=<>]", text):
        return _solve(text, None)
    if found := _converted(text):
        return found
    return _plain(text)


def _plain(text: str) -> Pods:
    value = expression(text)
    if isinstance(value, sympy.Expr):
        value = value.expand(complex=True) if value.is_number and value.has(sympy.I) else sympy.simplify(value)
    return pods(text, value)


def _derivative(order: str | None, text: str, by: str | None, at: str | None) -> Pods:
    value = expression(text)
    named = variable(value, named=by)
    found = sympy.diff(value, named, int(order) if order and order.isdigit() else ORDERS[order.lower() if order else None])
    said = f"derivative of {text.strip()} by {named}"
    if at:
        return pods(f"{said} at {at.strip()}", found.subs(named, expression(at.rpartition("=")[2])))
    return pods(said, min(found, sympy.simplify(found), key=sympy.count_ops))


def _leibniz(order: str | None, by: str, again: str | None, text: str) -> Pods:
    return _derivative(order, text, by, None)


def _integral(text: str, low: str | None, high: str | None, by: str | None = None) -> Pods:
    differential = re.fullmatch(r"(.+?)\s*\*?\s*\bd([a-z])", text.strip())
    if differential:
        text, by = differential[1], differential[2]
    value = expression(text)
    named = variable(value, named=by)
    if low is None or high is None:
        found = sympy.integrate(value, named)
        if found.has(sympy.Integral):
            raise Unclear(f"the integral of {shown(value)} has no closed form that could be found")
        return [("Input interpretation", [f"integral of {text} by {named}"]), ("Result", [f"{shown(found)} + constant"])]
    bounds = expression(low.rpartition("=")[2]), expression(high)
    found = sympy.integrate(value, (named, *bounds))
    return pods(f"integral of {text} by {named} from {low} to {high}", found if found.has(sympy.Integral) else
                sympy.simplify(found))  # fmt: skip


def _limit(text: str, by: str, point: str, side: str | None) -> Pods:
    value, named = expression(text), symbol(by)
    direction = {"left": "-", "below": "-", "-": "-", "right": "+", "above": "+", "+": "+", None: "+-"}[side]
    place = expression(point)
    if place.is_infinite:
        direction = "+"
    try:
        found = sympy.limit(value, named, place, direction)
    except ValueError as error:
        if "limit does not exist" in str(error).lower() or "two sided" in str(error).lower():
            raise Unclear("the limit does not exist: it differs from the left and from the right") from error
        raise
    if found == sympy.zoo:
        raise Unclear("the limit does not exist: it is infinite, with another sign from the left than from the right")
    return pods(f"limit of {text} as {named} -> {point}", found)


def _limit_first(by: str, point: str, side: str | None, text: str) -> Pods:
    return _limit(text, by, point, side)


def _solve(text: str, named: str | None) -> Pods:
    parts = re.split(r"\s*(?:[,;]|\band\b)\s*", text)
    if "'" in text:
        return _differential_equation(text)
    relations = [relation(part) for part in parts if part]
    said = ", ".join(map(shown, relations))
    if len(relations) == 1 and not relations[0].free_symbols:
        return [("Input interpretation", [text]), ("Result", [str(bool(sympy.simplify(relations[0])))])]
    unknowns = [symbol(name) for name in re.split(r"\s*(?:,|\band\b)\s*", named)] if named else []
    if any(not isinstance(each, sympy.Eq) for each in relations):
        unknown = unknowns[0] if unknowns else variable(*relations)
        found = reduce_inequalities(relations, unknown)
        return [("Input interpretation", [said]), ("Solution", [_region(found, unknown)])]
    if len(relations) > 1:
        unknowns = unknowns or sorted({each for one in relations for each in one.free_symbols}, key=str)
        return _system(said, relations, unknowns)
    return _roots(said, relations[0], unknowns[0] if unknowns else variable(*relations))


def _roots(said: str, equation: Any, unknown: sympy.Symbol) -> Pods:
    difference = equation.lhs - equation.rhs
    exact = bool(sympy.simplify(difference) == 0)
    if exact:
        return [("Input interpretation", [said]), ("Result", ["true for every value"])]
    if difference.has(sympy.Abs):
        real = sympy.Symbol(unknown.name, real=True)
        difference, unknown = difference.subs(unknown, real), real
    try:
        found = sympy.solve(difference, unknown)
    except NotImplementedError:
        found = _numeric_root(difference, unknown)
    if any(each.has(sympy.CRootOf) or len(shown(each)) > READABLE and not each.free_symbols for each in found):
        found = sorted((sympy.N(each, 15, chop=True) for each in found), key=lambda one: (not one.is_real, str(one)))
        texts = [f"{unknown} = {tidy(each)}" for each in found]
    else:
        texts = [f"{unknown} = {shown(each)}" for each in found]
    result: Pods = [("Input interpretation", [said])]
    result.append(("Solution" if len(texts) == 1 else "Solutions", texts[:MOST_SHOWN] or ["there is no solution"]))
    digits = [f"{unknown} = {each}" for each in map(decimal, found) if each]
    if digits and digits != texts:
        result.append(("Decimal approximation", digits[:MOST_SHOWN]))
    if found and difference.has(sympy.functions.elementary.trigonometric.TrigonometricFunction):
        period = sympy.periodicity(difference, unknown)
        result += [("Period", [f"the solutions repeat every {shown(period)}"])] if period else []
    return result


def _numeric_root(difference: Any, unknown: sympy.Symbol) -> list[Any]:
    if difference.free_symbols == {unknown}:
        for start in (0.5, 1, -1, 2, 5, -5, 10, 0.1):
            try:
                return [sympy.nsolve(difference, unknown, start, prec=15)]
            except (ValueError, ZeroDivisionError, TypeError):
                continue
    raise Unclear(f"no solution of {shown(difference)} = 0 could be found")


def _system(said: str, relations: list[Any], unknowns: list[Any]) -> Pods:
    found = sympy.solve(relations, unknowns, dict=True)
    texts = [", ".join(f"{name} = {shown(value)}" for name, value in one.items()) for one in found]
    return [("Input interpretation", [said]), ("Solutions" if len(texts) > 1 else "Solution",
                                               texts[:MOST_SHOWN] or ["there is no solution"])]  # fmt: skip


def _region(found: Any, unknown: sympy.Symbol) -> str:
    """A condition as text, without the bounds that only say that the unknown is finite."""
    if found in (sympy.true, sympy.false):
        return "true for every real value" if found == sympy.true else "there is no solution"
    if isinstance(found, sympy.Or):
        return " or ".join(sorted(_region(part, unknown) for part in found.args))
    parts = found.args if isinstance(found, sympy.And) else (found,)
    finite = [part for part in parts if not (isinstance(part, sympy.core.relational.Relational)
                                             and any(side.is_infinite for side in part.args))]  # fmt: skip
    return " and ".join(sorted(map(shown, finite))) or "true for every real value"


def _differential_equation(text: str) -> Pods:
    named = sympy.Symbol("t" if re.search(r"\bt\b", text) else "x")
    function = sympy.Function("y")(named)
    left, _, right = re.sub(r"y\((x|t)\)", "y", text).partition("=")

    def side(part: str) -> Any:
        part = re.sub(r"y('+)", lambda match: f"(derivative{len(match[1])})", part or "0")
        names = {f"derivative{order}": sympy.Derivative(function, (named, order)) for order in range(1, 5)}
        return expression(part, y=function, **names)

    found = sympy.dsolve(sympy.Eq(side(left), side(right)), function)
    return [("Input interpretation", [text]), ("Solution", [shown(each) for each in _listed(found)])]


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _roots_of(text: str) -> Pods:
    return _solve(f"{text.removesuffix('= 0')} = 0", None)


def _factor(text: str) -> Pods:
    value = expression(text)
    if not value.is_Integer:
        return pods(f"factor {text}", sympy.factor(value), "Factors")
    powers = sympy.factorint(int(value))
    factors = " * ".join(f"{prime}^{power}" if power > 1 else str(prime) for prime, power in powers.items())
    return [("Input interpretation", [f"factor {text}"]), ("Prime factorization", [factors or "1"])]


def _sum(kind: str) -> Callable[..., Pods]:
    def summed(text: str, by: str, low: str, high: str) -> Pods:
        index = symbol(by)
        value = expression(text, **{by.strip(): index})
        bounds = expression(low), expression(high)
        found = (sympy.summation if kind == "sum" else sympy.product)(value, (index, *bounds))
        return pods(f"{kind} of {text} for {index} from {low} to {high}", sympy.simplify(found))

    return summed


def _sum_first(kind: str) -> Callable[..., Pods]:
    return lambda by, low, high, text: _sum(kind)(text, by, low, high)


def _series(text: str, by: str | None, at: str | None, order: str | None) -> Pods:
    value = expression(text)
    named = variable(value, named=by)
    found = sympy.series(value, named, expression(at or "0"), int(order or 5) + 1)
    return pods(f"series of {text} in {named} at {at or 0}", found)


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


def _is_prime(value: Any) -> Pods:
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


def _extremum(kind: str, text: str) -> Pods:
    value = expression(text)
    named = variable(value)
    real = sympy.Symbol(named.name, real=True)
    value = value.subs(named, real)
    function = sympy.calculus.util.minimum if kind.startswith("min") else sympy.calculus.util.maximum
    found = function(value, real)
    if found.is_infinite:
        return [("Input interpretation", [f"{kind} of {text}"]), ("Result", ["there is none: it is unbounded"])]
    places = [each for each in sympy.solve(value - found, real) if each.is_real]
    where = " or ".join(f"{named} = {shown(each)}" for each in places)
    return [("Input interpretation", [f"{kind} of {text}"]),
            ("Result", [f"{shown(found)} at {where}" if where else shown(found)])]  # fmt: skip


def _digits(text: str, count: str) -> Pods:
    number = sympy.N(expression(text), min(int(count), 10_000))
    return [("Input interpretation", [f"{text} to {count} digits"]), ("Decimal approximation", [shown(number)])]


def _digits_first(count: str, text: str) -> Pods:
    return _digits(text, count)


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


def _converted(text: str) -> Pods | None:
    """The answer if the question is of quantities with units."""
    match = re.fullmatch(r"(.+?)\s+(?:to|into|in|as)\s+(.+)", text)
    if match and (found := convert(match[1], match[2])):
        return found
    words = re.findall(r"[A-Za-z_]{2,}", text)
    return in_base_units(text) if any(word in UNITS and word not in NAMES for word in words) else None


def _form(pattern: str, answered: Callable[..., Pods]) -> tuple[re.Pattern[str], Callable[..., Pods]]:
    return re.compile(pattern, re.IGNORECASE | re.DOTALL), answered


_BY = r"(?:\s*,?\s*(?:with respect to|w\.?r\.?t\.?|in terms of|by|for)\s+([A-Za-z]\w*))?"
_FROM = r"\s*,?\s*(?:from|between|over)\s+(.+?)\s+(?:to|and)\s+(.+?)"
_SIDE = r"(?:\s*,?\s*(?:from\s+)?(?:the\s+)?(left|right|below|above)|\s*\^?([+-]))?"
FORMS = (
    _form(r"(?:(first|second|third|fourth|2nd|3rd|4th|\d+)(?:th)?\s+)?(?:derivative of|differentiate|derive)\s+(.+?)" + _BY
          + r"(?:\s*,?\s*(?:at|when|where)\s+(.+))?", _derivative),
    _form(r"d\^?(\d*)\s*/\s*d([a-z])(\^\d+)?\s*(.+)", _leibniz),
    _form(r"(?:definite\s+)?(?:integra(?:l of|te)|antiderivative of|indefinite integral of|area under)\s+(.+?)"
          + _FROM + _BY, _integral),
    _form(r"integrate\s*_\{?([^{}^]+?)\}?\s*\^\s*\{?([^{}\s]+)\}?\s+(.+)", lambda low, high, text: _integral(text, low, high)),
    _form(r"(?:indefinite\s+)?(?:integra(?:l of|te)|antiderivative of)\s+(.+?)" + _BY,
          lambda text, by: _integral(text, None, None, by)),
    _form(r"(?:limit of|limit|lim)\s+(.+?)\s*,?\s*(?:as|for|when)\s+([A-Za-z]\w*)\s*(?:->|approaches|goes to|tends to)\s*(.+?)"
          r"(?:\s*,?\s*from\s+(?:the\s+)?(left|right|below|above))?", _limit),
    _form(r"(?:limit|lim)\s*_?\s*[({]?\s*([A-Za-z]\w*)\s*(?:->|approaches)\s*([^\s)}^+]+?)\^?([+-])?[)}]?\s*,?\s+(?:of\s+)?(.+)",
          _limit_first),
    _form(r"solve\s+for\s+([A-Za-z]\w*)\s*[:,]?\s*(?:in\s+|if\s+)?(.+)", lambda named, text: _solve(text, named)),
    _form(r"(?:solve|solutions? (?:of|to|for))\s+(?:the\s+)?(?:equations?\s+|system\s+)?:?\s*(.+?)"
          r"(?:\s*,?\s*\bfor\s+([A-Za-z]\w*(?:\s*(?:,|and)\s*[A-Za-z]\w*)*))?", _solve),
    _form(r"(?:real\s+)?(?:roots?|zeros|zeroes) of\s+(?:the polynomial\s+)?(.+)", _roots_of),
    _form(r"(?:prime factors of|prime factori[sz]ation of|factori[sz]ation of|factori[sz]e|factor|factors of)\s+(.+)", _factor),
    _form(r"expand\s+(.+)", lambda text: pods(f"expand {text}", sympy.expand(expression(text)))),
    _form(r"simplify\s+(.+)", lambda text: pods(f"simplify {text}", sympy.simplify(expression(text)))),
    _form(r"partial fractions? (?:of|decomposition of)\s+(.+)",
          lambda text: pods(f"partial fractions of {text}", sympy.apart(expression(text)))),
    _form(r"(?:sum|summation)\s+(?:of\s+)?(.+?)\s*,?\s+(?:for|from|with|as)\s+([A-Za-z]\w*)\s*(?:=|from)\s*(.+?)\s+to\s+(.+)",
          _sum("sum")),
    _form(r"product\s+(?:of\s+)?(.+?)\s*,?\s+(?:for|from|with|as)\s+([A-Za-z]\w*)\s*(?:=|from)\s*(.+?)\s+to\s+(.+)",
          _sum("product")),
    _form(r"sum\s*_?\s*[({]?\s*(?:from\s+|for\s+)?([A-Za-z]\w*)\s*=\s*(\S+?)[)}]?\s*(?:to|\^)\s*[({]?(\S+?)[)}]?\s+(?:of\s+)?(.+)",
          _sum_first("sum")),
    _form(r"(?:taylor|maclaurin|power)?\s*series\s+(?:expansion\s+)?(?:of|for)?\s*(.+?)(?:\s+(?:in|about|around|at|near)\s+"
          r"(?:([A-Za-z])\s*=\s*)?(\S+?))?(?:\s*,?\s*(?:up )?to (?:order\s+)?(\d+)(?:th)?(?:\s+order)?)?", _series),
    _form(r"(?:gcd|greatest common (?:divisor|factor)|hcf)\s*(?:of\s+)?(.+)", _of_list(sympy.gcd_list,
          "greatest common divisor")),
    _form(r"(?:lcm|least common multiple|lowest common multiple)\s*(?:of\s+)?(.+)",
          _of_list(sympy.lcm_list, "least common multiple")),
    _form(r"(?:mean|average)\s+(?:of\s+)?(.+)", _of_list(lambda values: sum(values) / sympy.Integer(len(values)), "mean")),
    _form(r"median\s+(?:of\s+)?(.+)", _of_list(_median, "median")),
    _form(r"(?:sample\s+)?variance\s+(?:of\s+)?(.+)", _of_list(_variance, "variance")),
    _form(r"(?:sample\s+)?standard deviation\s+(?:of\s+)?(.+)",
          _of_list(lambda values: sympy.sqrt(_variance(values)), "standard deviation")),
    _form(r"(?:sum|total) of\s+(.+)", _of_list(sum, "sum")),
    _form(r"product of\s+(.+)", _of_list(sympy.prod, "product")),
    _form(r"(?:(\d+)(?:st|nd|rd|th)\s+prime(?:\s+number)?)", _numbers("prime of this number", sympy.prime)),
    _form(r"next prime (?:after|above|greater than|larger than)\s+(.+)", _numbers("next prime", sympy.nextprime)),
    _form(r"(?:previous prime|largest prime) (?:before|below|less than|smaller than)\s+(.+)",
          _numbers("previous prime", sympy.prevprime)),
    _form(r"primes?(?: numbers)? (?:between|from)\s+(.+?)\s+(?:and|to)\s+(.+)",
          _numbers("primes between", lambda low, high: list(sympy.primerange(low, high + 1)))),
    _form(r"primes?(?: numbers)? (?:less than|below|under|smaller than)\s+(.+)",
          _numbers("primes below", lambda high: list(sympy.primerange(high)))),
    _form(r"(?:divisors of|factors of)\s+(.+)", _numbers("divisors", sympy.divisors)),
    _form(r"number of divisors of\s+(.+)", _numbers("number of divisors", sympy.divisor_count)),
    _form(r"(?:euler'?s? )?(?:totient|phi) (?:function )?of\s+(.+)", _numbers("totient", sympy.totient)),
    _form(r"(\d+)(?:st|nd|rd|th)\s+fibonacci(?: number)?", _numbers("Fibonacci number", sympy.fibonacci)),
    _form(r"factorial of\s+(.+)", lambda text: _plain(f"({text})!")),
    _form(r"det(?:erminant)?\s*(?:of\s+)?(.+)", _matrix("determinant", lambda matrix: matrix.det())),
    _form(r"inverse\s+(?:of\s+)?(?:the matrix\s+)?([\[{].+)", _matrix("inverse", lambda matrix: matrix.inv())),
    _form(r"rank\s+(?:of\s+)?([\[{].+)", _matrix("rank", lambda matrix: sympy.Integer(matrix.rank()))),
    _form(r"transpose\s+(?:of\s+)?([\[{].+)", _matrix("transpose", lambda matrix: matrix.T)),
    _form(r"eigenvalues\s+(?:of\s+)?(.+)", _matrix("eigenvalues", lambda matrix: sorted(
        (each for each, count in matrix.eigenvals().items() for _ in range(count)), key=sympy.default_sort_key))),
    _form(r"(minimum|maximum|min|max|minimi[sz]e|maximi[sz]e)\s+(?:value\s+)?(?:of\s+)?(.+)", _extremum),
    _form(r"(.+?)\s+(?:to|with)\s+(\d+)\s+(?:decimal\s+)?(?:digits|places|decimals|significant figures)", _digits),
    _form(r"(?:first\s+)?(\d+)\s+digits of\s+(.+)", _digits_first),
    _form(r"(?:convert\s+)?(.+?)\s+(?:to|in|into)\s+(?:(binary|octal|hex|hexadecimal|decimal)|base\s+(\d+))", _base),
    _form(r"convert\s+(.+)", lambda text: _converted(text) or _plain(text)),
)  # fmt: skip
