"""Questions with known answers, arithmetic against Python's fractions, calculus against numbers.

The questions are the tests' own, so they may be read in this process; the tool reads a model's in the sandbox alone.
"""

from __future__ import annotations

import math
import random
from fractions import Fraction

import pytest

from herdsman.tools.mathematics.language import Unclear, expression, rewritten
from herdsman.tools.mathematics.questions import answer

KNOWN = [
    # arithmetic
    ("What is 2 + 2?", "4"), ("1234 * 5678", "7006652"), ("1,234,567 * 3", "3703701"), ("0.1 + 0.2", "0.3"),
    ("1/3 + 1/6", "1/2"), ("2^10", "1024"), ("15% of 80", "12"), ("what is 7 squared", "49"), ("half of 10", "5"),
    ("20 percent of 50 plus 3", "13"), ("what is the square root of 144?", "12"), ("cube root of 27", "3"),
    ("\\frac{1}{2} + \\sqrt{16}", "9/2"), ("|3 - 5|", "2"), ("12 × 3 ÷ 4", "9"), ("17 mod 5", "2"), ("5!", "120"),
    ("10 choose 3", "120"), ("log base 10 of 1000", "3"), ("log_2 8", "3"), ("ln(e^3)", "3"), ("sin(30°)", "1/2"),
    ("tan 45 degrees", "1"), ("e^(i pi) + 1", "0"), ("sqrt(-4)", "2*i"), ("(3+4i)(1-2i)", "11 - 2*i"),
    ("2 + 2 = 4", "True"), ("1 = 2", "False"), ("1/0", "complex infinity"), ("gamma(5)", "24"),
    # calculus
    ("derivative of x^2 sin x", "x*(x*cos(x) + 2*sin(x))"), ("second derivative of x^3 with respect to x", "6*x"),
    ("d/dx x^2 + 3x", "2*x + 3"), ("d^2/dx^2 sin(x)", "-sin(x)"), ("derivative of x^2 at x=3", "6"),
    ("differentiate t^2 + a t with respect to a", "t"), ("integrate sin x from 0 to pi", "2"),
    ("integral of x^2 dx", "x^3/3 + constant"), ("∫ x e^x dx", "(x - 1)*exp(x) + constant"),
    ("integrate x^2 from 0 to 1", "1/3"), ("integrate e^(-x^2) from -infinity to infinity", "sqrt(pi)"),
    ("area under x^2 from 0 to 3", "9"), ("limit of sin(x)/x as x -> 0", "1"), ("lim x->0 (1-cos x)/x^2", "1/2"),
    ("limit of (1+1/n)^n as n approaches infinity", "e"), ("limit of 1/x as x->0 from the right", "infinity"),
    ("limit of 1/x as x->0 from the left", "-infinity"), ("sum of k^2 for k = 1 to n", "n*(2*n^2 + 3*n + 1)/6"),
    ("sum_{k=1}^{10} k^2", "385"), ("sum k=1 to 10 of k", "55"), ("sum of 1/n^2 from n = 1 to infinity", "pi^2/6"),
    ("product of k for k=1 to 5", "120"),
    ("taylor series of e^x at x = 0 to order 3", "1 + x + x^2/2 + x^3/6 + O(x^4)"),
    ("minimum of x^2 - 2x", "-1 at x = 1"), ("maximize 4 - x^2", "4 at x = 0"),
    ("minimum of x", "there is none: it is unbounded"),
    # algebra
    ("factor x^2 - 1", "(x - 1)*(x + 1)"), ("expand (x+1)^3", "x^3 + 3*x^2 + 3*x + 1"),
    ("simplify sin^2 x + cos^2 x", "1"), ("partial fractions of 1/(x^2-1)", "-1/(2*(x + 1)) + 1/(2*(x - 1))"),
    # numbers
    ("factor 360", "2^3 * 3^2 * 5"), ("prime factorization of 84", "2^2 * 3 * 7"), ("gcd of 12 and 18", "6"),
    ("gcd(12, 18)", "6"), ("lcm of 4, 6 and 10", "60"), ("is 97 prime", "97 is a prime number"),
    ("97 is prime?", "97 is a prime number"), ("is 91 a prime number?", "91 is not a prime number"),
    ("100th prime", "541"), ("next prime after 100", "101"), ("primes between 10 and 30", "11, 13, 17, 19, 23, 29"),
    ("divisors of 28", "1, 2, 4, 7, 14, 28"), ("10th fibonacci number", "55"), ("totient of 36", "12"),
    ("inverse of 7 mod 26", "15"), ("255 in binary", "11111111"), ("255 to hex", "ff"), ("-10 in base 3", "-101"),
    ("mean of 1, 2, 3, 4", "5/2"), ("median of {5, 1, 3}", "3"), ("variance of 1, 2, 3, 4", "5/3"),
    ("standard deviation of 2, 4, 4, 4, 5, 5, 7, 9", "4*sqrt(14)/7"), ("sum of 1, 2, 3", "6"),
    ("determinant of [[1,2],[3,4]]", "-2"), ("inverse of {{1,2},{3,4}}", "{{-2, 1}, {3/2, -1/2}}"),
    ("eigenvalues of [[2,0],[0,3]]", "{2, 3}"), ("rank of [[1,2],[2,4]]", "1"),
    ("pi to 30 digits", "3.14159265358979323846264338328"),
    # Wolfram's language
    ("Integrate[x^2, {x, 0, 1}]", "1/3"), ("D[x^3, x]", "3*x^2"), ("Solve[x^2 - 2 == 0, x]", "{-sqrt(2), sqrt(2)}"),
    ("Sum[k^2, {k, 1, 10}]", "385"),
    # units
    ("convert 5 miles to km", "8.04672 km"), ("100 fahrenheit in celsius", "37.7777777777778 celsius"),
    ("0 kelvin in F", "-459.67 F"), ("60 mph in m/s", "26.8224 m/s"), ("3 hours in seconds", "10800 seconds"),
    ("speed of light in km/s", "299792.458 km/s"), ("1 GiB in MiB", "1024 MiB"), ("5 kg + 300 g", "5.3 kilogram"),
    ("5 kg in km", "these units measure different things"),
]  # fmt: skip


@pytest.mark.parametrize(("question", "expected"), KNOWN)
def test_known_answers(question: str, expected: str) -> None:
    found = dict(answer(question))
    titles = ("Result", "Factors", "Prime factorization", "Decimal approximation")
    assert next(found[title] for title in titles if title in found) == [expected]


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("solve x^2 - 5x + 6 = 0 for x", ["x = 2", "x = 3"]),
        ("2x + 3 = 7", ["x = 2"]),
        ("solve for x: 3x = 12", ["x = 4"]),
        ("find all x such that x^2 = 9", ["x = -3", "x = 3"]),
        ("roots of x^2 + 1", ["x = -i", "x = i"]),
        ("solve x^3 - 4x^2 + 6x - 24 = 0", ["x = 4", "x = -sqrt(6)*i", "x = sqrt(6)*i"]),
        ("|x - 2| = 3", ["x = -1", "x = 5"]),
        ("cos x = x", ["x = 0.739085133215161"]),
        ("solve x + y = 3, x - y = 1", ["x = 2, y = 1"]),
        ("solve x+y=3 and x-y=1 for x and y", ["x = 2, y = 1"]),
        ("solve x^2 + y^2 = 25 for y", ["y = -sqrt(25 - x^2)", "y = sqrt(25 - x^2)"]),
        ("x^2 < 4", ["-2 < x and x < 2"]),
        ("x^3 > x", ["-1 < x and x < 0 or 1 < x"]),
        ("x^2 < -1", ["there is no solution"]),
        ("x = x + 1", ["there is no solution"]),
        ("y'' + y = 0", ["y(x) = C1*sin(x) + C2*cos(x)"]),
        ("solve y' = 2y", ["y(x) = C1*exp(2*x)"]),
    ],
)
def test_equations(question: str, expected: list[str]) -> None:
    found = dict(answer(question))
    assert (found.get("Solutions") or found.get("Solution")) == expected


def test_solutions_that_repeat_say_so_and_irrational_ones_have_digits() -> None:
    found = dict(answer("sin x = 1/2"))
    assert found["Solutions"] == ["x = pi/6", "x = 5*pi/6"]
    assert found["Period"] == ["the solutions repeat every 2*pi"]
    assert found["Decimal approximation"] == ["x = 0.523598775598299", "x = 2.61799387799149"]
    digits = dict(answer("x^5 - x - 1 = 0"))["Solutions"]
    assert digits[0] == "x = 1.16730397826142"
    assert len(digits) == 5


@pytest.mark.parametrize(
    "question",
    ["population of France", "plot sin x", "how are you", "().__class__", "area of a circle", "",
     "limit of 1/x as x -> 0", "integral of sin(sin(x))", "open('x')", "solve for"],
)  # fmt: skip
def test_what_is_not_mathematics_is_not_answered(question: str) -> None:
    with pytest.raises((Unclear, SyntaxError, TypeError)):
        answer(question)


def test_arithmetic_is_pythons() -> None:
    noise = random.Random(3)
    for _ in range(150):
        text, value = _term(noise, 3)
        if value is not None:
            assert Fraction(str(expression(rewritten(text)))) == value, text


def _term(noise: random.Random, depth: int) -> tuple[str, Fraction | None]:
    if depth == 0 or noise.random() < 0.2:
        number = noise.randrange(100)
        return str(number), Fraction(number)
    (left, a), (right, b) = _term(noise, depth - 1), _term(noise, depth - 1)
    sign = noise.choice("+-*/")
    if a is None or b is None or (sign == "/" and b == 0):
        return "1", None
    values = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else None}
    return f"({left} {sign} {right})", values[sign]


@pytest.mark.parametrize("text", ["x^2 sin x", "e^(-x) cos^2 x", "ln(1 + x^2)", "sqrt(x) / (1 + x)", "arctan x"])
def test_derivatives_and_integrals_agree_with_numbers(text: str) -> None:
    def at(value: float, of: str = text) -> float:
        return float(expression(rewritten(of)).subs("x", value))

    slope = dict(answer(f"derivative of {text}"))["Result"][0]
    step = 1e-5
    assert math.isclose(at(1.3, slope), (at(1.3 + step) - at(1.3 - step)) / (2 * step), rel_tol=1e-6)
    found = dict(answer(f"integrate {text} from 1 to 2"))
    area = float(found.get("Decimal approximation", found["Result"])[0])
    parts = 200
    points = [at(1 + place / parts) * (2 if 0 < place < parts else 1) for place in range(parts + 1)]
    assert math.isclose(area, sum(points) / (2 * parts), rel_tol=1e-4)
