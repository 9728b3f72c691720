"""Quantities with units, and temperatures."""

from __future__ import annotations

import re
from typing import Any

import sympy
from sympy.physics import units

from herdsman.tools.mathematics.language import DIGITS, Pods, decimal, expression, shown, tidy


def _several(*named: tuple[str, Any]) -> dict[str, Any]:
    """Units by name, of lines of names that mean the same."""
    return {name: value for names, value in named for name in names.split()}


MORE = _several(
    ("lb lbs pounds", units.pound),
    ("oz ounce ounces", units.pound / 16),
    ("ton tons tonne tonnes", 1000 * units.kilogram),
    ("grams", units.gram),
    ("metre metres", units.meter),
    ("kilometre kilometres", units.kilometer),
    ("centimetre centimetres", units.centimeter),
    ("millimetre millimetres", units.millimeter),
    ("inches", units.inch),
    ("feet", units.foot),
    ("yd", units.yard),
    ("mi", units.mile),
    ("acre acres", sympy.Rational("4046.8564224") * units.meter**2),
    ("ha hectare hectares", 10_000 * units.meter**2),
    ("litre litres", units.liter),
    ("gallon gallons", sympy.Rational("3.785411784") * units.liter),
    ("sec secs", units.second),
    ("min mins", units.minute),
    ("hr hrs", units.hour),
    ("week weeks", 7 * units.day),
    ("month months", units.year / 12),
    ("mph", units.mile / units.hour),
    ("kph kmh", units.kilometer / units.hour),
    ("knot knots", 1852 * units.meter / units.hour),
    ("kJ", 1000 * units.joule),
    ("MJ", 10**6 * units.joule),
    ("calorie calories", sympy.Rational("4.184") * units.joule),
    ("kcal", 4184 * units.joule),
    ("Wh", 3600 * units.joule),
    ("kWh", 3_600_000 * units.joule),
    ("kW", 1000 * units.watt),
    ("MW", 10**6 * units.watt),
    ("horsepower", sympy.Rational("745.69987158227022") * units.watt),
    ("kPa", 1000 * units.pascal),
    ("Hz", units.hertz),
    ("bits", units.bit),
    ("bytes", units.byte),
    ("KB", 1000 * units.byte),
    ("MB", 10**6 * units.byte),
    ("GB", 10**9 * units.byte),
    ("TB", 10**12 * units.byte),
    ("KiB", units.kibibyte),
    ("MiB", units.mebibyte),
    ("GiB", units.gibibyte),
)
UNITS = {name: value for name, value in vars(units).items() if isinstance(value, units.Quantity)} | MORE
BASE = [units.meter, units.kilogram, units.second, units.ampere, units.kelvin, units.mole, units.candela, units.bit]
_FAHRENHEIT = (sympy.Rational(5, 9), sympy.Rational("459.67") * sympy.Rational(5, 9))
_CELSIUS = (sympy.Integer(1), sympy.Rational("273.15"))
_KELVIN = (sympy.Integer(1), sympy.Integer(0))
TEMPERATURES = {
    "c": _CELSIUS, "celsius": _CELSIUS, "f": _FAHRENHEIT, "fahrenheit": _FAHRENHEIT, "k": _KELVIN, "kelvin": _KELVIN,
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
    ratio = sympy.simplify(units.convert_to(value / unit, BASE))
    said = f"{text} in {target}"
    if ratio.free_symbols or ratio.has(units.Quantity):
        return [("Input interpretation", [said]), ("Result", ["these units measure different things"])]
    return [("Input interpretation", [said]), ("Result", [f"{decimal(ratio) or shown(ratio)} {target}"])]


def in_base_units(text: str) -> Pods | None:
    """A quantity in the units of the SI; None if it is none."""
    value = quantity(text)
    if value is None:
        return None
    found = sympy.N(units.convert_to(value, BASE), DIGITS)
    return [("Input interpretation", [text]), ("Result", [tidy(found).replace("*", " ")])]


def _temperature(text: str, target: str) -> Pods | None:
    match = re.fullmatch(r"(-?[\d.]+)\s*(?:degrees?\s*)?([A-Za-z]+)", text.strip())
    names = [
        name.lower().removeprefix("degrees ").removeprefix("degree ") for name in (match[2] if match else "", target)
    ]
    if match is None or any(name not in TEMPERATURES for name in names):
        return None
    (scale, zero), (scale_to, zero_to) = (TEMPERATURES[name] for name in names)
    kelvins = sympy.Rational(match[1]) * scale + zero
    found = (kelvins - zero_to) / scale_to
    return [
        ("Input interpretation", [f"{text} in {target}"]),
        ("Result", [f"{decimal(found) or shown(found)} {target}"]),
    ]
