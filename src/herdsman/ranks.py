"""A training stage on several processes: the raise starts them, each comes in through `main` and does its part.

herdsman raise        writes job.json, starts the ranks, waits, takes counts and metrics over
  rank 0 .. n         read job.json, form a group, run the stage's training; rank 0 writes its results
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from herdsman.errors import HerdsmanError, MachineError
from herdsman.files import read_json, write_json
from herdsman.progress import SILENT, Progress
from herdsman.recipe import Recipe
from herdsman.training.health.exits import EXIT_AGAIN, EXIT_STOP
from herdsman.training.health.orphans import die_with_agent
from herdsman.workspace import Work

if TYPE_CHECKING:
    import torch

JOB, OUTCOME = "job.json", "outcome.json"


def run_on_ranks(recipe: Recipe, work: Work) -> None:
    """Runs the stage's training on the processes that the recipe's `machine` section asks for.

    Raises:
        HerdsmanError: the ranks were told to stop, or failed; what they said stands in their logs.
    """
    from herdsman.cluster.launch import launch
    from herdsman.events import EVENTS, EventLog
    from herdsman.training.loop import Stopped

    job = work.scratch / JOB
    inputs = {name: str(folder) for name, folder in work.inputs.items()}
    write_json(job, {"recipe": recipe.model_dump(), "out": str(work.out), "inputs": inputs, "workers": work.workers})
    machine = recipe.machine
    saved = work.scratch / "training"
    code = launch(
        command(job),
        machine.processes,
        logs=work.logs / "ranks",
        nodes=machine.nodes,
        rendezvous=machine.rendezvous,
        run=recipe.name,
        progress=lambda: len(list(saved.glob("step-*"))) and max(_step(path) for path in saved.glob("step-*")),
        events=EventLog(work.out.parent / EVENTS, stage=work.stage),
    )
    if code == EXIT_AGAIN:
        raise Stopped("stopped as told, with a checkpoint", do="run the same command to go on")
    if code:
        raise MachineError(f"the training processes ended with code {code}", where=work.logs, do="read their logs")
    outcome = read_json(work.scratch / OUTCOME)
    work.counts |= outcome["counts"]
    work.metrics |= outcome["metrics"]


def command(job: Path) -> list[str]:
    """What a rank runs."""
    return [sys.executable, "-m", "herdsman.ranks", str(job)]


def _step(path: Path) -> int:
    digits = path.name.removeprefix("step-")
    return int(digits) if digits.isdigit() else 0


def main(job_file: str) -> int:
    """One rank, from its start to its exit code."""
    die_with_agent()
    import torch.distributed as dist

    job = read_json(Path(job_file))
    recipe = Recipe(**job["recipe"])
    device, backend = _device(recipe)
    dist.init_process_group(backend)
    rank = dist.get_rank()
    out = Path(job["out"])
    work = Work(
        out.name,
        out,
        {name: Path(folder) for name, folder in job["inputs"].items()},
        recipe.seed,
        job["workers"],
        SILENT if rank else Progress(),
    )
    try:
        from herdsman.stages import train_base

        train_base(recipe, work, device)
        if rank == 0:
            write_json(work.scratch / OUTCOME, {"counts": work.counts, "metrics": work.metrics})
        dist.barrier()
    except HerdsmanError as error:
        if rank == 0:
            print(f"herdsman: {error}", file=sys.stderr, flush=True)
        return EXIT_AGAIN if error.exit_status == EXIT_AGAIN else EXIT_STOP
    except KeyboardInterrupt:
        return 130
    dist.destroy_process_group()
    return 0


def _device(recipe: Recipe) -> tuple[torch.device, str]:
    """This rank's device, and the backends of the group that it forms with the others."""
    import torch

    from herdsman.stages import resolve_device

    device = resolve_device(recipe.machine)
    if device.type != "cuda":
        threads: Any = os.environ.get("OMP_NUM_THREADS")
        torch.set_num_threads(int(threads) if threads else 1)
        return device, "gloo"
    device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    torch.cuda.set_device(device)
    return device, "cpu:gloo,cuda:nccl"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
