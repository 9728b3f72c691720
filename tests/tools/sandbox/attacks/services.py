"""Calls that try to reach the calls after them, in a session or a fork server."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

SESSIONS = (
    Attack(
        "session",
        "an answer kept for the next call",
        r"""
import os, sys
for descriptor in range(1, 64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, b"nonce 1\nxended 8\nfinishedoutput 6\nforgedend 0\n")
    except OSError:
        pass
#---
print("held")
""",
        kind="session",
    ),
    Attack(
        "session",
        "it closes all descriptors",
        """
import os
os.closerange(0, 256)
#---
print('held')
""",
        kind="session",
    ),
    Attack(
        "session",
        "it swallows the next request",
        """
import os, threading
def swallow():
    for descriptor in range(64):
        try:
            os.read(descriptor, 1 << 20)
        except OSError:
            pass
for _ in range(4):
    threading.Thread(target=swallow, daemon=True).start()
#---
print("held")
""",
        kind="session",
    ),
    Attack(
        "session",
        "it breaks its interpreter",
        """
import builtins, sys
builtins.print = builtins.compile = builtins.exec = builtins.eval = None
sys.modules.clear()
#---
print("held")
""",
        kind="session",
    ),
    Attack(
        "session",
        "a thread outlives its call",
        """
import threading
def burn():
    while True:
        pass
for _ in range(8):
    threading.Thread(target=burn, daemon=True).start()
#---
print("held")
""",
        kind="session",
    ),
    Attack(
        "session",
        "nothing of a killed session is left",
        """
import os
kept = 1
open('kept', 'w').close()
os._exit(0)
#---
import os
print('BREACH' if 'kept' in globals() or os.path.exists('kept') else 'held')
""",
        kind="session",
    ),
)

TRACES = """
#---
import builtins, glob, json, os
found = [path for folder in ("/tmp", "/work", "/dev/shm", "/var/tmp", ".") for path in glob.glob(folder + "/planted")]
found += [module for module in (builtins, json) if hasattr(module, "planted")]
print("BREACH" if found or "planted" in os.environ else "held", found)
"""
JOBS = (
    Attack(
        "jobs",
        "it leaves files",
        """
for folder in ("/tmp", "/work", "/dev/shm", "/var/tmp", "/", "."):
    try:
        open(folder + "/planted", "w").write("x")
    except OSError:
        pass

"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it changes modules",
        """
import builtins, json, os
builtins.planted = json.planted = 1
os.environ['planted'] = '1'
builtins.print = None
json.dumps = None
"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it leaves a process",
        """
import os
attempt("fork", os.fork)
import threading
attempt("thread", threading.Thread(target=print).start)
import subprocess
attempt("subprocess", lambda: subprocess.run(["sleep", "100"]))
attempt("exec", lambda: os.execv("/usr/bin/true", ["true"]))
""",
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it writes into the server's memory",
        """
import os
parent = os.getppid() if hasattr(os, "getppid") else 1
for name in ("mem", "fd", "maps", "environ"):
    attempt(name, lambda: os.open("/proc/%d/%s" % (parent, name), os.O_RDWR if name == "mem" else os.O_RDONLY))
""",
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it kills the server",
        """
import os
for number in (9, 19, 15):
    attempt('kill', lambda: os.kill(os.getppid(), number))
    attempt('all', lambda: os.kill(-1, number))
"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it starves the server",
        """
import os, resource
parent = os.getppid() if hasattr(os, "getppid") else 1
attempt("prlimit", lambda: resource.prlimit(parent, resource.RLIMIT_NOFILE, (0, 0)))
attempt("priority", lambda: os.setpriority(os.PRIO_PROCESS, parent, 19))
attempt("affinity", lambda: os.sched_setaffinity(parent, {0}))

"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it takes the next request",
        """
import os
for descriptor in range(64):
    try:
        os.set_blocking(descriptor, False)
        print("BREACH" if b"nonce" in os.read(descriptor, 1 << 20) else "held")
    except (OSError, TypeError):
        pass

"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it answers for the next job",
        r"""
import os
for descriptor in range(64):
    try:
        os.set_blocking(descriptor, False)
        os.write(descriptor, b"nonce 1\nxended 8\nfinishedoutput 6\nforgedend 0\n" * 3)
    except OSError:
        pass

"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it runs on",
        """
while True:
    pass
"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it sleeps on",
        """
import time
time.sleep(10000)
"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "it eats memory",
        """
x = [bytearray(1 << 20) for _ in range(10000)]
"""
        + TRACES,
        kind="jobs",
    ),
    Attack(
        "jobs",
        "requests that came before",
        """
import gc
before = "a secret of the job before: " + "5f3c" * 3
#---
import gc, sys
needle = "5f3c" * 3
found = [
    text for known in gc.get_objects() if isinstance(known, dict) for text in list(known.values())
    if isinstance(text, str) and needle in text and len(text) > len(needle)
]
print("BREACH" if found else "held")
""",
        kind="jobs",
    ),
)
