"""Runs a function on several ranks of a gloo group: the way to test what is distributed without a cluster.

    def sum_of_ranks(offset):                       # at the top of a test module, so that it can be pickled by name
        total = torch.tensor(dist.get_rank() + offset)
        dist.all_reduce(total)
        return total

    assert run(sum_of_ranks, 4, 10) == [46, 46, 46, 46]

Every call forks fresh ranks from one server process that has imported torch but never run an operation of it. A fork
costs some 10 ms where importing torch costs seconds, and no group, mesh cache or random state lives on into the next
call, even after a rank that hung or was killed.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import forkserver, get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any
from unittest import mock

CONTEXT = get_context("forkserver")
# What ranks would otherwise import one by one. Importing none of these may start a thread: it would be lost in a fork.
CONTEXT.set_forkserver_preload(
    [
        "fsspec",
        "numpy",
        "pydantic",
        "pytest",
        "torch",
        "torch.distributed.checkpoint.state_dict",
        "torch.distributed.fsdp",
        "torch.distributed.pipelining",
        "torch.distributed.tensor.parallel",
        "torch.profiler",
    ]
)
LAST_WORDS_SECONDS = 2.0
# Starting a process asks all others of this one whether they have ended, and an exit code can be read only once: two
# threads that do so together would find 255.
_REAPING = threading.Lock()


class RankError(AssertionError):
    """A rank raised, died or hung; the message holds its traceback."""


def run(function: Callable[..., Any], world: int, *args: Any, timeout_seconds: float = 60.0) -> list[Any]:
    """Calls `function(*args)` on `world` ranks of a fresh default group over gloo; returns their results by rank.

    A rank has one thread and the variables RANK, LOCAL_RANK and WORLD_SIZE, as under torchrun. The function, arguments
    and results are pickled; the function must stand at the top of an importable module. A script that calls this needs
    the `if __name__ == "__main__"` guard, as ranks import it.

    Raises:
        RankError: a rank raised (the first one's traceback), died (its exit code, negative for a signal), or was not
            done in `timeout_seconds` (where each of these stood). All other ranks have been killed by then.
    """
    with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):  # read when the server imports torch
        forkserver.ensure_running()
    call = pickle.dumps((function, args))
    with tempfile.TemporaryDirectory() as folder:
        ranks, pipes = [], []
        try:
            for rank in range(world):
                ours, theirs = CONTEXT.Pipe(duplex=False)
                process = CONTEXT.Process(target=_rank, args=(rank, world, folder, timeout_seconds, call, theirs))
                with _REAPING:
                    process.start()
                theirs.close()  # so that a dead rank reads as the end of its pipe
                ranks.append(process)
                pipes.append(ours)
            return _results(ranks, pipes, Path(folder), timeout_seconds)
        finally:
            for process in ranks:
                process.kill()
                _reap(process)


def _results(ranks: list[Any], pipes: list[Connection], folder: Path, timeout_seconds: float) -> list[Any]:
    results: dict[int, Any] = {}
    end = time.monotonic() + timeout_seconds + LAST_WORDS_SECONDS
    while waiting := [rank for rank in range(len(ranks)) if rank not in results]:
        ready = wait([pipes[rank] for rank in waiting], max(0.0, end - time.monotonic()))
        if not ready:
            stacks = [f"rank {rank}:\n{(folder / f'{rank}.stack').read_text()}" for rank in waiting]
            raise RankError("\n".join([f"not done after {timeout_seconds:g} seconds", *stacks]))
        for rank in (rank for rank in waiting if pipes[rank] in ready):
            try:
                failed, results[rank] = pickle.loads(pipes[rank].recv_bytes())
            except EOFError:
                _reap(ranks[rank])
                raise RankError(f"rank {rank} died with exit code {ranks[rank].exitcode}") from None
            if failed:
                raise RankError(f"rank {rank} of {len(ranks)} raised\n{results[rank]}")
    for process in ranks:
        _reap(process)
    return [results[rank] for rank in range(len(ranks))]


def _reap(process: Any) -> None:
    """Waits for its end, and leaves its exit code to be asked for."""
    wait([process.sentinel])
    with _REAPING:
        process.join()


def _rank(rank: int, world: int, folder: str, timeout_seconds: float, call: bytes, pipe: Connection) -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()
    faulthandler.dump_traceback_later(timeout_seconds, file=open(f"{folder}/{rank}.stack", "w"))  # noqa: SIM115
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    try:
        function, args = pickle.loads(call)
        distributed.init_process_group(
            "gloo",
            store=distributed.FileStore(f"{folder}/store", world),
            rank=rank,
            world_size=world,
            timeout=timedelta(seconds=timeout_seconds + 60),  # the caller tells of a hang, with all stacks
        )
        answer = pickle.dumps((False, function(*args)))
        if distributed.is_initialized():
            distributed.barrier()  # no rank leaves while another still needs it
    except BaseException:
        answer = pickle.dumps((True, traceback.format_exc()))
    pipe.send_bytes(answer)
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _die_with_parent() -> None:
    """A killed test run must leave no rank waiting for the others."""
    parent = parent_process()
    assert parent
    parent.join()
    os._exit(1)
