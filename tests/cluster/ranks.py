"""What the tests of the launcher start: ranks that do as they are told, or train a little over gloo.

python ranks.py FOLDER PLAN      PLAN: Python run with `rank`, `attempt` (counted over all starts) and `folder`
python ranks.py FOLDER train     the training of `train`
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from herdsman.orphans import die_with_agent

STEPS, EVERY = 60, 5


def train(folder: Path, rank: int, world: int, step_seconds: float, hang: bool) -> float:
    """A number that every rank changes at every step, by a collective; checkpointed every few steps.

    The result depends on each step having been taken exactly once, and on nothing else: not on the number of ranks.
    """
    import torch
    from torch import distributed

    from herdsman.events import EventLog
    from herdsman.files import read_json, write_json
    from herdsman.training.health.exits import EXIT_AGAIN
    from herdsman.training.health.options import WatchdogOptions
    from herdsman.training.health.signals import StopRequests
    from herdsman.training.health.watchdog import Watchdog

    torch.set_num_threads(1)
    distributed.init_process_group("gloo")
    requests, events = StopRequests(), EventLog(folder / "events.jsonl", world=world)
    state = read_json(folder / "state.json") if (folder / "state.json").exists() else {"step": 0, "value": 1.0}
    (folder / f"pid_{rank}").write_text(str(os.getpid()))
    attempt = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    watchdog = Watchdog(
        WatchdogOptions(timeout_seconds=3, first_step_seconds=60, gather_seconds=5),
        folder / f"health_{attempt}",
        rank,
        world,
        lambda verdict: events.write("detect", **verdict),
    )
    distributed.barrier()
    if rank == 0:
        events.write("start", step=state["step"])
    for step in range(state["step"], STEPS):
        time.sleep(600 if hang and (attempt, rank, step) == (0, 1, 20) else step_seconds)
        sums = torch.tensor([(step + 1.0) / world, *requests.wanted()], dtype=torch.float64)
        distributed.all_reduce(sums)
        state = {"step": step + 1, "value": state["value"] * 1.01 + float(sums[0].round(decimals=9))}
        stop = bool(sums[1] > 0)
        if rank == 0 and (stop or (step + 1) % EVERY == 0):
            write_json(folder / "state.json", state)
            events.write("step", step=step + 1)
        if stop:
            sys.exit(EXIT_AGAIN)
        watchdog.beat(step + 1)
    distributed.barrier()
    watchdog.close()
    distributed.destroy_process_group()
    return float(state["value"])


def expected() -> float:
    value = 1.0
    for step in range(STEPS):
        value = value * 1.01 + (step + 1.0)
    return value


def main() -> None:
    die_with_agent()
    folder, plan = Path(sys.argv[1]), sys.argv[2]
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    if plan.startswith("train"):
        value = train(folder, rank, world, 0.3 if plan.endswith("slowly") else 0.05, hang=plan.endswith("hang"))
        if rank == 0:
            (folder / "result.json").write_text(json.dumps(value))
        return
    attempt = len(list(folder.glob(f"start_{rank}_*")))
    (folder / f"start_{rank}_{attempt}").write_text(str(os.getpid()))
    exec(plan, {"rank": rank, "attempt": attempt, "folder": folder, "world": world, "sys": sys, "time": time, "os": os})


if __name__ == "__main__":
    main()
