"""Derivatives, integrals, limits, sums, series, extrema."""

from __future__ import annotations

import re
from collections.abc import Callable

import sympy
from sympy.calculus.util import maximum, minimum

from herdsman.tools.mathematics.language import NAME, Pods, Unclear, expression, form, pods, shown, symbol, variable

ORDERS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "2nd": 2, "3rd": 3, "4th": 4, None: 1}


def _derivative(order: str | None, text: str, by: str | None, at: str | None) -> Pods:
    value = expression(text)
    named = variable(value, named=by)
    found = sympy.diff(
        value, named, int(order) if order and order.isdigit() else ORDERS[order.lower() if order else None]
    )
    said = f"derivative of {text.strip()} by {named}"
    if at:
        return pods(f"{said} at {at.strip()}", found.subs(named, expression(at.rpartition("=")[2])))
    return pods(said, min(found, sympy.simplify(found), key=sympy.count_ops))


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
        return [
            ("Input interpretation", [f"integral of {text} by {named}"]),
            ("Result", [f"{shown(found)} + constant"]),
        ]
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


def _sum(kind: str) -> Callable[..., Pods]:
    def summed(text: str, by: str, low: str, high: str) -> Pods:
        index = symbol(by)
        value = expression(text, **{by.strip(): index})
        bounds = expression(low), expression(high)
        found = (sympy.summation if kind == "sum" else sympy.product)(value, (index, *bounds))
        return pods(f"{kind} of {text} for {index} from {low} to {high}", sympy.simplify(found))

    return summed


def _series(text: str, by: str | None, at: str | None, order: str | None) -> Pods:
    value = expression(text)
    named = variable(value, named=by)
    found = sympy.series(value, named, expression(at or "0"), int(order or 5) + 1)
    return pods(f"series of {text} in {named} at {at or 0}", found)


def _extremum(kind: str, text: str) -> Pods:
    value = expression(text)
    named = variable(value)
    real = sympy.Symbol(named.name, real=True)
    value = value.subs(named, real)
    function = minimum if kind.startswith("min") else maximum
    found = function(value, real)
    if found.is_infinite:
        return [("Input interpretation", [f"{kind} of {text}"]), ("Result", ["there is none: it is unbounded"])]
    places = [each for each in sympy.solve(value - found, real) if each.is_real]
    where = " or ".join(f"{named} = {shown(each)}" for each in places)
    return [("Input interpretation", [f"{kind} of {text}"]),
            ("Result", [f"{shown(found)} at {where}" if where else shown(found)])]  # fmt: skip


_BY = rf"(?:,(?:with respect to|w\.?r\.?t\.?|in terms of|by|for) {NAME})?"
_TENDS = r"\s*(?:->|approaches|goes to|tends to)\s*"
_INTEGRAL = "(?:(?:definite |indefinite )?integral of|integrate|antiderivative of|area under)"
_INDEX = rf"(?:for|from|with|as) {NAME}\s*(?:=|from)\s*(.+?) to (.+)"
_INDEX_FIRST = (
    rf"\s*_?\s*[({{]?\s*(?:from |for )?{NAME}\s*=\s*(\S+?)[)}}]?\s*(?:to|\^)\s*[({{]?(\S+?)[)}}]? (?:of )?(.+)"
)
FORMS = (
    form(rf"(?:(first|second|third|fourth|2nd|3rd|4th|\d+)(?:th)? )?(?:derivative of|differentiate|derive) (.+?){_BY}"
         r"(?:,(?:at|when|where) (.+))?", _derivative),
    form(r"d\^?(\d*)\s*/\s*d([a-z])(?:\^\d+)?\s*(.+)",
         lambda order, by, text: _derivative(order or None, text, by, None)),
    form(rf"{_INTEGRAL} (.+?),(?:from|between|over) (.+?) (?:to|and) (.+?){_BY}", _integral),
    form(r"integrate\s*_\{?([^{}^]+?)\}?\s*\^\s*\{?([^{}\s]+)\}? (.+)",
         lambda low, high, text: _integral(text, low, high)),
    form(rf"{_INTEGRAL} (.+?){_BY}", lambda text, by: _integral(text, None, None, by)),
    form(rf"(?:limit of|limit|lim) (.+?),(?:as|for|when) {NAME}{_TENDS}(.+?)"
         r"(?:,from (?:the )?(left|right|below|above))?", _limit),
    form(rf"(?:limit|lim)\s*_?\s*[({{]?\s*{NAME}{_TENDS}([^\s)}}^+]+?)\^?([+-])?[)}}]?, (?:of )?(.+)",
         lambda by, point, side, text: _limit(text, by, point, side)),
    form(rf"(?:sum|summation) (?:of )?(.+?),{_INDEX}", _sum("sum")),
    form(rf"product (?:of )?(.+?),{_INDEX}", _sum("product")),
    form(rf"sum{_INDEX_FIRST}", lambda by, low, high, text: _sum("sum")(text, by, low, high)),
    form(r"(?:taylor |maclaurin |power )?series (?:expansion )?(?:of |for )?(.+?)"
         r"(?: (?:in|about|around|at|near) (?:([A-Za-z])\s*=\s*)?(\S+?))?"
         r"(?:,(?:up )?to (?:order )?(\d+)(?:th)?(?: order)?)?", _series),
    form(r"(minimum|maximum|min|max|minimi[sz]e|maximi[sz]e) (?:value )?(?:of )?(.+)", _extremum),
)  # fmt: skip
