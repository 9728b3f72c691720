"""The interpreter as a chat uses it."""

from __future__ import annotations

import struct

import pytest

from herdsman.tools.python import CodeInterpreter, InterpreterOptions
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.tool import Tool
from tests.tools.sandbox.backends import NAMES, backend

SHORT = InterpreterOptions(limits=Limits(memory_bytes=1 << 30, wall_seconds=4.0, output_bytes=400))


def run(tool: CodeInterpreter, code: str) -> str:
    return tool.call({"code": code}).text


@pytest.mark.parametrize("name", NAMES)
class TestNotebook:
    def test_variables_files_and_values(self, name: str) -> None:
        tool = CodeInterpreter(backend(name), files={"data.csv": b"a,b\n1,2\n"})
        assert run(tool, "import csv\nrows = list(csv.reader(open('data.csv')))\nrows") == "[['a', 'b'], ['1', '2']]"
        assert run(tool, "x = len(rows)") == "It ran without output."
        result = tool.call({"code": "open('out.txt', 'w').write('a' * x)"})
        assert result.text == "2\nFiles written: out.txt"
        assert [(file.name, file.media_type, file.data) for file in result.files] == [("out.txt", "text/plain", b"aa")]
        tool.add_file("later.bin", b"\x00")
        assert run(tool, "open('later.bin', 'rb').read(), open('out.txt').read()") == "(b'\\x00', 'aa')"
        tool.close()
        tool.close()

    def test_an_error_is_a_failed_result_and_the_session_goes_on(self, name: str) -> None:
        tool = CodeInterpreter(backend(name))
        result = tool.call({"code": "x = 1\nprint('before')\nx / 0"})
        assert result.failed
        assert result.text.startswith("before\nTraceback")
        assert result.text.endswith("ZeroDivisionError: division by zero")
        assert run(tool, "x") == "1"
        assert "SyntaxError" in run(tool, "x = (")
        assert run(tool, "x") == "1"
        tool.close()

    def test_a_call_that_takes_too_long_loses_the_session_and_says_so(self, name: str) -> None:
        tool = CodeInterpreter(backend(name), SHORT, {"given": b"1"})
        run(tool, "x = 1")
        result = tool.call({"code": "while True: pass"})
        assert result.failed
        why, _, then = result.text.partition(". ")
        assert why == "The code ran longer than 4 seconds and was stopped"
        assert then == "Variables and files are lost; the next call starts afresh."
        assert "'x' is not defined" in run(tool, "x")
        assert run(tool, "open('given').read()") == "'1'"
        assert "The interpreter ended" in run(tool, "import os\nos._exit(1)")
        assert run(tool, "1 + 1") == "2"
        tool.close()

    def test_long_and_hostile_output(self, name: str) -> None:
        tool = CodeInterpreter(backend(name), SHORT)
        text = run(tool, "print('a' * 100000)")
        assert len(text) < 500
        assert "bytes cut out" in text
        assert run(tool, "print('\\x1b]0;title\\x07\\x9b2J\\ttext\\rx')") == "]0;title2J\ttextx"
        tool.close()

    @pytest.mark.parametrize("arguments", [{}, {"code": 3}, {"code": None}, {"Code": "1"}])
    def test_a_call_without_code_is_answered(self, name: str, arguments: dict[str, object]) -> None:
        tool = CodeInterpreter(backend(name))
        result = tool.call(arguments)
        assert result.failed
        assert "code" in result.text


def test_figures_come_out_as_pictures() -> None:
    tool: Tool = CodeInterpreter(backend("bubblewrap"))
    result = tool.call({"code": "import matplotlib.pyplot as plt\nplt.plot([1, 4, 9])\nplt.show()"})
    assert not result.failed, result.text
    (figure,) = result.files
    assert (figure.name, figure.media_type) == ("figure-1.png", "image/png")
    assert figure.data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", figure.data[16:24])
    assert width > 300
    assert height > 200
    assert result.text == "Files written: figure-1.png"
    assert tool.call({"code": "1"}).files == ()
    second = tool.call({"code": "plt.hist([1, 2, 2]); None"})
    assert [file.name for file in second.files] == ["figure-2.png"]
    tool.close()


def test_memory_of_all_processes_together_is_limited() -> None:
    options = InterpreterOptions(limits=Limits(memory_bytes=300 << 20, wall_seconds=30.0))
    tool = CodeInterpreter(backend("bubblewrap"), options)
    code = """
import os, time
for _ in range(3):
    if os.fork() == 0:
        block = b"x" * (200 << 20)
        time.sleep(30)
time.sleep(30)
"""
    assert run(tool, code).startswith("The code used more than 300 MiB of memory and was stopped.")
    assert run(tool, "1") == "1"
    tool.close()
