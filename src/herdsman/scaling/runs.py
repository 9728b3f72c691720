"""Many small trainings, each a folder of its own, shared by processes and machines.

    FOLDER/NAME/documents, tokenizer, tokens    links to what it reads
    FOLDER/NAME/pretrain/                       a stage as any other: it resumes, and its manifest is written last

Nothing is removed: later work may read the models.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, cached_property, partial
from pathlib import Path

from herdsman.files import digest_of, read_json
from herdsman.model.options import ModelOptions
from herdsman.parallel import map_ordered
from herdsman.progress import SILENT, Progress, Task
from herdsman.scaling.claims import Claims
from herdsman.training.options import MANNER, PretrainOptions
from herdsman.workspace import MANIFEST, Work, Workspace

STAGE = "pretrain"
LOOK_SECONDS = 2.0
UNITS = ((1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"))
TAIL_BYTES = 4096  # of a curve, in which its last row lies

Train = Callable[[ModelOptions, PretrainOptions, Work], None]
"""Trains a model as the stage does. Handed over, for what chooses devices and ranks stands above this folder."""


@dataclass(frozen=True)
class Run:
    """One small training.

    Attributes:
        name: of its folder.
        inputs: folders of the stages documents, tokenizer and tokens.
        flops: it takes; for progress alone.
    """

    name: str
    model: ModelOptions
    pretrain: PretrainOptions
    inputs: Mapping[str, Path]
    seed: int
    flops: float

    @cached_property
    def fingerprint(self) -> str:
        shaping = [self.model.model_dump(), self.pretrain.model_dump(exclude=MANNER)]
        inputs = {name: _fingerprint_of(folder) for name, folder in self.inputs.items()}
        return digest_of([shaping, inputs, self.seed])

    @property
    def tokens(self) -> int:
        return sum(phase.steps * phase.batch_tokens for phase in self.pretrain.phases)

    def done(self, folder: Path) -> bool:
        return Workspace(folder / self.name).stands(STAGE, self.fingerprint)

    def share_done(self, folder: Path) -> float:
        """From the curve's last row, for a run may be at work in another process or on another machine."""
        if self.done(folder):
            return 1.0
        curve = folder / self.name / STAGE / "logs" / "curve.jsonl"
        with suppress(OSError, ValueError, IndexError), open(curve, "rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            return float(json.loads(file.read().splitlines()[-1])["tokens"] / self.tokens)
        return 0.0


@cache
def _fingerprint_of(stage: Path) -> str:
    """Read once: what runs read does not change while they are at work."""
    return str(read_json(stage / MANIFEST)["fingerprint"])


def train_run(run: Run, folder: Path, train: Train, progress: Progress = SILENT) -> Path:
    """Does a run, from where it stopped if it was begun before; the folder of its stage, with `model/` in it.

    To be called by one process at a time, see `run_all`.
    """
    space = Workspace(folder / run.name)
    space.root.mkdir(parents=True, exist_ok=True)
    for name, target in run.inputs.items():
        link = space.folder(name)
        if not link.is_symlink():
            link.symlink_to(os.path.relpath(target, space.root))
    if not run.done(folder):
        with space.stage(STAGE, run.fingerprint, tuple(run.inputs), run.seed, 1, progress) as work:
            train(run.model, run.pretrain, work)
    return space.folder(STAGE)


def run_all(
    runs: Callable[[], Sequence[Run]], folder: Path, train: Train, processes: int, progress: Progress, label: str
) -> None:
    """Does all runs, as many at once as there are processes, and waits for those that other machines do.

    Args:
        runs: asked again after each run, for it may want more when it sees results. It and `train` travel to
            processes, so they must be pickled.
    """
    wanted = runs()
    folder.mkdir(parents=True, exist_ok=True)
    over = threading.Event()
    total = sum(run.flops for run in wanted)
    unit, name = next((pair for pair in UNITS if total > 1000 * pair[0]), UNITS[-1])
    with progress.task(label, total / unit, name) as task:
        task.resume(sum(run.flops * run.share_done(folder) for run in wanted) / unit)
        watch = threading.Thread(target=_watch, args=(runs, folder, task, unit, over), daemon=True, name="sweep")
        watch.start()
        try:
            for _ in map_ordered(partial(_work, runs, folder, train, processes), range(processes), processes):
                pass
        finally:
            over.set()
            watch.join()


def _watch(runs: Callable[[], Sequence[Run]], folder: Path, task: Task, unit: float, over: threading.Event) -> None:
    while not over.wait(LOOK_SECONDS):
        wanted = runs()
        task.expect(sum(run.flops for run in wanted) / unit)
        task.note(f"{sum(run.done(folder) for run in wanted)} of {len(wanted)} runs done")
        task.update(sum(run.flops * run.share_done(folder) for run in wanted) / unit)


def _work(runs: Callable[[], Sequence[Run]], folder: Path, train: Train, processes: int, number: int) -> None:
    """One process: does runs that nobody else does until all are done."""
    if processes > 1:
        devices = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        os.environ["CUDA_VISIBLE_DEVICES"] = devices[number] if number < len(devices) else str(number)
    claims = Claims()
    while left := [run for run in runs() if not run.done(folder)]:
        if not any(_do(run, folder, train, claims) for run in left):
            time.sleep(LOOK_SECONDS)


def _do(run: Run, folder: Path, train: Train, claims: Claims) -> bool:
    with claims.on(folder / run.name) as mine:
        if mine:
            train_run(run, folder, train)
        return mine
