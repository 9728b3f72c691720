"""Starts the ranks of a training stage on this machine, starts them again when one fails, and leaves none behind.

PyTorch's elastic agent does the work: it meets the agents of the other machines, numbers the ranks, and starts all of
them anew when one fails or a machine comes or goes. What is added is what a herd's raise needs of it: exit codes that
are no failures (training/health/exits.py), a number of restarts that counts only while there is no progress, logs under
names one can find, and an end that leaves no process behind.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.rendezvous import (
    RendezvousClosedError,
    RendezvousConnectionError,
    RendezvousParameters,
    RendezvousTimeoutError,
)
from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

from herdsman.cluster.launch_logs import RankLogs
from herdsman.errors import InputError, MachineError, NetworkError
from herdsman.events import EventLog
from herdsman.orphans import AGENT
from herdsman.parallel import available_cores
from herdsman.training.health.exits import EXIT_AGAIN, EXIT_HARDWARE, EXIT_STOP, FINAL_EXITS

UNBOUNDED = 1_000_000  # restarts the agent itself would allow; `restarts` below is what counts
INTERRUPT_SECONDS = 5
TALKATIVE = tuple(f"torch.distributed.elastic.{part}.api" for part in ("multiprocessing", "agent.server"))
STOP_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")


def launch(
    command: list[str],
    processes: int,
    *,
    logs: Path,
    nodes: str = "1",
    rendezvous: str | None = None,
    run: str | None = None,
    restarts: int = 3,
    progress: Callable[[], int] = lambda: 0,
    grace_seconds: int = 120,
    events: EventLog | None = None,
    beat: Callable[[], None] = lambda: None,
) -> int:
    """Runs `command` once for each of this machine's ranks, until they are done.

    To be called in the main thread. Rank 0's output is shown as it comes; the output of every rank is kept in
    `logs/LAUNCH/attempt_N/rank_R.out` and `.err`. Ranks find RANK, WORLD_SIZE, MASTER_ADDR and so on in their
    environment, as under torchrun.

    Args:
        command: the program and its arguments.
        processes: ranks on this machine.
        logs: folder for the ranks' output.
        nodes: machines, "2", or "2:4" to go on with as few as 2 and to take in others up to 4.
        rendezvous: host:port where the machines meet; needed for more than one. The agent on that host keeps it.
        run: a name that all machines give; needed for more than one.
        restarts: times in a row the ranks are started again without progress in between.
        progress: a number that grows as work is made safe, such as the step of the last checkpoint.
        grace_seconds: time the ranks get to checkpoint when this process is told to stop.
        events: gets an `interruption` for every failure and a `restart` where one follows.
        beat: called again and again while the ranks work.

    Returns:
        0 if all ranks returned that; EXIT_AGAIN, EXIT_STOP or EXIT_HARDWARE if a rank did; EXIT_STOP also if another
        machine ended the run.

    Raises:
        InputError: `nodes` cannot be read, or `rendezvous` and `run` are missing.
        KeyboardInterrupt: Ctrl-C; the ranks have got it too and are gone.
        MachineError: the ranks failed more often than `restarts` allows, or were not gone when told to stop.
        NetworkError: the other machines did not come to the rendezvous, or the one that keeps it is lost.
    """
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with _environment(processes), _signals_put_back():
        spec = _spec(command, processes, nodes, rendezvous, run)
        agent = _Agent(spec, RankLogs(logs), restarts, progress, grace_seconds, events, beat)
        try:
            return _code(agent.run(), agent)
        except SignalException as told:
            if told.sigval == signal.SIGINT:
                raise KeyboardInterrupt from None
            # A rank that the signal itself ended was not in training: it had nothing to save.
            if set(agent.codes()) <= {0, EXIT_AGAIN, -told.sigval}:
                return EXIT_AGAIN
            what = f"told to stop by {told.sigval.name}, but not all ranks had checkpointed {grace_seconds} s later"
            raise MachineError(what, where=logs, do="allow more time before the machine is taken away") from None
        except RendezvousClosedError:
            return EXIT_STOP
        except RendezvousTimeoutError as error:
            do = "start all of them, with this address"
            raise NetworkError("the other machines did not come in time", where=rendezvous, do=do) from error
        except RendezvousConnectionError as error:
            what = "no connection to the machine that keeps the rendezvous"
            do = "start all machines again: training goes on from its last checkpoint"
            raise NetworkError(what, where=rendezvous, do=do) from error
        finally:
            agent.kill()
            if agent.final != EXIT_HARDWARE:  # then the other machines go on without this one
                spec.rdzv_handler.shutdown()


def _spec(command: list[str], processes: int, nodes: str, rendezvous: str | None, run: str | None) -> WorkerSpec:
    """What the agent is to run, and the rendezvous it goes to; of a single machine, one of its own."""
    least, most = _machines(nodes)
    if most > 1 and not (rendezvous and run):
        raise InputError("more than one machine needs a rendezvous and a name of the run", where="launch")
    local = None if most > 1 else "localhost"
    meeting = RendezvousParameters(
        backend="c10d",
        endpoint=rendezvous or "localhost:0",
        run_id=run or uuid.uuid4().hex,
        min_nodes=least,
        max_nodes=most,
        local_addr=local,
        last_call_timeout=5,  # seconds to wait for more machines, once there are enough
        keep_alive_interval=2,  # seconds; a machine is lost after three of them
    )
    return WorkerSpec(
        role="",  # see _Agent
        local_world_size=processes,
        entrypoint=command[0],
        args=tuple(command[1:]),
        rdzv_handler=get_rendezvous_handler(meeting),
        max_restarts=UNBOUNDED,
        monitor_interval=0.1,
        local_addr=local,
    )


def _code(result: RunResult | None, agent: _Agent) -> int:
    if result is None:  # the agent left the rendezvous in order: another machine ended the run
        return EXIT_STOP
    if agent.final is not None:
        return agent.final
    if not result.is_failed():
        return 0
    raise MachineError(
        f"{agent.failed}: {agent.failures} failures in a row without progress",
        where=agent.logs.folder,
        do="read the ranks' .err files there; training goes on from its last checkpoint",
    )


class _Agent(LocalElasticAgent):
    """The elastic agent, told which exits are final and when to give up.

    Attributes:
        final: the exit code that ended the run for good, if one did.
        failed: which ranks failed last, and how.
        failures: in a row, without progress.
    """

    def __init__(
        self,
        spec: WorkerSpec,
        logs: RankLogs,
        restarts: int,
        progress: Callable[[], int],
        grace_seconds: int,
        events: EventLog | None,
        beat: Callable[[], None],
    ):
        # The empty role in front of rank 0's lines: a run on many processes reads like one on a single process.
        super().__init__(spec, logs, exit_barrier_timeout=60, log_line_prefix_template="${role_name}")
        self.logs, self.restarts, self.progress, self.events = logs, restarts, progress, events
        self.grace_seconds, self.beat = grace_seconds, beat
        self.final: int | None = None
        self.failed = ""
        self.failures, self.reached = 0, progress()
        self.ending: float | None = None

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        """What became of the ranks, looked at before the agent does: it would send SIGTERM to the rest at once.

        Ranks that end with EXIT_AGAIN or 0 do so one after the other, and each may still have a checkpoint to write.
        After a failure the rest can only wait for the lost one, and SIGTERM would ask them for a checkpoint.
        """
        self.beat()
        codes = {worker.global_rank: code for worker, code in zip(worker_group.workers, self.codes(), strict=True)}
        ended = {rank: code for rank, code in codes.items() if code}
        if set(ended.values()) == {EXIT_AGAIN} and None in codes.values():
            self.ending = self.ending or time.monotonic()
            if time.monotonic() - self.ending < self.grace_seconds:
                return RunResult(state=WorkerState.HEALTHY)
        if ended:
            self.kill()
            self._judge(ended)
        result: RunResult = super()._monitor_workers(worker_group)
        return result

    def _judge(self, ended: dict[int, int]) -> None:
        """Final exits end the run, unless a rank failed while the others ended in order; so do too many failures."""
        failed = {rank: code for rank, code in ended.items() if code not in FINAL_EXITS}
        final = next((code for code in FINAL_EXITS if code in ended.values()), None)
        if final is not None and not (failed and final == EXIT_AGAIN):
            self.final = final
            self._remaining_restarts = 0
            return
        reached = self.progress()
        self.failures = self.failures + 1 if reached <= self.reached else 1
        self.reached = max(reached, self.reached)
        again = self.failures <= self.restarts
        if not again:
            self._remaining_restarts = 0
        self.failed = ", ".join(f"rank {rank} {_how(code)}" for rank, code in sorted(failed.items()))
        print(f"{self.failed}; {'starting again' if again else 'giving up'}", file=sys.stderr, flush=True)
        if self.events:
            self.events.write("interruption", ranks=failed, host=socket.gethostname(), failures=self.failures)
            if again:
                self.events.write("restart", failures=self.failures)

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, *_: Any, **__: Any) -> None:
        """SIGTERM asks for a checkpoint, which takes its time; Ctrl-C does not."""
        if self._pcontext:
            self._pcontext.close(death_sig, INTERRUPT_SECONDS if death_sig == signal.SIGINT else self.grace_seconds)

    def codes(self) -> list[int | None]:
        """Exit codes of this machine's ranks; None for those at work."""
        handlers = self._pcontext.subprocess_handlers if self._pcontext else {}  # type: ignore[attr-defined]
        return [handlers[local].proc.poll() for local in sorted(handlers)]

    def kill(self) -> None:
        """Kills every rank of this machine that is left, with all it started."""
        for pid in self._pcontext.pids().values() if self._pcontext else ():
            with suppress(ProcessLookupError, PermissionError):  # macOS gives the second for the dead
                os.killpg(pid, signal.SIGKILL)


def _how(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _machines(nodes: str) -> tuple[int, int]:
    least, _, most = nodes.partition(":")
    try:
        bounds = int(least), int(most or least)
    except ValueError:
        bounds = (0, 0)
    if not 1 <= bounds[0] <= bounds[1]:
        raise InputError(f"{nodes!r} is not a number of machines", where="nodes", do='write "2", or "2:4" for a range')
    return bounds


@contextmanager
def _environment(processes: int) -> Iterator[None]:
    """Variables of the agent and its ranks. What the user has set stays, but for what restarts depend on."""
    ours = {
        # Without it torch reuses one store over restarts, and ranks find the addresses of the dead.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "TORCHELASTIC_SIGNALS_TO_HANDLE": ",".join(STOP_SIGNALS),
        AGENT: str(os.getpid()),
    }
    defaults = {
        "PYTHONUNBUFFERED": "1",  # else what rank 0 prints is shown when its buffer is full
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(max(1, available_cores() // processes)),
        "TORCH_FR_BUFFER_SIZE": "2000",
    }
    before = dict(os.environ)
    os.environ.update(defaults | before | ours)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _signals_put_back() -> Iterator[None]:
    """The agent installs its own handlers and leaves them."""
    before: dict[str, Any] = {name: signal.getsignal(getattr(signal, name)) for name in STOP_SIGNALS}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)
