"""Verdicts: right code passes, wrong code fails, what cannot be judged is an error. Forged ones: test_attacks.py."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

import pytest

from herdsman.errors import MachineError
from herdsman.tools.sandbox.contained import Contained
from herdsman.tools.sandbox.judge import Judge, same
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import Sandbox
from tests.tools.sandbox.backends import NAMES, backend

CASES = [([[3, 1, 2]], [1, 2, 3]), ([[]], []), ([["b", "a"]], ["a", "b"])]
SORT = "def order(items):\n    return sorted(items)"


@pytest.fixture(params=NAMES)
def judge(request: pytest.FixtureRequest) -> Iterator[Judge]:
    judge = Judge(backend(request.param), Limits(cpu_seconds=2))
    yield judge
    judge.close()


def test_values(judge: Judge) -> None:
    verdict = judge.values(SORT, "order", CASES)
    assert (verdict.verdict, verdict.check) == ("pass", "values")
    wrong = judge.values("def order(items): return items", "order", CASES)
    assert (wrong.verdict, wrong.evidence) == ("fail", "order([3, 1, 2]) is [3, 1, 2], not [1, 2, 3]")
    assert "KeyError: 'order'" in judge.values("def sort(items): return items", "order", CASES).evidence
    assert "raises TypeError" in judge.values("def order(): pass", "order", CASES).evidence
    assert judge.values(SORT + "\n1 / 0", "order", CASES).evidence == "ZeroDivisionError: division by zero"
    assert judge.values("def order(items): return set(items)", "order", CASES).verdict == "fail"


def test_tests_beside_the_candidate(judge: Judge) -> None:
    tests = "import math\nassert order([2, 1]) == [1, 2]\ndef test_empty():\n    assert order([]) == []"
    verdict = judge.tests(SORT, tests)
    assert (verdict.verdict, verdict.check) == ("pass", "tests-inside")
    assert verdict.evidence == "2 of 2 tests pass, run beside the candidate"
    assert judge.tests("def order(items): return items", tests).evidence.startswith("statement 2 fails")
    assert judge.tests("def order(items): return items or None", tests.replace("[2, 1]", "[1, 2]")).verdict == "fail"
    assert judge.tests(SORT, "order([1])").verdict == "error"
    assert judge.tests(SORT, "assert (").verdict == "fail"


def test_an_ordinary_class_with_its_own_equality_is_no_trick(judge: Judge) -> None:
    code = """
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return isinstance(other, Point) and self.x == other.x
"""
    assert judge.tests(code, "assert Point(1) == Point(1)\nassert Point(1) != Point(2)").passed


def test_parsing_and_names(judge: Judge) -> None:
    assert judge.parse("x = 1").passed
    assert judge.parse("def f(:\n  pass").evidence == "line 1: invalid syntax"
    assert not judge.parse("x = " + "(" * 5000 + ")" * 5000).passed
    assert judge.lint("import os.path as p, sys\nprint(p, sys, [i for i in (1,)], __name__)").passed
    assert judge.lint("def f(a):\n    global b\n    b = a\n    return b + c").evidence == "c is not defined"
    assert judge.lint("def f():\n    return math.pi").evidence == "math is not defined"
    assert judge.lint("from math import *\nprint(pi)").passed
    assert judge.lint(
        "class A:\n    x = 1\n    def f(self): return __class__, self.x\ntry: pass\nexcept A as e: print(e)"
    ).passed


def test_without_a_sandbox_there_is_an_error_and_no_pass() -> None:
    class Broken(Sandbox):
        name = "broken"

        def start(
            self,
            limits: Limits,
            *,
            jobs: bool = False,
            modules: Mapping[str, str] | None = None,
            cpu_limited: bool = False,
        ) -> Contained:
            raise MachineError("a sandbox does not start here")

    judge = Judge(Broken())
    for verdict in (
        judge.values(SORT, "order", CASES),
        judge.tests(SORT, "assert True"),
        judge.parse("x"),
        judge.lint("x"),
    ):
        assert (verdict.verdict, verdict.passed) == ("error", False)
        assert verdict.backend == "broken"


@pytest.mark.parametrize(
    ("found", "expected", "equal"),
    [
        (1, 1, True), (1, True, False), (True, 1, False), (1.0, 1, True), (1, 2, False), (0.1 + 0.2, 0.3, True),
        (0.1, 0.1001, False), (math.nan, math.nan, True), (math.inf, math.inf, True), (math.nan, 1.0, False),
        (10**400, 10**400, True), (10**400, 10**400 + 1, False),
        ("1", 1, False), (None, None, True), (None, False, False),
        ([1, [2]], [1, [2]], True), ([1], [1, 1], False), ({"a": 1}, {"a": 1.0}, True), ({"a": 1}, {"b": 1}, False),
        ({"a": [True]}, {"a": [1]}, False),
    ],
)  # fmt: skip
def test_equality(found: object, expected: object, equal: bool) -> None:
    assert same(found, expected) is equal
