"""What comes out of a sandbox is bounded, and never trusted to be an answer."""

from __future__ import annotations

import random
import threading
import time

import pytest

from herdsman.tools.sandbox.contained import HEADER_BYTES, MOST_FIELDS, Stopped, read_fields
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.watch import processes_under
from tests.tools.sandbox.backends import NAMES, backend


def test_fields_are_read_as_they_were_sent() -> None:
    data = b"nonce 2\nabfile:x 3\n\n0\nend 0\n"
    assert read_fields(data) == ({"nonce": b"ab", "file:x": b"\n0\n"}, len(data))
    assert read_fields(data + b"more") == ({"nonce": b"ab", "file:x": b"\n0\n"}, len(data))
    for length in range(len(data)):
        assert read_fields(data[:length]) == ({}, 0)


@pytest.mark.parametrize(
    "data",
    [
        b"x" * HEADER_BYTES,
        b"x" * (HEADER_BYTES + 1) + b" 1\n",
        b"name\n",
        b"name -1\n",
        b"name 1.5\n",
        b"name 99999999999999\n",
        "name \u0663\n".encode(),
        b"a 0\n" * (MOST_FIELDS + 1),
    ],
)
def test_what_is_not_an_answer_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(ValueError, match="field"):
        read_fields(data)


def test_random_bytes_are_no_answer() -> None:
    draw = random.Random(1)
    for _ in range(3000):
        data = bytes(draw.choice(b"end 0123456789\n\xff -") for _ in range(draw.randrange(60)))
        try:
            fields, length = read_fields(data)
        except ValueError:
            continue
        assert length <= len(data)
        assert length or not fields


@pytest.mark.parametrize("name", NAMES)
def test_closing_ends_every_process(name: str) -> None:
    contained = backend(name).start(Limits())
    daemon = """
import os, time
if hasattr(os, "fork"):
    for _ in range(2):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            os._exit(0)
"""
    contained.call({"code": daemon})
    processes = processes_under(contained.process)
    assert len(processes) >= (5 if name == "bubblewrap" else 1)
    contained.close()
    contained.close()
    deadline = time.monotonic() + 10
    while any(alive(process) for process in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [process for process in processes if alive(process)]
    with pytest.raises(Stopped):
        contained.call({"code": "1"})


def alive(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("name", NAMES)
def test_a_sandbox_outlives_the_thread_that_asked_for_it(name: str) -> None:
    """The kernel ends a sandbox with the thread that started it, and servers' threads come and go."""
    session = backend(name).session(Limits())
    thread = threading.Thread(target=lambda: session.run("x = 41"))
    thread.start()
    thread.join()
    time.sleep(0.1)
    assert session.run("x + 1").output == "42\n"
    session.close()
