"""The sandbox of choice: Linux namespaces through bubblewrap, a seccomp filter, and the kernel's own limits."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from herdsman.errors import MachineError
from herdsman.tools.sandbox.contained import Command, Contained
from herdsman.tools.sandbox.interpreter import NOBODY, interpreter
from herdsman.tools.sandbox.options import Limits
from herdsman.tools.sandbox.sandbox import Sandbox
from herdsman.tools.sandbox.seccomp import filter_program

SCRATCH_BYTES = 40 << 20  # of /tmp, which holds what is printed and what libraries put aside
FILE_BYTES = 32 << 20  # the largest file of /tmp
OPEN_FILES = 128
JOB_PROCESSES = 0  # that a job may start
ENVIRONMENT = {
    "PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1",
    "MPLBACKEND": "agg", "MPLCONFIGDIR": "/tmp",
}  # fmt: skip


class Bubblewrap(Sandbox):
    """Python and packages as they are on this machine, in a file system of their own without anything else of it."""

    name = "bubblewrap"

    def __init__(self) -> None:
        """Raises MachineError if bubblewrap is not installed, or there is no filter for this machine."""
        program = shutil.which("bwrap")
        if program is None:
            raise MachineError("bubblewrap is not installed", do="install it, as with: apt install bubblewrap")
        try:
            self._filter, self._job_filter = filter_program(), filter_program(job=True)
        except KeyError as error:
            raise MachineError(f"there is no list of system calls for a machine of kind {error}") from None
        self._program, self._python = program, interpreter()
        self._environment = {"PATH": ENVIRONMENT["PATH"]}  # of bwrap itself; it can show in /proc
        self.note = self._python.note

    def start(
        self, limits: Limits, *, jobs: bool = False, modules: Mapping[str, str] | None = None, cpu_limited: bool = False
    ) -> Contained:
        python = self._python
        arguments = [*self._arguments(limits, jobs), "--seccomp", "{0}", "--"]
        arguments += [python.executable, "-I", "-S", "-B", "-c", _program_text()]
        cpu = {"CPU": limits.cpu_seconds}
        settings = {
            "limits": {
                "AS": limits.memory_bytes, "NPROC": limits.processes, "NOFILE": OPEN_FILES, "CORE": 0,
                "FSIZE": max(FILE_BYTES, limits.disk_bytes), **(cpu if cpu_limited else {}),
            },
            "paths": list(python.paths),
            "modules": dict(modules or {}),
            "jobs": {**cpu, "NPROC": JOB_PROCESSES} if jobs else None,
            "filter": self._job_filter if jobs else b"",
        }  # fmt: skip
        command = Command(
            arguments,
            self._environment,
            [self._filter],
            python.descriptors,
            () if jobs else ("/tmp", "/work"),
        )
        return Contained(command, settings, limits)

    def _arguments(self, limits: Limits, jobs: bool) -> list[str]:
        """What bwrap shows of this machine, and what it takes away."""
        python = self._python
        arguments = [
            *python.entry, self._program,
            "--unshare-all", "--unshare-user", "--uid", str(NOBODY), "--gid", str(NOBODY), "--disable-userns",
            "--die-with-parent", "--new-session", "--clearenv",
        ]  # fmt: skip
        for name, value in ENVIRONMENT.items():
            arguments += ["--setenv", name, value]
        arguments += [*_system(), "--dev", "/dev", "--remount-ro", "/dev"]
        if not jobs:
            arguments += ["--proc", "/proc", "--size", str(SCRATCH_BYTES), "--tmpfs", "/tmp"]
            arguments += ["--size", str(limits.disk_bytes), "--tmpfs", "/work"]
        for folder in python.folders:
            arguments += ["--ro-bind", folder, folder]
        arguments += ["--remount-ro", "/", "--chdir", "/" if jobs else "/work"]
        return arguments


@cache
def _program_text() -> str:
    return (files(__package__) / "inside.py").read_text(encoding="utf-8")


@cache
def _system() -> tuple[str, ...]:
    """Shows /usr, and the folders beside it that belong to it, as links or folders as on the host."""
    arguments = ["--ro-bind", "/usr", "/usr"]
    for name in ("/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        folder = Path(name)
        if folder.is_symlink():
            arguments += ["--symlink", str(folder.readlink()), name]
        elif folder.is_dir():
            arguments += ["--ro-bind", name, name]
    for name in ("/etc/alternatives", "/etc/fonts", "/etc/ld.so.cache"):  # without which parts of /usr do not work
        arguments += ["--ro-bind-try", name, name]
    return tuple(arguments)
