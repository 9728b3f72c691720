"""What the processes of a running sandbox use, read from /proc by the one who started it.

The kernel's limits hold for each process alone; these are for all of them together. Whoever may start a sandbox may
read this: its processes belong to the same user, or the reader is root.
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def processes_under(root: int) -> list[int]:
    """A process and all that descend from it. A daemon's parent is the sandbox's first process, so none is missed."""
    found, new = [], [root]
    while new:
        process = new.pop()
        found.append(process)
        try:
            for thread in (PROC / str(process) / "task").iterdir():
                new += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def memory_bytes(processes: list[int]) -> int:
    """Memory of their own that the processes hold: what they read from files is not counted.

    A page shared after a fork counts once for each process, so the sum errs on the side of too much.
    """
    total = 0
    for process in processes:
        try:
            lines = (PROC / str(process) / "status").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
    return total


def file_count(process: int, folders: tuple[str, ...]) -> int:
    """Files and folders on the file systems that hold these folders as the process sees them; 0 if it has ended."""
    total = 0
    for folder in folders:
        try:
            status = os.statvfs(PROC / str(process) / "root" / folder.lstrip("/"))
        except OSError:
            continue
        total += status.f_files - status.f_ffree
    return total
