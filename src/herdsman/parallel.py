"""Ordered work on several processes: results come in the order of the items, whatever finishes first."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from herdsman.errors import MachineError

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _die_with_parent(parent: int) -> None:
    """Worker start-up: no orphans when the parent is killed, and Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None
) -> Iterator[Result]:
    """Applies a module-level function to each item and yields the results in order.

    At most two items per worker are under way, so memory does not grow with the length of `items`.

    Raises:
        MachineError: a worker process died, as it does when memory runs out.
    """
    workers = workers or available_cores()
    if workers == 1:
        yield from map(function, items)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _die_with_parent, (os.getpid(),)) as pool:
        pending: deque[Future[Result]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) >= 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise MachineError(
                "a worker process died, most likely because memory ran out",
                do="close other programs or set machine.workers = 1, then run again: finished work is kept",
            ) from error
        except BaseException:
            # Ctrl-C, or a failure here or in a worker: nobody waits for what the others are doing.
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise
