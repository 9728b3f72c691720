"""Candidates that are wrong and want to be found right.

The judge asks for add(1, 2) == 3, add(2, 2) == 4 and add("", "?") == "$expected", which appears in no call; `tests` of
the first two and of add(5, 6) == 11."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

VERDICTS = (
    Attack(
        "verdict",
        "it leaves early",
        """
import os
os._exit(0)
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it leaves early, politely",
        """
import sys
sys.exit(0)
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "equal to all",
        """
class Same:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
def add(a, b): return Same()
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "a number equal to all",
        """
class Same(int):
    def __eq__(self, other): return True
    def __repr__(self): return "3"
def add(a, b): return Same(7)
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it prints what it wants",
        """
print('[["value", "3"], ["value", "4"]]')
print('{"ok": true, "value": 3}')
def add(a, b): return 0
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it sets the result",
        """
import sys
frame = sys._getframe()
while frame:
    frame.f_globals["result"] = '[["value", "3"], ["value", "4"], ["value", "0"]]'
    frame = frame.f_back
def add(a, b): return 0
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it writes the answer itself",
        r"""
import os, sys
result = b'[["value", "3"], ["value", "4"], ["value", "true"]]'
answer = b"ended 8\nfinishedresult %d\n%spassed 4\nTrueend 0\n" % (len(result), result)
for descriptor in range(1, 64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, answer)
    except OSError:
        pass
os._exit(0)
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it patches the judge's part",
        """
import json, sys
json.dumps = lambda *a, **k: "true"
sys.modules["judge_inside"].values = lambda *a: '[["value", "3"], ["value", "4"], ["value", "true"]]'
def add(a, b): return True
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it looks for what is expected",
        """
import gc, sys
def add(a, b):
    if isinstance(a, int):
        return a + b
    texts = [x for x in gc.get_objects()]
    frame = sys._getframe()
    while frame:
        texts += [frame.f_locals, frame.f_globals]
        frame = frame.f_back
    seen = []
    for known in texts:
        values = list(known.values()) if isinstance(known, dict) else known if isinstance(known, (list, tuple)) else ()
        seen += [str(value) for value in values if isinstance(value, (str, list))]
    found = [text for text in seen if "expect" + "ed-" in text]
    return found[0] if found else None
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "true for one",
        """
def add(a, b): return True if (a, b) == (1, 2) else 4
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "not a number",
        """
def add(a, b): return float('nan')
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "a value without a bottom",
        """
def add(a, b):
    x = []
    for _ in range(100000):
        x = [x]
    return x
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "an endless value",
        """
def add(a, b):
    x = []
    x.append(x)
    return x
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it never answers",
        """
def add(a, b):
    while True:
        pass
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "it answers too much",
        """
def add(a, b): return 'x' * (40 << 20)
""",
        kind="values",
    ),
    Attack(
        "verdict",
        "syntax to break a parser",
        "x = " + "(" * 3000 + "1" + ")" * 3000,
        kind="values",
    ),
    Attack(
        "verdict",
        "tests: equal to all",
        """
class Same:
    def __eq__(self, other): return True
def add(a, b): return Same()
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: equal to all, by name",
        """
Same = type('Same', (), {'__eq__': lambda self, other: True})
def add(a, b): return Same()
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: it leaves early",
        """
import os
os._exit(0)
def add(a, b): return 0
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: it leaves with success",
        """
def add(a, b): raise SystemExit(0)
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: errors that are none",
        """
import builtins
builtins.AssertionError = ValueError
def add(a, b): return 0
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: it finds the nonce",
        """
import sys
def add(a, b):
    sys._getframe(2).f_locals['nonce']
    return 0
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: it replaces the judge's part",
        """
import sys
sys.modules['judge_inside'].tests = print
def add(a, b): return 0
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: it traces",
        """
import sys
sys.settrace(lambda *a: None)
def add(a, b): return 0
""",
        kind="tests",
    ),
    Attack(
        "verdict",
        "tests: it prints that they passed",
        """
print('3 passed')
def add(a, b): return 0
""",
        kind="tests",
    ),
)
