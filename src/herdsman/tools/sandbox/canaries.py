"""The few attacks that `herdsman doctor` tries, and that are tried before a sandbox is first used."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

CANARIES = (
    Attack(
        "files",
        "read a file of the host",
        """
attempt("read", lambda: open("$secret").read())
""",
    ),
    Attack(
        "files",
        "passwords",
        """
for name in ("/etc/passwd", "/etc/shadow", "/root/.ssh/id_rsa"):
    attempt(name, lambda: open(name).read())
""",
    ),
    Attack(
        "files",
        "through the root of process 1",
        """
attempt("root", lambda: open("/proc/1/root$secret").read())
""",
    ),
    Attack(
        "files",
        "write in a folder of the host",
        """
attempt("write", lambda: open("$folder/planted", "w"))
""",
    ),
    Attack(
        "network",
        "a listener of the host",
        """
import socket
attempt("connect", lambda: socket.create_connection(("127.0.0.1", $port), 1))
""",
    ),
    Attack(
        "network",
        "an abstract socket of the host",
        r"""
import socket
attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("\0$abstract"))
""",
    ),
    Attack(
        "processes",
        "see the host's",
        """
import os
if os.path.isdir("/proc/1"):
    for process in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                print(open("/proc/%s/%s" % (process, name), errors="replace").read())
            except OSError as error:
                print(error)
""",
    ),
    Attack(
        "processes",
        "fork bomb",
        """
import os, time
count = 0
try:
    while count < 4000:
        if os.fork() == 0:
            time.sleep(30)
            os._exit(0)
        count += 1
except OSError as error:
    print(error)
print("BREACH" if count > $processes else "held", count)
""",
    ),
    Attack(
        "kernel",
        "a user namespace",
        """
for kind in (0x10000000, 0x20000, 0x40000000, 0x4000000, 0x8000000, 0x2000000):
    system('unshare', kind)
""",
    ),
    Attack(
        "memory",
        "four gigabytes",
        """
attempt("allocate", lambda: len(bytes(4 << 30)))
""",
    ),
)
