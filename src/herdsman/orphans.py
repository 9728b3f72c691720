"""Processes die with the one that started them: orphans would work on beside those of the next start."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

AGENT = "HERDSMAN_AGENT_PID"  # set by cluster/launch.py
PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 1.0


def die_with_agent() -> None:
    """Ends this rank when its agent dies. To be called first thing in its process, before slow imports."""
    die_with(int(os.environ.get(AGENT, os.getppid())))


def die_with(parent: int) -> None:
    """Ends this process when its parent dies.

    Linux kills it at that moment; elsewhere a thread looks every second. A parent that died even before this call is
    noticed by its number.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_look, args=(parent,), daemon=True, name="parent").start()
    if os.getppid() != parent:
        os._exit(1)


def _look(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
