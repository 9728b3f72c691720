"""Mathematics: by SymPy in the sandbox, or by Wolfram|Alpha over its API. To a Llama both are `wolfram_alpha`."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import requests
from pydantic import BaseModel, TypeAdapter, ValidationError

from herdsman.tokens.messages import BUILTIN_FUNCTIONS
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import Jobs, Sandbox
from herdsman.tools.tool import Result

NAME = "wolfram_alpha"
WOLFRAM_ADDRESS, WOLFRAM_TIMEOUT_SECONDS = "https://api.wolframalpha.com/v2/query", 20.0
LIMITS = Limits(cpu_seconds=10, wall_seconds=15.0, memory_bytes=1 << 30)
LONGEST_TEXT, LONGEST_QUERY = 1000, 1000
PACKAGE = "herdsman.tools.mathematics"
MODULES = ("language", "units", "calculus", "equations", "numbers", "questions")
"""Each imports only those before it."""
CODE = f"""
import json
import sys
from {PACKAGE}.language import Unclear
from {PACKAGE}.questions import answer
sys.set_int_max_str_digits(0)
try:
    result = json.dumps({{"pods": answer(query)}})
except Unclear as error:
    result = json.dumps({{"problem": str(error)}})
except Exception:
    result = json.dumps({{"problem": "it cannot be read as mathematics"}})
"""

Pods = Sequence[tuple[str, Sequence[str]]]


class _Answer(BaseModel):
    """What comes out of the sandbox: one of the two."""

    pods: list[tuple[str, list[str]]] = []
    problem: str = ""


class SympyMaths:
    """Answers with SymPy, in a sandbox, for its parser runs what it reads. May be used by several threads.

    The interpreter that has SymPy ready (a second and 70 MB) is one for the whole process; each question is answered in
    a fork of it, which ends with the answer.

    Args:
        sandbox: where it runs. Only bubblewrap has SymPy.
    """

    name, function = NAME, BUILTIN_FUNCTIONS[NAME]

    def __init__(self, sandbox: Sandbox):
        self._sandbox = sandbox

    def call(self, arguments: dict[str, Any]) -> Result:
        query = arguments["query"]
        if len(query) > LONGEST_QUERY:
            return _failed(f"the question is longer than {LONGEST_QUERY} characters")
        jobs, turn = _jobs(self._sandbox)
        with turn:
            outcome = jobs.run(CODE, {"query": query})
        if outcome.ended == "time":
            return _failed(f"it takes longer than {LIMITS.cpu_seconds} seconds")
        if outcome.ended in ("memory", "answer") or "MemoryError" in outcome.error:
            return _failed("it takes too much memory")
        try:
            answer = _Answer.model_validate_json(outcome.result or b"")
        except ValidationError:
            return _failed("it cannot be computed")
        return _failed(answer.problem or "there is no answer") if not answer.pods else _answered(query, answer.pods)

    def close(self) -> None:
        pass


@cache
def _jobs(sandbox: Sandbox) -> tuple[Jobs, threading.Lock]:
    modules = {
        f"{PACKAGE}.{name}": (Path(__file__).parent / "mathematics" / f"{name}.py").read_text("utf-8")
        for name in MODULES
    }
    return sandbox.jobs(LIMITS, modules), threading.Lock()


class WolframAlpha:
    """Asks Wolfram|Alpha's Full Results API. May be used by several threads.

    Args:
        key: an app id.
        address: of the API.
    """

    name, function = NAME, BUILTIN_FUNCTIONS[NAME]

    def __init__(self, key: str, address: str = WOLFRAM_ADDRESS):
        self.address, self._key = address, key

    def call(self, arguments: dict[str, Any]) -> Result:
        query = arguments["query"][:LONGEST_QUERY]
        given = {"input": query, "appid": self._key, "format": "plaintext", "output": "json"}
        try:
            response = requests.get(self.address, given, timeout=WOLFRAM_TIMEOUT_SECONDS, allow_redirects=False)
        except requests.RequestException as error:
            timeout = isinstance(error, requests.Timeout)
            return _failed("Wolfram|Alpha " + ("did not answer in time" if timeout else "cannot be reached"))
        try:
            found = _WOLFRAM.validate_json(response.content).queryresult
        except ValidationError:
            return _failed(f"Wolfram|Alpha answered with status {response.status_code}")
        pods = [
            (pod.title, [part.plaintext for part in pod.subpods if part.plaintext])
            for pod in found.pods
            if any(part.plaintext for part in pod.subpods)
        ]
        if found.success and pods:
            return _answered(query, pods)
        if isinstance(found.error, _WolframError):
            return _failed(f"Wolfram|Alpha says {found.error.msg}")
        return _failed("Wolfram|Alpha does not understand it")

    def close(self) -> None:
        pass


class _WolframError(BaseModel):
    msg: str


class _Subpod(BaseModel):
    plaintext: str = ""


class _Pod(BaseModel):
    title: str
    subpods: list[_Subpod] = []


class _QueryResult(BaseModel):
    success: bool
    error: bool | _WolframError = False
    pods: list[_Pod] = []


class _Response(BaseModel):
    queryresult: _QueryResult


_WOLFRAM = TypeAdapter(_Response)


def _failed(reason: str) -> Result:
    return Result(f"The question was not answered: {reason}.", failed=True)


def _answered(query: str, pods: Pods) -> Result:
    """An answer in the form in which Meta gave Wolfram|Alpha's to Llama 3.1."""
    told = [
        {"title": title, "subpods": [{"title": "", "plaintext": _cut(text)} for text in texts]} for title, texts in pods
    ]
    answer = {"queryresult": {"success": True, "inputstring": query, "pods": told}}
    return Result(json.dumps(answer, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}... ({len(text):,} characters)"
