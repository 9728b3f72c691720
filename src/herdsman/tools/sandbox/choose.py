"""Which sandbox this machine can have, found out by attacking it; and what `herdsman doctor` says of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from herdsman.cluster.doctor import Finding
from herdsman.errors import HerdsmanError, InputError, MachineError
from herdsman.progress import SILENT, Progress
from herdsman.tools.sandbox.bubblewrap import Bubblewrap
from herdsman.tools.sandbox.canaries import CANARIES
from herdsman.tools.sandbox.sandbox import Sandbox
from herdsman.tools.sandbox.siege import holds
from herdsman.tools.sandbox.wasm import Wasm, ready

NAMES = ("bubblewrap", "wasm")  # in the order in which they are preferred
APPARMOR = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
CLONE = Path("/proc/sys/kernel/unprivileged_userns_clone")
MOST_NAMESPACES = Path("/proc/sys/user/max_user_namespaces")
CONTAINER_MARKS = (Path("/.dockerenv"), Path("/run/.containerenv"))
# What bubblewrap says where the kernel, or what guards it, refuses namespaces or what it does in them.
REFUSALS = ("namespace", "uid map", "gid map", "RTM_NEW", "pivot_root", "mount", "slave", "not permitted")
_TRIED: dict[tuple[str, int], tuple[Sandbox | None, str]] = {}


def choose(name: str = "auto", progress: Progress = SILENT) -> Sandbox:
    """A sandbox that holds the canaries on this machine; found out once in a process.

    Args:
        name: "bubblewrap", "wasm", or "auto" for the first of them that holds.

    Raises:
        InputError: there is no sandbox of this name.
        MachineError: none holds here; model-written code cannot be run.
    """
    if name != "auto" and name not in NAMES:
        raise InputError(f"{name!r} is not a sandbox", do=f"choose one of: auto, {', '.join(NAMES)}")
    problems = []
    for candidate in NAMES if name == "auto" else (name,):
        sandbox, problem = _tried(candidate, progress)
        if sandbox is not None:
            return sandbox
        problems.append(f"{candidate}: {problem}")
    raise MachineError(
        f"no sandbox holds here ({'; '.join(problems)})",
        do="install bubblewrap, or pip install 'herdsman[wasm]', and ask herdsman doctor",
    )


def _tried(name: str, progress: Progress) -> tuple[Sandbox | None, str]:
    """The sandbox if it holds, else what keeps it from that; tried once in a process."""
    makers: dict[str, Callable[[], Sandbox]] = {"bubblewrap": Bubblewrap, "wasm": lambda: Wasm(progress)}
    if (name, os.getpid()) not in _TRIED:
        try:
            sandbox = makers[name]()
        except HerdsmanError as error:
            _TRIED[name, os.getpid()] = None, str(error)
        else:
            problem = holds(sandbox, CANARIES)
            _TRIED[name, os.getpid()] = (None, explained(problem)) if problem else (sandbox, "")
    return _TRIED[name, os.getpid()]


def explained(problem: str) -> str:
    """What a sandbox said, with its usual cause on a machine such as this."""
    if not any(part in problem for part in REFUSALS):
        return problem
    if _setting(APPARMOR) == "1" and os.getuid() != 0:
        cause = "Ubuntu's AppArmor keeps programs from making user namespaces; give bwrap a profile that allows it"
    elif _setting(CLONE) == "0" or _setting(MOST_NAMESPACES) == "0":
        cause = "a sysctl refuses user namespaces: kernel.unprivileged_userns_clone or user.max_user_namespaces"
    elif any(mark.exists() for mark in CONTAINER_MARKS):
        cause = "the rules of this container refuse namespaces; start it with --security-opt seccomp=unconfined"
    else:
        cause = "the kernel, or a container's rules, refuse namespaces"
    return f"{cause} ({problem})"


def _setting(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def findings() -> Iterator[Finding]:
    """For `herdsman doctor`: what each sandbox holds on this machine."""
    working = 0
    for name in NAMES:
        if name == "wasm" and working and not ready():
            yield Finding("sandbox wasm", "ok", "not needed here, and not fetched (10 MB, compiled in 20 s)")
            continue
        sandbox, problem = _tried(name, SILENT)
        if sandbox is None:
            yield Finding(f"sandbox {name}", "note", problem)
        else:
            working += 1
            note = f"; {sandbox.note}" if sandbox.note else ""
            yield Finding(f"sandbox {name}", "ok", f"holds {len(CANARIES)} of {len(CANARIES)} attacks{note}")
    if not working:
        yield Finding("sandbox", "note", "none holds here: code that a model wrote is not run")
