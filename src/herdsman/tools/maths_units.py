"""Quantities with units. Runs inside the sandbox alone."""

from __future__ import annotations

import re
from typing import Any

import sympy
from sympy.physics import units

from herdsman.tools.maths_language import DIGITS, Pods, decimal, expression, shown, tidy

EXACT: dict[str, Any] = {
    "lb": units.pound, "lbs": units.pound, "pounds": units.pound, "oz": units.pound / 16, "ounce": units.pound / 16,
    "ounces": units.pound / 16, "ton": 1000 * units.kilogram, "tons": 1000 * units.kilogram, "tonne": 1000 * units.kilogram,
    "tonnes": 1000 * units.kilogram, "mph": units.mile / units.hour, "kph": units.kilometer / units.hour,
    "kmh": units.kilometer / units.hour, "knot": 1852 * units.meter / units.hour, "knots": 1852 * units.meter / units.hour,
    "mi": units.mile, "yd": units.yard, "gallon": sympy.Rational("3.785411784") * units.liter, "feet": units.foot,
    "gallons": sympy.Rational("3.785411784") * units.liter, "acre": sympy.Rational("4046.8564224") * units.meter**2,
    "acres": sympy.Rational("4046.8564224") * units.meter**2, "hectare": 10_000 * units.meter**2,
    "hectares": 10_000 * units.meter**2, "month": units.year / 12, "months": units.year / 12, "week": 7 * units.day,
    "weeks": 7 * units.day, "hr": units.hour, "hrs": units.hour, "min": units.minute, "sec": units.second,
    "secs": units.second, "mins": units.minute, "ha": 10_000 * units.meter**2, "calorie": sympy.Rational("4.184") * units.joule,
    "calories": sympy.Rational("4.184") * units.joule, "kcal": 4184 * units.joule, "Wh": 3600 * units.joule,
    "kWh": 3_600_000 * units.joule, "horsepower": sympy.Rational("745.69987158227022") * units.watt, "inches": units.inch,
    "kJ": 1000 * units.joule, "MJ": 10**6 * units.joule, "kW": 1000 * units.watt, "MW": 10**6 * units.watt,
    "metre": units.meter, "metres": units.meter, "kilometre": units.kilometer, "kilometres": units.kilometer,
    "centimetre": units.centimeter, "centimetres": units.centimeter, "millimetre": units.millimeter, "grams": units.gram,
    "millimetres": units.millimeter, "litre": units.liter, "litres": units.liter, "kPa": 1000 * units.pascal,
    "bytes": units.byte, "KB": 1000 * units.byte, "MB": 10**6 * units.byte, "GB": 10**9 * units.byte, "TB": 10**12 * units.byte,
    "KiB": units.kibibyte, "MiB": units.mebibyte, "GiB": units.gibibyte, "bits": units.bit, "Hz": units.hertz,
}  # fmt: skip
UNITS: dict[str, Any] = {
    name: value for name, value in vars(units).items() if isinstance(value, units.Quantity) and len(name) < 24
} | EXACT
TEMPERATURES = {
    "c": (sympy.Integer(1), sympy.Rational("273.15")), "celsius": (sympy.Integer(1), sympy.Rational("273.15")),
    "f": (sympy.Rational(5, 9), sympy.Rational("459.67") * sympy.Rational(5, 9)),
    "fahrenheit": (sympy.Rational(5, 9), sympy.Rational("459.67") * sympy.Rational(5, 9)),
    "k": (sympy.Integer(1), sympy.Integer(0)), "kelvin": (sympy.Integer(1), sympy.Integer(0)),
}  # fmt: skip
"""By name: kelvins a degree, and kelvins at zero degrees."""


def quantity(text: str) -> Any:
    """A value with units, or None if the text has none."""
    known = {word: UNITS[word] for word in re.findall(r"[A-Za-z_]+", text) if word in UNITS}
    if not known:
        return None
    text = re.sub(r"\bper\b", "/", text)
    text = re.sub(r"(?<=[\d)A-Za-z])\s+(?=[A-Za-z(\d])|(?<=\d)(?=[A-Za-z])", "*", text)
    value = expression(text, **known)
    return value if isinstance(value, sympy.Expr) and value.has(units.Quantity) else None


def convert(text: str, target: str) -> Pods | None:
    """A quantity in another unit; None if these are no quantities."""
    if found := _temperature(text, target):
        return found
    value, unit = quantity(text), quantity(target)
    if value is None or unit is None:
        return None
    ratio = sympy.simplify(units.convert_to(value / unit, [units.meter, units.kilogram, units.second, units.ampere,
                                                          units.kelvin, units.mole, units.candela, units.bit]))  # fmt: skip
    said = f"{text} in {target}"
    if ratio.free_symbols or ratio.has(units.Quantity):
        return [("Input interpretation", [said]), ("Result", ["these units measure different things"])]
    return [("Input interpretation", [said]), ("Result", [f"{decimal(ratio) or shown(ratio)} {target}"])]


def in_base_units(text: str) -> Pods | None:
    value = quantity(text)
    if value is None:
        return None
    base = [units.meter, units.kilogram, units.second, units.ampere, units.kelvin, units.mole]
    found = sympy.N(units.convert_to(value, base), DIGITS)
    return [("Input interpretation", [text]), ("Result", [tidy(found).replace("*", " ")])]


def _temperature(text: str, target: str) -> Pods | None:
    match = re.fullmatch(r"(-?[\d.]+)\s*(?:degrees?\s*)?([A-Za-z]+)", text.strip())
    names = [name.lower().removeprefix("degrees ").removeprefix("degree ") for name in (match[2] if match else "", target)]
    if match is None or any(name not in TEMPERATURES for name in names):
        return None
    (scale, zero), (scale_to, zero_to) = (TEMPERATURES[name] for name in names)
    kelvins = sympy.Rational(match[1]) * scale + zero
    found = (kelvins - zero_to) / scale_to
    return [("Input interpretation", [f"{text} in {target}"]), ("Result", [f"{decimal(found) or shown(found)} {target}"])]
