"""Programs that do not end, or do not stop talking."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

TIME = (
    Attack(
        "time",
        "a loop",
        """
while True:
    pass
""",
        ended=(
            "time",
            "killed",
        ),
    ),
    Attack(
        "time",
        "a loop that refuses to be told",
        """
import signal
for number in range(1, 65):
    try:
        signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError):
        pass
while True:
    pass
""",
        ended=(
            "time",
            "killed",
        ),
    ),
    Attack(
        "time",
        "a long sleep",
        """
import time
time.sleep(1000000)
""",
        ended=("time",),
    ),
    Attack(
        "time",
        "it stops itself",
        """
import os
os.kill(os.getpid(), 19)
""",
        ended=(
            "time",
            "raised",
        ),
    ),
    Attack(
        "time",
        "a number without end",
        """
x = 9 ** 9 ** 9
""",
        ended=(
            "time",
            "killed",
            "raised",
            "memory",
        ),
    ),
    Attack(
        "time",
        "a pattern without end",
        """
import re
re.match("(a+)+$", "a" * 64 + "b")
""",
        ended=(
            "time",
            "killed",
        ),
    ),
    Attack(
        "time",
        "an exception that catches its end",
        """
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
        ended=(
            "time",
            "killed",
        ),
    ),
)

OUTPUT = (
    Attack(
        "output",
        "a flood",
        """
while True:
    print('x' * 100000)
""",
        ended=(
            "time",
            "killed",
            "raised",
        ),
    ),
    Attack(
        "output",
        "a flood past Python",
        """
import os
while True:
    os.write(2, bytes(100000))
    os.write(1, bytes(100000))
""",
    ),
    Attack(
        "output",
        "a flood from a child",
        """
import subprocess
subprocess.run(['yes'])
""",
    ),
    Attack(
        "output",
        "a flood into every descriptor",
        r"""
import os
for descriptor in range(3, 64):
    try:
        os.set_blocking(descriptor, False)
        for _ in range(1000):
            os.write(descriptor, b"end 0\n" * 10000)
    except OSError:
        pass
""",
    ),
    Attack(
        "output",
        "a result too large",
        """
result = 'x' * (30 << 20)
""",
        ended=(
            "answer",
            "finished",
            "raised",
            "killed",
        ),
    ),
    Attack(
        "output",
        "an error too large",
        """
raise ValueError('x' * (20 << 20))
""",
    ),
    Attack(
        "output",
        "an error that lies",
        """
class Error(Exception):
    def __str__(self):
        raise SystemExit(0)
raise Error
""",
    ),
    Attack(
        "output",
        "not text",
        r"""
import sys
print('\ud800\x00\x1b]0;title\x07')
sys.stdout.write('\udcff')
""",
    ),
    Attack(
        "output",
        "broken lengths",
        r"""
import os
for descriptor in range(1, 64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, b"output 99999999999999999999\n" + b"file:../x -5\nend 0\n")
    except OSError:
        pass
""",
    ),
    Attack(
        "output",
        "an answer of its own with files for elsewhere",
        r"""
import os, sys
frame = sys._getframe()
while frame:
    for request in list(frame.f_locals.values()):
        if isinstance(request, dict) and "nonce" in request:
            nonce = request["nonce"]
            for name in ("../../../../../..$folder/planted", "$folder/planted", "..", "a/b"):
                answer = b""
                for key, value in (("nonce", nonce), ("ended", "finished"), ("file:" + name, "x"), ("end", "")):
                    answer += b"%s %d\n%s" % (key.encode(), len(value), value.encode())
                for descriptor in range(1, 64):
                    try:
                        os.set_blocking(descriptor, False)
                        os.write(descriptor, answer)
                    except OSError:
                        pass
    frame = frame.f_back
""",
    ),
    Attack(
        "output",
        "a pickle for whoever loads it",
        """
import os, pickle
class Payload:
    def __reduce__(self):
        return eval, ("open('$folder/planted', 'w')",)
result = pickle.dumps(Payload())
open("data.pkl", "wb").write(result)
""",
    ),
)
