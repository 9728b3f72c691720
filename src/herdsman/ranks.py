"""A training stage on several processes: the raise starts them, each comes in through `main` and does its part.

herdsman raise        writes job.json, starts this machine's ranks, waits, takes counts and metrics over
herdsman join         on each further machine: waits for that job and starts its machine's ranks for it
  rank 0 .. n         read job.json, form a group, run the stage's training; rank 0 writes its results
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herdsman.errors import HerdsmanError, InputError, MachineError, RecipeError, machine_error
from herdsman.files import read_json, write_json
from herdsman.orphans import die_with_agent
from herdsman.training.health.exits import EXIT_AGAIN, EXIT_STOP

if TYPE_CHECKING:
    import torch

    from herdsman.progress import Progress
    from herdsman.recipe import Recipe
    from herdsman.workspace import Work, Workspace

STAGE = "pretrain"
JOB, OUTCOME, FAILED = "job.json", "outcome.json", "failed-{}.json"
"""Files in the stage's scratch folder, which all machines see; FAILED of a rank says which error ended it."""
LOOK_SECONDS, TELL_SECONDS = 2.0, 600.0
ECHO_SECONDS = 1.0


def run_on_ranks(recipe: Recipe, work: Work) -> None:
    """Runs the stage's training on the processes that the recipe's `machine` section asks for.

    Raises:
        HerdsmanError: what ended a rank; or the ranks were told to stop before training had begun, or kept failing.
    """
    scratch = work.scratch
    for left in (*scratch.glob(FAILED.format("*")), scratch / OUTCOME):
        left.unlink(missing_ok=True)
    inputs = {name: folder.name for name, folder in work.inputs.items()}
    write_json(scratch / JOB, {"recipe": recipe.model_dump(), "inputs": inputs, "workers": work.workers})
    _launch(recipe, work.out, work.progress.beat)
    outcome = read_json(scratch / OUTCOME)
    work.counts |= outcome["counts"]
    work.metrics |= outcome["metrics"]


def join(recipe: Recipe, workspace: Workspace, progress: Progress) -> bool:
    """Takes part in the pretraining of a raise on another machine, with the processes of this one, until it ends.

    Waits for it if it has not begun. Returns False if there is nothing left to take part in.

    Raises:
        InputError: the raise works in another workspace.
        RecipeError: the recipe is for one machine, or is not the one that is raised there.
        HerdsmanError: as `run_on_ranks`; also if this machine is told to stop while it waits.
    """
    from herdsman.stages import fingerprints
    from herdsman.training.health.signals import StopRequests
    from herdsman.workspace import STARTED

    address = recipe.machine.rendezvous
    if recipe.machine.nodes == "1" or not address:
        raise RecipeError(
            "this is for runs on several machines",
            where="machine",
            do='set machine.nodes and machine.rendezvous, such as nodes = "2" and rendezvous = "first:29400"',
        )
    expected, out = fingerprints(recipe)[STAGE], workspace.folder(STAGE)
    requests, told = StopRequests(), -TELL_SECONDS
    while not _answers(address):
        if workspace.stands(STAGE, expected):
            return False
        if requests.wanted()[0]:
            from herdsman.training.loop import Stopped

            raise Stopped(f"stopped by {requests.reason} while waiting", do="run the same command to wait again")
        if time.monotonic() - told >= TELL_SECONDS:
            told = time.monotonic()
            progress.line(f"Waiting for {STAGE} to begin at {address}")
        time.sleep(LOOK_SECONDS)
    requests.close()
    try:
        started = read_json(out / STARTED)["fingerprint"]
    except OSError as error:
        what = f"{address} answers, but no {STAGE} stage has begun here"
        do = "give the workspace of the raise, on storage that all machines share"
        raise InputError(what, where=workspace.root, do=do) from error
    if started != expected:
        raise RecipeError("another recipe is raised here", where=workspace.root, do="join with that one")
    progress.line(f"Taking part in {STAGE} with {recipe.machine.processes} processes")
    try:
        _launch(recipe, out)
    except HerdsmanError:
        if not _is_done(out):
            raise  # else it came, or came back, just when the others were done
    return True


def _is_done(out: Path) -> bool:
    """Whether the stage's training is over: scratch goes once the results are taken over from it."""
    return not (out / "scratch").exists() or (out / "scratch" / OUTCOME).exists()


def _answers(address: str) -> bool:
    """Whether the machine that keeps the rendezvous listens; it does only while its ranks are at work.

    Only then may the others come: the agent that comes first would keep it, and take the run with it when it goes.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=LOOK_SECONDS).close()
    except ValueError:
        raise RecipeError(f"{address} is not HOST:PORT", where="machine.rendezvous", do="write it so") from None
    except OSError:
        return False
    return True


def _launch(recipe: Recipe, out: Path, beat: Callable[[], None] = lambda: None) -> None:
    """Starts this machine's ranks for the job in the stage's folder and waits until they have done it."""
    from herdsman.cluster.launch import launch
    from herdsman.events import EVENTS, EventLog
    from herdsman.training.loop import Stopped

    machine, scratch, logs = recipe.machine, (out / "scratch").resolve(), out / "logs" / "ranks"
    code = launch(
        [sys.executable, "-m", "herdsman.ranks", str(scratch / JOB)],
        machine.processes,
        logs=logs,
        nodes=machine.nodes,
        rendezvous=machine.rendezvous,
        run=recipe.name,
        progress=lambda: max((_step(path) for path in (scratch / "training").glob("step-*")), default=0),
        events=EventLog(out.parent / EVENTS, stage=out.name),
        beat=beat,
    )
    if code == 0:
        return
    for path in sorted(scratch.glob(FAILED.format("*"))):
        failed = read_json(path)
        error = HerdsmanError(failed["sentence"])
        error.exit_status = failed["exit_status"]
        raise error
    if code == EXIT_AGAIN:
        raise Stopped("stopped as told", do="run the same command to go on")
    raise MachineError(f"the training processes ended with code {code}", where=logs, do="read their logs")


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else 0


def main(job_file: str) -> int:
    """One rank, from its start to its exit code."""
    die_with_agent()
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C: the raise says what there is to say
    scratch, rank = Path(job_file).parent, int(os.environ["RANK"])
    failed = scratch / FAILED.format(rank)
    failed.unlink(missing_ok=True)
    if _is_done(scratch.parent):
        return EXIT_STOP
    try:
        _train(read_json(Path(job_file)), scratch, rank)
    except HerdsmanError as error:
        return _told(failed, error)
    except Exception as error:
        if isinstance(error, OSError) and (known := machine_error(error, scratch.parent)):
            return _told(failed, known)
        # It may be the echo of another rank's death. Then the launcher ends this one too, and there is nothing to tell.
        time.sleep(ECHO_SECONDS)
        raise
    return 0


def _train(job: dict[str, Any], scratch: Path, rank: int) -> None:
    import torch.distributed as dist

    from herdsman.progress import SILENT, Progress
    from herdsman.recipe import Recipe
    from herdsman.stages import train_base
    from herdsman.workspace import Work

    recipe, out = Recipe(**job["recipe"]), scratch.parent
    inputs = {name: out.parent / folder for name, folder in job["inputs"].items()}
    progress = SILENT if rank else Progress()
    work = Work(out.name, out, inputs, recipe.seed, job["workers"], progress)
    device, backend = _device(recipe)
    dist.init_process_group(backend)
    train_base(recipe, work, device)
    if rank == 0:
        write_json(scratch / OUTCOME, {"counts": work.counts, "metrics": work.metrics})
    dist.barrier()
    dist.destroy_process_group()


def _told(failed: Path, error: HerdsmanError) -> int:
    """Leaves word of the error for the launchers, and says whether starting again may help."""
    try:
        write_json(failed, {"sentence": str(error), "exit_status": error.exit_status})
    except OSError:  # a full disk may be what the error is about
        print(f"herdsman: {error}", file=sys.stderr, flush=True)
    return EXIT_AGAIN if error.exit_status == EXIT_AGAIN else EXIT_STOP


def _device(recipe: Recipe) -> tuple[torch.device, str]:
    """This rank's device, and the backends of the group that it forms with the others."""
    import torch

    from herdsman.stages import resolve_device

    device = resolve_device(recipe.machine)
    if device.type != "cuda":
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        return device, "gloo"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device, "cpu:gloo,cuda:nccl"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
