"""The maths tool: in the sandbox with SymPy, and at Wolfram|Alpha, the latter against a server on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from herdsman.errors import MachineError
from herdsman.tools.maths import SympyMaths, WolframAlpha
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.tool import Result
from tests.local_server import running

KEY = "WOLFRAM-KEY"


@pytest.fixture(scope="module")
def maths() -> SympyMaths:
    try:
        sandbox = Bubblewrap()
        sandbox.run("", Limits())
    except MachineError as error:
        pytest.skip(str(error))
    return SympyMaths(sandbox)


def pods(result: Result) -> dict[str, list[str]]:
    answer = json.loads(result.text)["queryresult"]
    assert answer["success"] is True
    return {pod["title"]: [part["plaintext"] for part in pod["subpods"]] for pod in answer["pods"]}


def test_an_answer_has_the_form_of_wolfram_alphas(maths: SympyMaths) -> None:
    result = maths.call({"query": "solve x^2 = 2"})
    assert json.loads(result.text) == {
        "queryresult": {
            "success": True,
            "inputstring": "solve x^2 = 2",
            "pods": [
                {"title": "Input interpretation", "subpods": [{"title": "", "plaintext": "x^2 = 2"}]},
                {
                    "title": "Solutions",
                    "subpods": [{"title": "", "plaintext": "x = -sqrt(2)"}, {"title": "", "plaintext": "x = sqrt(2)"}],
                },
                {
                    "title": "Decimal approximation",
                    "subpods": [
                        {"title": "", "plaintext": "x = -1.4142135623731"},
                        {"title": "", "plaintext": "x = 1.4142135623731"},
                    ],
                },
            ],
        }
    }
    assert pods(maths.call({"query": "integrate sin x from 0 to pi"}))["Result"] == ["2"]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("population of France", "the word 'population' has no meaning here"),
        ("))((", "it cannot be read as mathematics"),
        ("", "something is missing"),
        ("\x00\ud800", "it cannot be read as mathematics"),
        ("1" * 1001, "the question is longer than 1000 characters"),
        ("__import__('os').system('id')", "the word '__import__' has no meaning here"),
        ("integral of x^x", "has no closed form that could be found"),
    ],
)
def test_what_cannot_be_answered_is_a_failed_result_of_one_sentence(
    maths: SympyMaths, query: str, sentence: str
) -> None:
    result = maths.call({"query": query})
    assert result.failed
    assert sentence in result.text
    assert result.text.startswith("The question was not answered: ")
    assert result.text.count("\n") == 0


def test_what_takes_too_long_is_stopped_and_the_next_question_is_answered(
    maths: SympyMaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herdsman.tools.maths.LIMITS", Limits(cpu_seconds=1, wall_seconds=5.0, memory_bytes=1 << 30))
    other = SympyMaths(Bubblewrap())
    assert other.call({"query": "9^9^9^9"}) == Result(
        "The question was not answered: it takes longer than 1 seconds.", failed=True
    )
    assert other.call({"query": "[0] * 10^9"}).failed
    assert pods(other.call({"query": "2 + 2"}))["Result"] == ["4"]


def test_long_answers_are_cut(maths: SympyMaths) -> None:
    (digits,) = pods(maths.call({"query": "10000!"}))["Result"]
    assert digits.endswith("... (35,660 characters)")
    assert len(digits) < 1100


def test_many_threads_ask_at_once(maths: SympyMaths) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: pods(maths.call({"query": f"{number}^2"}))["Result"], range(12)))
    assert found == [[str(number**2)] for number in range(12)]


def test_nothing_of_it_is_computed_in_this_process(maths: SympyMaths) -> None:
    code = (
        "import sys\nfrom herdsman.tools.maths import SympyMaths\nfrom herdsman.tools.sandbox.bubblewrap import "
        "Bubblewrap\nprint(SympyMaths(Bubblewrap()).call({'query': '6 * 7'}).text)\nassert 'sympy' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert '"plaintext": "42"' in done.stdout


@pytest.fixture
def wolfram() -> Iterator[tuple[str, dict[str, Any]]]:
    """Answers as Wolfram|Alpha's Full Results API does; what it answers, and what it was asked."""
    state: dict[str, Any] = {"asked": [], "answer": (200, b"")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            query = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
            state["asked"].append(query)
            status, body = state["answer"]
            if query["appid"] != KEY:
                error = {"success": False, "error": {"code": "1", "msg": "Invalid appid"}, "numpods": 0}
                status, body = 200, json.dumps({"queryresult": error}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with running(Handler) as address:
        yield f"{address}/v2/query", state


def test_wolfram_alpha_is_asked_and_its_plain_texts_are_given(wolfram: tuple[str, dict[str, Any]]) -> None:
    address, state = wolfram
    found = {
        "success": True, "error": False, "numpods": 3, "version": "2.6",
        "pods": [
            {"title": "Input", "id": "Input", "numsubpods": 1, "subpods": [{"title": "", "plaintext": "2 + 2"}]},
            {"title": "Plot", "subpods": [{"title": "", "plaintext": ""}]},
            {"title": "Result", "primary": True, "subpods": [{"title": "", "plaintext": "4"}]},
        ],
    }  # fmt: skip
    state["answer"] = (200, json.dumps({"queryresult": found}).encode())
    result = WolframAlpha(KEY, address).call({"query": "2+2 & more"})
    assert pods(result) == {"Input": ["2 + 2"], "Result": ["4"]}
    assert state["asked"] == [{"input": "2+2 & more", "appid": KEY, "format": "plaintext", "output": "json"}]


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ((200, b'{"queryresult": {"success": false, "error": false}}'), "Wolfram|Alpha does not understand it"),
        ((500, b"oops"), "Wolfram|Alpha answered with status 500"),
        ((200, b"[]"), "Wolfram|Alpha answered with status 200"),
    ],
)
def test_what_goes_wrong_there_is_one_sentence_without_the_key(
    wolfram: tuple[str, dict[str, Any]], answer: tuple[int, bytes], sentence: str
) -> None:
    address, state = wolfram
    state["answer"] = answer
    tool = WolframAlpha(KEY, address)
    assert tool.call({"query": "x"}) == Result(f"The question was not answered: {sentence}.", failed=True)
    assert "Wolfram|Alpha says Invalid appid" in WolframAlpha("wrong", address).call({"query": "x"}).text
    gone = WolframAlpha(KEY, "http://127.0.0.1:9/").call({"query": "x"})
    assert gone.text == "The question was not answered: Wolfram|Alpha cannot be reached."
