"""The one training loop: pretraining, reward model, SFT and DPO differ only in their course and their objective.

It stands at (step, tokens): steps done and tokens trained on. A step whose loss makes no sense is left without an
update; when that does not help, training goes back to its last checkpoint and leaves out the data it stumbled on.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import current_thread, main_thread
from typing import Any

import torch.distributed as dist

from herdsman.errors import HerdsmanError
from herdsman.events import EventLog
from herdsman.files import read_jsonl, write_jsonl
from herdsman.progress import Task
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.store import Checkpoints
from herdsman.training.course import Course, Step
from herdsman.training.health.exits import EXIT_AGAIN
from herdsman.training.health.options import HealthOptions
from herdsman.training.health.own_time import OwnTime
from herdsman.training.health.signals import StopRequests
from herdsman.training.health.spikes import SpikeDetector, Verdict
from herdsman.training.health.step_events import StepEvents
from herdsman.training.health.stragglers import Stragglers
from herdsman.training.health.watchdog import Watchdog
from herdsman.training.metrics import Metrics
from herdsman.training.objective import Batch, Objective
from herdsman.training.optimizer import make_optimizer, set_learning_rate
from herdsman.training.options import OptimizerOptions
from herdsman.training.parallel.mesh import Mesh
from herdsman.training.parallel.model import ParallelModel, Sums
from herdsman.training.state import training_tensors

AfterStep = Callable[[int, int, ParallelModel], None]


class Stopped(HerdsmanError):
    """Told to stop: a checkpoint is written, and the run goes on from it when started again."""

    exit_status = EXIT_AGAIN


class Training:
    """A run in progress.

    Args:
        folder: for checkpoints; every rank sees it.
        log: JSON lines, one a step, as `metrics` describes them. Written by rank 0.
        events: what happened when; `events` of rank 0 only.
        after_step: called on all ranks with the step's number, tokens trained on and the model after each update; may
            be called again for a step after a resume.
        save_at_end: whether another run goes on where this one ends.
        metrics: makes rank 0's measures from the step that training goes on with; rows alone if left out.
    """

    def __init__(
        self,
        model: ParallelModel,
        objective: Objective,
        course: Course,
        optimizer: OptimizerOptions,
        *,
        folder: Path,
        log: Path,
        events: EventLog | None = None,
        checkpoints: CheckpointOptions | None = None,
        health: HealthOptions | None = None,
        task: Task | None = None,
        after_step: AfterStep | None = None,
        save_at_end: bool = False,
        metrics: Callable[[int], Metrics] | None = None,
    ):
        self.model, self.objective, self.course = model, objective, course
        health = health or HealthOptions()
        self.clip_norm, self.log, self.task, self.after_step = optimizer.clip_norm, log, task, after_step
        self.optimizer = make_optimizer(model.named_parameters(), optimizer, model.running.precision)
        self.rank, self.ranks = (dist.get_rank(), dist.get_world_size()) if Mesh.needed() else (0, 1)
        log.parent.mkdir(parents=True, exist_ok=True)
        self.events = (events or EventLog(log.with_name("events.jsonl"))) if self.rank == 0 else None
        self.steps_told = StepEvents(self.events) if self.events else None
        self.checkpoints = Checkpoints(folder, checkpoints or CheckpointOptions())
        self.detector = SpikeDetector(health.spikes)
        self.own_time = OwnTime(model.device)
        group = dist.new_group(backend="gloo") if self.ranks > 1 else None
        self.stragglers = Stragglers(health.stragglers, group, model.pipeline.stages[0] if model.pipeline else 0)
        self.watchdog = self._watch(health, folder) if self.ranks > 1 else None
        self.loader = ThreadPoolExecutor(1, "loader")
        self.ahead: tuple[Step, Future[Sequence[Batch]]] | None = None
        self.step, self.tokens, self.phase = 0, 0, ""
        self.save_soon, self.save_at_end = False, save_at_end
        self.make_metrics = metrics or (lambda step: Metrics(None, self.ranks, model.device))
        self.metrics: Metrics | None = None

    def run(self) -> None:
        """Trains until the course is over, from the newest checkpoint if there is one.

        Raises:
            Stopped: SIGTERM, SIGUSR1 or a file STOP asked for it.
            HerdsmanError: the loss stays no finite number, or keeps rising at the same place.
        """
        # Only the main thread may take signals; a run in another one is stopped by whoever started it.
        stop = StopRequests(self.checkpoints.folder) if current_thread() is main_thread() else None
        try:
            self._resume()
            if self.rank == 0:
                self.metrics = self.make_metrics(self.step)
            self._tell("ready")
            while True:
                decided = self.course.before(self.step, self.tokens)
                step = self.course.at(self.step, self.tokens)
                if step is None:
                    break
                if decided:
                    self._save()
                self._do(step, stop)
            if self.save_at_end:
                self._save()
                self.checkpoints.wait()
            self._tell("end", step=self.step, tokens=self.tokens)
        finally:
            if stop:
                stop.close()
            self.loader.shutdown(cancel_futures=True)
            self.checkpoints.close()
            if self.metrics:
                self.metrics.close()
            if self.watchdog:
                self.watchdog.close()

    def _do(self, step: Step, stop: StopRequests | None) -> None:
        started = time.monotonic()
        if step.phase != self.phase:
            if self.phase:
                self.detector.forget()  # its curve may jump by right
            self.phase = step.phase
        batches = self._batches(step)
        data_seconds = time.monotonic() - started
        self.own_time.start()
        wanted = stop.wanted() if stop else (0.0, 0.0)
        sums = self.model.train_step(batches, self.objective, wanted)
        self.model.scale_gradients(1 / sums.weight if sums.weight else math.nan)
        loss, norm = sums.total / sums.weight if sums.weight else math.nan, self.model.gradient_norm()
        verdict = self.detector.judge(loss, norm)
        if verdict is Verdict.ROLL_BACK:
            self._roll_back(step)
            return
        if verdict is Verdict.KEEP:
            set_learning_rate(self.optimizer, step.learning_rate)
            if norm > self.clip_norm:
                self.model.scale_gradients(self.clip_norm / norm)
            self.optimizer.step()
            self.model.after_update()
        else:
            self._tell("skip", step=self.step, tokens=self.tokens, reason=self.detector.reason)
        for slow in self.stragglers.add(self.own_time.seconds(), data_seconds):
            self._tell("straggler", step=self.step, **vars(slow))
        self.step, self.tokens = self.step + 1, self.tokens + step.tokens
        seconds = time.monotonic() - started
        self._write(step, sums, norm, seconds, data_seconds, kept=verdict is Verdict.KEEP)
        if self.after_step:
            if self.watchdog:
                self.watchdog.beat(self.step, "after the step", self.watchdog.options.first_step_seconds)
            self.after_step(self.step - 1, self.tokens, self.model)
        if self.watchdog:
            self.watchdog.beat(self.step)
        asked_to_stop, asked_to_save = (value > 0 for value in sums.also)
        over = self.course.at(self.step, self.tokens) is None
        tier = self.checkpoints.due(self.tokens)
        if asked_to_stop or asked_to_save or self.save_soon:
            tier, self.save_soon = "shared", False
        if tier and (asked_to_stop or not over):
            self._save(tier)
        if stop and (asked_to_stop or asked_to_save):
            stop.done()
        if stop and asked_to_stop:
            self.checkpoints.wait()
            self._tell("end", step=self.step, tokens=self.tokens, reason=stop.reason)
            raise Stopped(
                f"stopped by {stop.reason} after step {self.step}, with a checkpoint",
                do="run the same command to go on",
            )

    # Data

    def _batches(self, step: Step) -> Sequence[Batch]:
        """This step's batches, read while the step before was at work; then reads those that will follow."""
        batches = self.ahead[1].result() if self.ahead and self.ahead[0] == step else self.course.read(step)
        following = self.course.at(self.step + 1, self.tokens + step.tokens)
        self.ahead = (following, self.loader.submit(self.course.read, following)) if following else None
        return [batch.to(self.model.device) for batch in batches]

    # Checkpoints

    def _save(self, tier: Any = "shared") -> None:
        if self.steps_told:
            self.steps_told.flush()
        before = self.checkpoints.blocked_seconds
        state = {"course": self.course.state(), "detector": self.detector.state(), "phase": self.phase}
        tensors = training_tensors(self.model, self.optimizer)
        self.checkpoints.save(self.step, self.tokens, tensors, state, tier=tier)
        blocked = round(self.checkpoints.blocked_seconds - before, 6)
        self._tell("checkpoint", step=self.step, tokens=self.tokens, tier=tier, blocked_seconds=blocked)

    def _resume(self) -> None:
        loaded = self.checkpoints.load(training_tensors(self.model, self.optimizer))
        if loaded:
            self.step, self.tokens = loaded.step, loaded.tokens
            self.course.load(loaded.state["course"])
            self.detector.load(loaded.state["detector"])
            self.phase = loaded.state["phase"]
            self.model.after_update()
        attempt = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0))
        self._tell("start", step=self.step, tokens=self.tokens, attempt=attempt, ranks=self.ranks)
        self._cut_log()
        if self.task and self.step:
            self.task.resume(self.step)

    def _roll_back(self, step: Step) -> None:
        """Goes back to the last checkpoint and leaves out the data from there to here."""
        self.checkpoints.wait()
        reason, before, end = self.detector.reason, self.course.state(), self.tokens + step.tokens
        loaded = self.checkpoints.load(training_tensors(self.model, self.optimizer))
        if loaded is None:
            raise HerdsmanError(
                f"training goes wrong before its first checkpoint: {reason}",
                where=self.log,
                do="lower the learning rate in the recipe",
            )
        # What the course has learnt to leave out stays known: the checkpoint may be older than that.
        self.course.load(before)
        self.course.leave_out(loaded.step, loaded.tokens, end, reason)
        self._tell("roll_back", step=loaded.step, tokens=loaded.tokens, reason=reason, left_out=[loaded.tokens, end])
        self.detector.load(loaded.state["detector"])
        self.phase = loaded.state["phase"]
        self.model.after_update()
        self.step, self.tokens, self.ahead = loaded.step, loaded.tokens, None
        if self.metrics:
            self.metrics.rewind(self.step)
        self.save_soon = True  # or a crash would forget what is to be left out
        self._cut_log()

    # What is told

    def _write(self, step: Step, sums: Sums, norm: float, seconds: float, data_seconds: float, kept: bool) -> None:
        if self.steps_told:
            self.steps_told.add(self.step, self.tokens, seconds, data_seconds, kept)
        loss = (sums.total - sums.figures.get("z_loss", 0.0)) / sums.weight if sums.weight else math.nan
        if self.metrics:
            row = self.metrics.step(
                step=self.step - 1,
                phase=step.phase,
                tokens=self.tokens,
                batch_tokens=step.tokens,
                sequence_length=step.sequence_length,
                loss=loss,
                weight=sums.weight,
                learning_rate=step.learning_rate,
                gradient_norm=norm,
                seconds=seconds,
                data_seconds=data_seconds,
                figures=sums.figures,
            )
            with open(self.log, "a", encoding="utf-8") as file:
                file.write(json.dumps(row if kept else row | {"skipped": True}) + "\n")
        if self.task:
            self.task.note(f"loss {loss:.3f}")
            self.task.expect(self.course.steps)
            self.task.update(self.step)

    def _tell(self, kind: str, **fields: Any) -> None:
        if self.steps_told and kind in ("skip", "roll_back", "end"):
            self.steps_told.flush()
        if self.events:
            self.events.write(kind, **fields)

    def _cut_log(self) -> None:
        """Takes rows out of the curve that come after where the run stands, and one cut where a process died."""
        if self.rank == 0 and self.log.exists():
            write_jsonl(self.log, [row for row in _whole_rows(self.log) if row["step"] < self.step])

    def _watch(self, health: HealthOptions, folder: Path) -> Watchdog:
        # A folder for each attempt: what an earlier one left would be taken for a hang of this one.
        name = f"watch-{os.environ.get('TORCHELASTIC_RUN_ID', 'run')}-{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}"

        def report(verdict: dict[str, Any]) -> None:
            if self.events:
                self.events.write("detect", **verdict)

        return Watchdog(health.watchdog, folder.with_name(name), self.rank, self.ranks, report)


def _whole_rows(log: Path) -> list[Any]:
    """Rows of a curve whose last line may be cut where the process died."""
    try:
        return read_jsonl(log)
    except ValueError:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[:-1]
        return [json.loads(line) for line in lines if line.strip()]
