"""Ranks die with the agent that started them: orphans would train on beside the ranks of the next start."""

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
    """Ends this process when its parent dies. To be called first thing in a rank's process, before slow imports.

    Linux kills it at that moment; elsewhere a thread looks every second. An agent that died even before this call is
    noticed by its number, which the launcher passes on.
    """
    agent = int(os.environ.get(AGENT, os.getppid()))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    else:
        threading.Thread(target=_look, args=(agent,), daemon=True, name="parent").start()
    if os.getppid() != agent:
        os._exit(1)


def _look(agent: int) -> None:
    while os.getppid() == agent:
        time.sleep(LOOK_SECONDS)
    os._exit(1)
