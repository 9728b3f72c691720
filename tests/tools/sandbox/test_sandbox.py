"""What a program can do in a sandbox, and how its end is told; the same of both sandboxes where they can."""

from __future__ import annotations

import pytest

from herdsman.tools.sandbox.options import Limits
from tests.tools.sandbox.backends import NAMES, backend

SMALL = Limits(memory_bytes=256 << 20, cpu_seconds=1, wall_seconds=8.0, output_bytes=1000, disk_bytes=4 << 20)


@pytest.mark.parametrize("name", NAMES)
class TestRun:
    def test_a_program_reads_and_prints_and_leaves_files(self, name: str) -> None:
        code = """
import os, sys
print(input(), open("given.bin", "rb").read(), file=sys.stderr)
open("made.txt", "w").write("made")
os.mkdir("folder")
open("folder/inner", "w").write("x")
result = "done"
"""
        outcome = backend(name).run(code, SMALL, {"given.bin": b"\x00\xff"}, stdin="line\nmore")
        assert (outcome.ended, outcome.error) == ("finished", "")
        assert outcome.output == "line b'\\x00\\xff'\n"
        assert outcome.files == {"made.txt": b"made"}
        assert outcome.result == b"done"

    def test_ends_are_told_apart(self, name: str) -> None:
        sandbox = backend(name)
        assert sandbox.run("import sys\nsys.exit(3)", SMALL).ended == "exited"
        assert sandbox.run("import sys\nsys.exit()", SMALL).ended == "finished"
        assert sandbox.run("exit()", SMALL).ended == "finished"
        assert sandbox.run("import os\nos._exit(0)", SMALL).ended == "killed"
        assert sandbox.run("while True: pass", SMALL).ended == "time"
        assert sandbox.run("x = bytearray(1 << 29)", SMALL).error.splitlines()[-1] == "MemoryError"

    def test_an_error_is_told_with_its_lines(self, name: str) -> None:
        error = backend(name).run("def f():\n    return 1 / 0\nf()", SMALL).error
        assert error.splitlines()[0] == "Traceback (most recent call last):"
        assert 'File "main.py", line 3' in error
        assert "    return 1 / 0" in error
        assert error.splitlines()[-1] == "ZeroDivisionError: division by zero"
        syntax = backend(name).run("x = (", SMALL)
        assert syntax.ended == "raised"
        assert "SyntaxError" in syntax.error

    def test_long_output_loses_its_middle(self, name: str) -> None:
        output = backend(name).run("print('a' * 1000)\nprint('b' * 1000)\nprint('end')", SMALL).output
        assert output.startswith("a" * 500 + "\n... (1006 bytes cut out) ...\n")
        assert output.endswith("b\nend\n")

    def test_large_files_are_named_but_not_handed_out(self, name: str) -> None:
        limits = SMALL.model_copy(update={"answer_bytes": 1000})
        outcome = backend(name).run("open('a', 'w').write('x' * 900)\nopen('b', 'w').write('y' * 900)", limits)
        assert (set(outcome.files), outcome.left_out) == ({"a"}, ("b",))

    def test_the_disk_is_limited_and_given_back(self, name: str) -> None:
        code = """
import os
def fill():
    with open("big", "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 18))
        except OSError as error:
            print(error.strerror)
fill()
os.remove("big")
fill()
print(os.stat("big").st_size >> 20)
os.remove("big")
"""
        assert backend(name).run(code, SMALL).output.splitlines()[0::2] == ["No space left on device", "4"]

    def test_nothing_stays_for_the_next_run(self, name: str) -> None:
        sandbox = backend(name)
        sandbox.run("open('kept', 'w').write('x')\nimport builtins\nbuiltins.kept = 1", SMALL)
        assert (
            sandbox.run("import os\nprint(os.listdir('.'), 'kept' in dir(__builtins__))", SMALL).output == "[] False\n"
        )

    def test_it_can_sleep(self, name: str) -> None:
        outcome = backend(name).run(
            "import time\nt = time.monotonic()\ntime.sleep(0.2)\nprint(time.monotonic() - t > 0.15)"
        )
        assert outcome.output == "True\n"

    def test_text_of_all_kinds_comes_back(self, name: str) -> None:
        text = "ü\u2028\x00\x1b[1m\U0001f411"
        assert backend(name).run(f"print({text!r})\nresult = {text!r}", SMALL).output == text + "\n"


@pytest.mark.parametrize("name", NAMES)
class TestSession:
    def test_variables_and_files_stay(self, name: str) -> None:
        session = backend(name).session(SMALL)
        assert session.run("x = 20\nopen('f', 'w').write('1')").files == {"f": b"1"}
        second = session.run("def double(): return 2 * x\ndouble() + 2")
        assert (second.output, second.files) == ("42\n", {})
        assert session.run("_").output == "42\n"
        assert session.run("open('f').read(), given", {"given": b""}).error.endswith("'given' is not defined\n")
        assert session.run("open('f').read()").output == "'1'\n"
        session.close()

    def test_an_error_keeps_the_session_and_names_the_call(self, name: str) -> None:
        session = backend(name).session(SMALL)
        session.run("x = 1\ndef fail():\n    raise ValueError('no')")
        error = session.run("fail()").error
        assert '<cell 2>", line 1' in error
        assert session.run("x").output == "1\n"
        session.close()

    def test_a_call_that_breaks_a_limit_ends_the_session(self, name: str) -> None:
        session = backend(name).session(SMALL.model_copy(update={"wall_seconds": 2.0}))
        session.run("x = 1")
        assert session.run("import time\ntime.sleep(60)").ended == "time"
        assert "'x' is not defined" in session.run("x").error
        session.close()


@pytest.mark.parametrize("name", NAMES)
class TestJobs:
    def test_each_job_stands_alone(self, name: str) -> None:
        jobs = backend(name).jobs(SMALL, {"ready": "import json\nvalue = [1]"})
        first = jobs.run(
            "import ready\nready.value.append(x)\nresult = str(ready.value)\nprint(input())", {"x": 2}, "in"
        )
        assert (first.result, first.output) == (b"[1, 2]", "in\n")
        assert jobs.run("import ready\nresult = str(ready.value)").result == b"[1]"
        assert jobs.run("x").ended == "raised"
        jobs.close()

    def test_the_server_outlives_a_job_that_fails(self, name: str) -> None:
        jobs = backend(name).jobs(SMALL)
        assert jobs.run("import os\nos._exit(3)").ended == "killed"
        assert jobs.run("while True: pass").ended == "time"
        assert jobs.run("result = 'x' * (40 << 20)").ended in ("answer", "raised")
        assert jobs.run("result = 'alive'").result == b"alive"
        jobs.close()

    def test_a_job_that_waits_takes_the_server_with_it_and_a_new_one_comes(self, name: str) -> None:
        jobs = backend(name).jobs(SMALL.model_copy(update={"wall_seconds": 2.0}))
        assert jobs.run("import time\ntime.sleep(60)").ended == "time"
        assert jobs.run("result = 'alive'").result == b"alive"
        jobs.close()


def test_output_of_child_processes_is_kept() -> None:
    outcome = backend("bubblewrap").run(
        "import subprocess\nprint('a')\nsubprocess.run(['echo', 'b'])\nprint('c')", SMALL
    )
    assert outcome.output == "a\nb\nc\n"


def test_packages_beside_herdsman_can_be_imported() -> None:
    outcome = backend("bubblewrap").run("import numpy\nprint(numpy.arange(4).sum(), numpy.__file__)", Limits())
    import numpy

    assert outcome.output == f"6 {numpy.__file__}\n", outcome.error
