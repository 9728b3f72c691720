"""Equations, systems, inequalities, and differential equations."""

from __future__ import annotations

import re
from typing import Any

import sympy
from sympy.core.relational import Relational
from sympy.functions.elementary.trigonometric import TrigonometricFunction
from sympy.solvers.inequalities import reduce_inequalities

from herdsman.tools.mathematics.language import (
    NAME,
    Pods,
    Unclear,
    decimal,
    expression,
    form,
    relation,
    shown,
    symbol,
    tidy,
    variable,
)  # fmt: skip

MOST_SHOWN = 60
READABLE = 60
"""Characters of an exact solution; longer ones are given in digits."""


def solve(text: str, named: str | None = None) -> Pods:
    """Solves what `text` says, parted by commas or "and".

    Args:
        named: the unknowns, parted likewise; the likeliest if left out.

    Raises:
        Unclear: it is no equation, or has no solution that could be found.
    """
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
    if sympy.simplify(difference) == 0:
        return [("Input interpretation", [said]), ("Result", ["true for every value"])]
    if difference.has(sympy.Abs):
        real = sympy.Symbol(unknown.name, real=True)
        difference, unknown = difference.subs(unknown, real), real
    try:
        found = sympy.solve(difference, unknown)
    except NotImplementedError:
        found = _numeric_root(difference, unknown)
    if any(each.has(sympy.CRootOf) or (len(shown(each)) > READABLE and not each.free_symbols) for each in found):
        found = sorted((sympy.N(each, 15, chop=True) for each in found), key=lambda one: (not one.is_real, str(one)))
        texts = [f"{unknown} = {tidy(each)}" for each in found]
    else:
        texts = [f"{unknown} = {shown(each)}" for each in found]
    result: Pods = [("Input interpretation", [said])]
    result.append(("Solution" if len(texts) == 1 else "Solutions", texts[:MOST_SHOWN] or ["there is no solution"]))
    digits = [f"{unknown} = {each}" for each in map(decimal, found) if each]
    if digits and digits != texts:
        result.append(("Decimal approximation", digits[:MOST_SHOWN]))
    if found and difference.has(TrigonometricFunction):
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
    finite = [part for part in parts if not (isinstance(part, Relational)
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
    return solve(f"{text.removesuffix('= 0')} = 0")


_UNKNOWNS = r"([A-Za-z]\w*(?:,(?:and )?[A-Za-z]\w*)*)"
FORMS = (
    form(rf"solve for {NAME}\s*[:,]?\s*(?:in |if )?(.+)", lambda named, text: solve(text, named)),
    form(r"(?:solve|solutions? (?:of|to|for)) (?:the )?(?:equations? |system )?:?\s*(.+?)"
         rf"(?:,for {_UNKNOWNS})?", solve),
    form(rf"(?:values? of )?{NAME} (?:such that|where|if) (.+)", lambda named, text: solve(text, named)),
    form(r"(?:real )?(?:roots?|zeros|zeroes) of (?:the polynomial )?(.+)", _roots_of),
)  # fmt: skip
