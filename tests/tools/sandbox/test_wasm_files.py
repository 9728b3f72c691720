"""The guest's folder against a real one: the same operations give the same results, and its limits hold."""

from __future__ import annotations

import os
import random
from pathlib import Path

from herdsman.tools.sandbox.wasm_files import FAULT, Files, Refusal
from tests.tools.sandbox.backends import backend

# What any Python does with a folder; run inside the guest and here, in an empty folder.
PROGRAM = """
import os, random
draw = random.Random(7)
log = []
names = ["a", "b", "d/x", "d/y", "d", "e", "e/z", "."]
for _ in range(600):
    name, other = draw.choice(names), draw.choice(names)
    action = draw.choice("write append read middle truncate remove mkdir rmdir rename list stat excl".split())
    try:
        if action in ("write", "append", "excl"):
            with open(name, {"write": "wb", "append": "ab", "excl": "xb"}[action]) as file:
                answer = file.write(bytes([draw.randrange(256)]) * draw.randrange(3000)), file.tell()
        elif action == "read":
            with open(name, "rb") as file:
                answer = hash(file.read(draw.randrange(4000))) % 1 or file.seek(0, 2)
        elif action == "middle":
            with open(name, "r+b") as file:
                file.seek(draw.randrange(2000))
                file.write(b"middle")
                file.seek(-3, 1)
                answer = file.read()[:20]
        elif action == "truncate":
            answer = os.truncate(name, draw.randrange(3000))
        elif action == "remove":
            answer = os.remove(name)
        elif action == "mkdir":
            answer = os.mkdir(name)
        elif action == "rmdir":
            answer = os.rmdir(name) if name != "." else None
        elif action == "rename":
            answer = os.rename(name, other) if "." not in (name, other) else None
        elif action == "list":
            answer = sorted(os.listdir(name))
        else:
            answer = os.path.isdir(name), os.path.exists(name) and not os.path.isdir(name) and os.stat(name).st_size
    except OSError as error:
        answer = "refused"
    log.append((action, name, other, answer))
result = repr(log)
"""


def test_it_is_a_folder_like_any_other(tmp_path: Path) -> None:
    outcome = backend("wasm").run(PROGRAM)
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        here: dict[str, str] = {}
        exec(PROGRAM, here)
    finally:
        os.chdir(before)
    assert outcome.result is not None, outcome.error
    ours, theirs = eval(outcome.result), eval(here["result"])
    assert [pair for pair in zip(ours, theirs, strict=True) if pair[0] != pair[1]] == []
    assert sum(answer != "refused" for *_, answer in ours) > 100


class Memory:
    """A guest's memory of 64 KiB."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 16)

    def read(self, at: int, length: int) -> bytes:
        self._check(at, length)
        return bytes(self.bytes[at : at + length])

    def write(self, at: int, data: bytes) -> None:
        self._check(at, len(data))
        self.bytes[at : at + len(data)] = data

    def _check(self, at: int, length: int) -> None:
        if at < 0 or length < 0 or at + length > len(self.bytes):
            raise Refusal(FAULT)


def test_calls_with_arguments_at_random_do_no_more_than_refuse() -> None:
    draw = random.Random(3)
    files, memory = Files(10_000, 20), Memory()
    memory.write(100, b"d/../e")
    calls = list(files.calls().values())
    counts = {call: call.__code__.co_argcount - 2 for call in calls}  # type: ignore[attr-defined]
    ended = 0
    for _ in range(20_000):
        call = draw.choice(calls)
        arguments = [draw.choice([0, 1, 2, 3, 4, 5, 6, 100, 200, 9, 1 << 31, -1]) for _ in range(counts[call])]
        try:
            call(memory, *arguments)
        except Refusal:
            continue
        ended += 1
        assert 0 <= files.bytes_left <= 10_000
        assert 0 <= files.files_left <= 20
    assert ended > 500
