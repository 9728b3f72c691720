"""Programs that try to break out of a sandbox, as data: what each tries, and what must hold.

They are run in the sandbox alone, to find out whether it holds on this machine: a few by `herdsman doctor` and before
a sandbox is first used (`canaries.py`), many more in the tests. What must hold after every one of them, see `siege.py`:
the secret is not told, nothing outside is changed, reached or left running, and the next call works.

In the programs `$name` is bait that the siege lays out: `$secret` a file anyone may read, `$folder` a folder anyone
may write to, `$port` a listener of the host, `$abstract` a Unix socket, `$pid` a process of the sandbox's own user,
`$processes` and `$disk` the limits, `$expected` a value that only the judge knows. `attempt(title, action)` reports a
breach if the action succeeds; a program may also print a line with BREACH itself. Parts that are called one after
another in the same session or server are divided by a line `#---`.
"""

from __future__ import annotations

from dataclasses import dataclass

ANY = ("finished", "raised", "exited", "time", "memory", "files", "answer", "killed", "form")


@dataclass(frozen=True)
class Attack:
    """One program.

    Attributes:
        group: what it is aimed at.
        kind: how it is run: "run", "session", "jobs", or as a candidate before the judge, "values" or "tests", which
            it must not pass.
        ended: how the last part may end.
    """

    group: str
    name: str
    code: str
    kind: str = "run"
    ended: tuple[str, ...] = ANY


PRELUDE = '''
def attempt(title, action):
    try:
        found = action()
    except BaseException as error:
        print("held:", title, type(error).__name__)
    else:
        raise SystemExit("BREACH: %s %.200r" % (title, found))

def system(name, *arguments):
    """A call of the C library that must fail."""
    import ctypes
    def action():
        libc = ctypes.CDLL(None, use_errno=True)
        if getattr(libc, name)(*arguments) == -1:
            raise OSError(ctypes.get_errno(), name)
    attempt(name, action)

def raw(number, *arguments):
    """A system call by number, of this machine's table or both tables', that must fail."""
    import ctypes, platform
    def action():
        numbers = number if isinstance(number, tuple) else (number, number)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syscall(numbers[platform.machine() != "x86_64"], *arguments) == -1:
            raise OSError(ctypes.get_errno(), "refused")
    attempt("system call %s" % (number,), action)
'''
