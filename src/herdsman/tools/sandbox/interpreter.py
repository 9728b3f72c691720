"""Which Python runs inside bubblewrap, and how an ordinary user comes to reach it.

The Python that runs Herdsman is wanted, for the packages beside it. Root's sandboxes run as nobody (the kernel does not
limit root's processes), and nobody cannot pass through a home folder such as /root. Then a private view of the file
system is made once, in which the closed folder is empty but for the interpreter; sandboxes start from there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

NOBODY = 65534
SYSTEM_PYTHON, SYSTEM_PACKAGES = "/usr/bin/python3", "/usr/lib/python3/dist-packages"

# Runs as root: leaves the host's mounts as they are, and holds its own until its standard input ends. The folders are
# opened before an empty file system covers what stands above them.
_VIEW = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
closed, folders = (part.split(os.pathsep) for part in sys.argv[1:3])
MS_BIND, MS_REC, MS_PRIVATE, CLONE_NEWNS = 4096, 16384, 1 << 18, 0x20000
os.umask(0o22)
check(libc.unshare(CLONE_NEWNS))
check(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None))
opened = [(folder, os.open(folder, os.O_PATH)) for folder in folders]
for folder in closed:
    check(libc.mount(b"none", os.fsencode(folder), b"tmpfs", 0, b"mode=755,size=1m"))
for folder, descriptor in opened:
    os.makedirs(folder, exist_ok=True)
    check(libc.mount(b"/proc/self/fd/%d" % descriptor, os.fsencode(folder), None, MS_BIND | MS_REC, None))
print("ready", flush=True)
sys.stdin.read()
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python for the sandbox.

    Attributes:
        folders: to show in the sandbox, read-only, under the names they have here; what lies in /usr is shown anyway.
        paths: folders of packages.
        entry: arguments that come before the sandbox's own, to start it as nobody, from the private view if need be.
        descriptors: that `entry` needs.
        note: what the user should know, such as why it is not the Python that runs Herdsman.
    """

    executable: str
    folders: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    entry: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    note: str = ""


def interpreter() -> Interpreter:
    """The Python that runs Herdsman, if the sandbox's user can be made to reach it; else the system's."""
    return _interpreter(os.getpid(), os.getuid())


@cache
def _interpreter(process: int, user: int) -> Interpreter:
    folders, paths = _own_folders()
    if user != 0:
        return Interpreter(sys.executable, folders, paths)
    try:
        entry, descriptors = as_nobody(folders)
    except OSError as error:
        note = f"it runs {SYSTEM_PYTHON}: {sys.prefix} is closed to others, and a private view of it fails ({error})"
        return Interpreter(SYSTEM_PYTHON, (), (SYSTEM_PACKAGES,), as_nobody(())[0], (), note)
    note = (
        f"{sys.prefix} is closed to others, and shown through a private view of the file system" if descriptors else ""
    )
    return Interpreter(sys.executable, folders, paths, entry, descriptors, note)


def as_nobody(folders: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Arguments to put before a command of root's, so that it runs as nobody and can reach these folders; and the
    descriptors that they need.

    Raises:
        OSError: a folder is closed to others and the kernel refuses a private view of it, as in a container that may
            not mount.
    """
    closed = closed_folders(folders)
    if not closed:
        setpriv = shutil.which("setpriv") or "setpriv"
        return (setpriv, f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--"), ()
    view = _private_view(closed, folders)
    nsenter = shutil.which("nsenter") or "nsenter"
    enter = (nsenter, f"--mount=/proc/self/fd/{view}", f"--setuid={NOBODY}", f"--setgid={NOBODY}", "--")
    return enter, (view,)


def _own_folders() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the running Python needs to see, without what lies in /usr or in another of them; and its packages."""
    packages = dict.fromkeys([sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    real = Path(sys.executable).resolve().parent.parent
    wanted = dict.fromkeys([sys.base_prefix, sys.prefix, sys.base_exec_prefix, str(real), *packages])
    folders: list[str] = []
    for folder in sorted(wanted, key=len):
        if not any(Path(folder).is_relative_to(known) for known in ("/usr", *folders)):
            folders.append(folder)
    return tuple(folders), tuple(packages)


def closed_folders(folders: tuple[str, ...]) -> list[str]:
    """The outermost folders on the way to these that others may not pass through."""
    closed: dict[str, None] = {}
    for folder in folders:
        for parent in reversed(Path(folder).parents):
            if not parent.stat().st_mode & 0o001:
                closed[str(parent)] = None
                break
    return list(closed)


def _private_view(closed: list[str], folders: tuple[str, ...]) -> int:
    """A descriptor of a mount namespace in which the folders can be reached; it lives as long as that is open.

    Raises:
        OSError: the kernel refuses, as in a container without the right to mount.
    """
    inside = [folder for folder in folders if any(Path(folder).is_relative_to(parent) for parent in closed)]
    helper = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _VIEW, os.pathsep.join(closed), os.pathsep.join(inside)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert helper.stdin
    assert helper.stdout
    assert helper.stderr
    with helper.stdin, helper.stdout, helper.stderr:
        if helper.stdout.readline().strip() != "ready":
            raise OSError((helper.stderr.read().strip().splitlines() or ["it says nothing"])[-1])
        view = os.open(f"/proc/{helper.pid}/ns/mnt", os.O_RDONLY)
    helper.wait()
    return view
