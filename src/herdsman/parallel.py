"""Ordered work on several processes or a Ray cluster: results come in the order of the items, whatever ends first.

Both engines run the same functions on the same items. These name files, so little travels between processes, and on a
cluster every node must see the same files under the same paths.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import socket
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal, TypeVar

from herdsman.errors import MachineError, NetworkError
from herdsman.orphans import die_with

Item = TypeVar("Item")
Result = TypeVar("Result")
Engine = Literal["local", "ray"]
DIED = "a worker process died, most likely because memory ran out"


def available_cores() -> int:
    """Cores this process may use, which in a container can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _start_worker(parent: int) -> None:
    """No orphans when the parent is killed, and Ctrl-C is the parent's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with(parent)


def connect_ray(address: str | None, workers: int | None = None) -> int:
    """Connects this process to a Ray cluster, or to a new one on this machine if there is no address.

    Returns:
        Workers to use: `workers`, or as many as the cluster has cores.

    Raises:
        MachineError: Ray is not installed, or cannot be started.
        NetworkError: no cluster answers at this address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        do = "run: pip install 'herdsman[cluster]', or use local"
        raise MachineError("Ray is not installed", where="machine.engine", do=do) from error
    if not ray.is_initialized():
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            address = "local"
            quiet |= {"num_cpus": workers or available_cores(), "include_dashboard": False}
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            if port.isdigit():  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            if address == "local":
                raise MachineError(f"Ray does not start ({error})", where="machine.engine") from error
            do = "check machine.ray_address and `ray status`"
            raise NetworkError("no Ray cluster answers", where=address, do=do) from error
    return workers or max(1, int(ray.cluster_resources().get("CPU", 1)))


def map_ordered(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int | None = None, engine: Engine = "local"
) -> Iterator[Result]:
    """Applies a module-level function to each item and yields the results in order.

    At most two items per worker are under way, so memory does not grow with the length of `items`. One worker is this
    process itself, with either engine.

    Args:
        engine: "ray" needs `connect_ray` first.

    Raises:
        MachineError: a worker process died, as it does when memory runs out.
    """
    workers = workers or available_cores()
    if workers == 1:
        yield from map(function, items)
    elif engine == "ray":
        yield from _on_ray(function, items, workers)
    else:
        yield from _on_processes(function, items, workers)


def _on_processes(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, context, _start_worker, (os.getpid(),)) as pool:
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
                DIED,
                do="close other programs or set machine.workers = 1, then run again: finished work is kept",
            ) from error
        except BaseException:
            # Ctrl-C, or a failure here or in a worker: nobody waits for what the others are doing.
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def _on_ray(function: Callable[[Item], Result], items: Iterable[Item], workers: int) -> Iterator[Result]:
    import ray
    from ray.exceptions import RayError, RayTaskError

    settings = {name: value for name, value in os.environ.items() if name.startswith("HERDSMAN_")}
    shared = ray.put((function, str(Path.cwd()), settings))
    task: Any = ray.remote(num_cpus=1)(_call)
    pending: deque[Any] = deque()
    try:
        for item in items:
            pending.append(task.remote(shared, item))
            if len(pending) >= 2 * workers:
                yield ray.get(pending.popleft())
        while pending:
            yield ray.get(pending.popleft())
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:
        do = "look at `ray status` and the memory of the nodes, then run again: finished work is kept"
        raise MachineError(DIED, do=do) from error
    # What is still under way after Ctrl-C or a failure ends with this process. `ray.cancel` would end it sooner, but
    # where it meets a task just completing it aborts this process (Ray 2.60: "task that was not pending").


def _call(shared: tuple[Callable[[Item], Result], str, dict[str, str]], item: Item) -> Result:
    """A task: the function, in the folder and under the settings of the process that asked for it."""
    function, folder, settings = shared
    os.environ.update(settings)
    try:
        os.chdir(folder)
    except OSError as error:
        what = f"a node of the cluster does not see this folder ({error.strerror})"
        raise MachineError(what, where=folder, do="work on storage that all nodes share") from error
    return function(item)
