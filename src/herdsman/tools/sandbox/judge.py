"""Verdicts on code that a model wrote. The code runs in a sandbox; whether it is right is decided here, outside.

Two kinds of test differ in what they prove. With `values` the code is called with arguments, and what it returns is
compared here: it never meets what is expected of it. With `tests` the assertions run beside the code, which could
tamper with them; what is known of such tricks is refused, and the verdict says "tests-inside", which is weaker.
Nothing of the code, not even its syntax, is read in this process: parsers have been crashed before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from secrets import token_hex
from typing import Any

from herdsman.errors import MachineError
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import NO_LIMITS, Outcome, Sandbox

TOLERANCE = 1e-9  # relative, of numbers that are not whole
LONGEST_EVIDENCE = 500


@dataclass(frozen=True)
class Verdict:
    """One check of one candidate.

    Attributes:
        check: "values", "tests-inside", "parse" or "lint".
        verdict: "pass", "fail", or "error" if it could not be checked, which is never a pass.
        evidence: one sentence of what decided it; may quote what the code printed or raised.
        backend: the sandbox's name.
    """

    check: str
    verdict: str
    evidence: str
    backend: str

    @property
    def passed(self) -> bool:
        return self.verdict == "pass"


class Judge:
    """Checks candidates in one fork server, each in a process of its own. Not for several threads at a time.

    Args:
        limits: of one check.
    """

    def __init__(self, sandbox: Sandbox, limits: Limits = NO_LIMITS):
        self._backend = sandbox.name
        self._jobs = sandbox.jobs(limits, {"judge_inside": _program_text()})

    def values(self, candidate: str, function: str, cases: Sequence[tuple[Sequence[Any], Any]]) -> Verdict:
        """Calls a function of the candidate and compares what it returns.

        Args:
            cases: pairs of arguments (values that Python can write as literals) and the value expected; values are
                compared as JSON has them, so that a tuple is a list.
        """
        outcome = self._ask("values(candidate, function, calls)", candidate=candidate, function=function,
                            calls=[list(arguments) for arguments, _ in cases])  # fmt: skip
        if isinstance(outcome, Verdict):
            return self._verdict("values", outcome.verdict, outcome.evidence)
        try:
            answers = json.loads(outcome.result or b"")
            pairs = [(str(kind), str(text)) for kind, text in answers]
        except (ValueError, TypeError, RecursionError):
            return self._verdict("values", "fail", _why(outcome))
        if len(pairs) != len(cases):
            return self._verdict("values", "fail", f"{len(pairs)} answers to {len(cases)} calls")
        for (kind, text), (arguments, expected) in zip(pairs, cases, strict=True):
            call = f"{function}({', '.join(map(repr, arguments))})"
            if kind != "value":
                return self._verdict("values", "fail", f"{call} raises {text}")
            if not _equals(text, expected):
                return self._verdict("values", "fail", f"{call} is {text}, not {json.dumps(expected)}")
        return self._verdict("values", "pass", f"{len(cases)} of {len(cases)} calls return what is expected")

    def tests(self, candidate: str, tests: str) -> Verdict:
        """Runs assertions and functions named test... beside the candidate; each must pass, and there must be one."""
        readings = []
        for title, code in (("the candidate", candidate), ("the tests", tests)):
            reading = self._read(code)
            if isinstance(reading, Verdict):
                return self._verdict("tests-inside", reading.verdict, reading.evidence)
            if reading["syntax"]:
                return self._verdict("tests-inside", "fail", f"{title}: {reading['syntax']}")
            readings.append(reading)
        if readings[0]["machinery"]:
            touched = ", ".join(readings[0]["machinery"])
            return self._verdict("tests-inside", "fail", f"the candidate touches what tests depend on: {touched}")
        statements, checks = readings[1]["statements"], readings[1]["checks"]
        if not checks:
            return self._verdict("tests-inside", "error", "the tests assert nothing")
        nonce = token_hex(16)
        call = "tests(candidate, statements, nonce)"
        outcome = self._ask(call, candidate=candidate, statements=statements, nonce=nonce)
        if isinstance(outcome, Verdict):
            return self._verdict("tests-inside", outcome.verdict, outcome.evidence)
        if outcome.ended == "finished" and outcome.result == f"{nonce} {len(statements)}".encode():
            return self._verdict("tests-inside", "pass", f"{checks} of {checks} tests pass, run beside the candidate")
        return self._verdict("tests-inside", "fail", _why(outcome))

    def parse(self, code: str) -> Verdict:
        """Whether it is Python."""
        reading = self._read(code)
        if isinstance(reading, Verdict):
            return self._verdict("parse", reading.verdict, reading.evidence)
        syntax = reading["syntax"]
        return self._verdict("parse", "fail" if syntax else "pass", syntax or "it parses")

    def lint(self, code: str) -> Verdict:
        """Whether it is Python that uses no name it never binds: a function not imported, a variable not set."""
        reading = self._read(code)
        if isinstance(reading, Verdict):
            return self._verdict("lint", reading.verdict, reading.evidence)
        problem = reading["syntax"] or ", ".join(f"{name} is not defined" for name in reading["undefined"])
        return self._verdict("lint", "fail" if problem else "pass", problem or "every name is defined")

    def close(self) -> None:
        self._jobs.close()

    def _ask(self, call: str, **variables: Any) -> Outcome | Verdict:
        """What came of a call inside; a verdict if nothing did that could be judged."""
        names = call.partition("(")[0]
        try:
            return self._jobs.run(f"import judge_inside\nresult = judge_inside.{call}", variables, name=f"{names}.py")
        except MachineError as error:
            return self._verdict("", "error", str(error))

    def _read(self, code: str) -> Mapping[str, Any] | Verdict:
        outcome = self._ask("read(code)", code=code)
        if isinstance(outcome, Verdict):
            return outcome
        try:
            reading = dict(json.loads(outcome.result or b""))
            return {"syntax": reading["syntax"], **reading}
        except (ValueError, TypeError, KeyError, RecursionError):
            return self._verdict("", "fail", f"it cannot be parsed: {_why(outcome)}")

    def _verdict(self, check: str, verdict: str, evidence: str) -> Verdict:
        return Verdict(check, verdict, evidence[:LONGEST_EVIDENCE], self._backend)


def _why(outcome: Outcome) -> str:
    """The end of a run that should have brought a result."""
    if outcome.ended == "finished":
        return (outcome.result or b"it ends without an answer").decode("utf-8", "replace")
    if outcome.ended == "raised":
        return outcome.error.strip().splitlines()[-1] if outcome.error.strip() else "it raises"
    if outcome.ended == "exited":
        return "it leaves before it has answered"
    return f"the sandbox ended it: {outcome.ended} ({outcome.error})"


def _equals(text: str, expected: Any) -> bool:
    try:
        return same(json.loads(text), json.loads(json.dumps(expected)))
    except (ValueError, RecursionError):
        return False


def same(found: Any, expected: Any) -> bool:
    """Equality of JSON values: True is not 1, 1 is 1.0, and other numbers are equal to nine digits."""
    if isinstance(expected, list):
        return (
            isinstance(found, list) and len(found) == len(expected)
            and all(same(one, other) for one, other in zip(found, expected, strict=True))
        )  # fmt: skip
    if isinstance(expected, dict):
        return (
            isinstance(found, dict) and found.keys() == expected.keys()
            and all(same(found[key], value) for key, value in expected.items())
        )  # fmt: skip
    if isinstance(expected, bool) or isinstance(found, bool) or not isinstance(expected, int | float):
        return type(found) is type(expected) and bool(found == expected)
    if not isinstance(found, int | float):
        return False
    if isinstance(found, int) and isinstance(expected, int):
        return found == expected
    return (
        found == expected
        or math.isclose(found, expected, rel_tol=TOLERANCE)
        or (found != found and expected != expected)
    )


@cache
def _program_text() -> str:
    return (files(__package__) / "judge_inside.py").read_text(encoding="utf-8")
