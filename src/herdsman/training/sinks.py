"""Where the points of a run's metrics go beside its curve: TensorBoard's files, and Weights & Biases."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary

from herdsman.errors import InputError, MachineError
from herdsman.training.metric_options import MetricOptions

TENSORBOARD, WANDB_RUN_ID = "tensorboard", "wandb_run_id"
FLUSH_SECONDS = 30.0
GROUPS = {
    "loss.": "loss by stream",
    "share.": "share of tokens by stream",
    "mfu_": "utilisation",
    "hfu_": "utilisation",
    "memory_": "memory",
    "tokens_per_second": "speed",
    "seconds": "speed",
    "data_": "speed",
    "window_": "speed",
}


class Sink(Protocol):
    """Gets the points of a run in order."""

    def write(self, step: int, point: Mapping[str, float]) -> None: ...

    def rewind(self, step: int) -> None:
        """What was written of `step` and later holds no more; `step` is the next that will come."""
        ...

    def close(self) -> None: ...


def open_sinks(
    options: MetricOptions, folder: Path, first_step: int, settings: Mapping[str, Any], warn: Callable[[str], None]
) -> list[Sink]:
    """The sinks of a run that begins, or goes on, with `first_step`.

    Args:
        folder: for their files; the same for all attempts at a run.
        settings: of the run, shown beside it.
        warn: told if one fails on the way, which ends no run.

    Raises:
        InputError: Weights & Biases is asked for, but not installed.
        MachineError: it cannot be reached or does not let us in.
    """
    sinks: list[Sink] = [TensorBoard(folder / TENSORBOARD, first_step)]
    if options.wandb_project:
        sinks.append(WeightsAndBiases(options.wandb_project, folder, first_step, settings, warn))
    return sinks


def label(name: str) -> str:
    """A figure's name as charts are grouped by: `GROUP/NAME`."""
    for beginning, group in GROUPS.items():
        if name.startswith(beginning):
            return f"{group}/{name.removeprefix(beginning) if beginning.endswith('.') else name}"
    return f"training/{name}"


class TensorBoard:
    """Event files in a folder, one more for each attempt.

    Written without tensorboardX's own thread: that dies when the disk is full, and the training loop then waits for it
    for ever.
    """

    def __init__(self, folder: Path, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._flushed = 0.0
        self._file = self._begin(first_step)

    def write(self, step: int, point: Mapping[str, float]) -> None:
        values = [Summary.Value(tag=label(name), simple_value=value) for name, value in point.items()]
        self._file.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        if time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._file.flush()
            self._flushed = time.monotonic()

    def rewind(self, step: int) -> None:
        self._file.close()
        self._file = self._begin(step)

    def close(self) -> None:
        self._file.close()

    def _begin(self, step: int) -> EventsWriter:
        """A file of its own; readers take them in the order of their names."""
        file = EventsWriter(str(self.folder / "events"), f".{time.time_ns()}")
        # Makes readers drop what they have of this step and of later ones.
        file.write_event(Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START)))
        file.flush()
        self._flushed = time.monotonic()
        return file


class WeightsAndBiases:
    """A run of a project, the same for all attempts.

    Steps it already has are not overwritten: after a resume or a roll-back it takes points again from there on where it
    stood. The curve and TensorBoard show what came of such steps in the end.
    """

    def __init__(
        self, project: str, folder: Path, first_step: int, settings: Mapping[str, Any], warn: Callable[[str], None]
    ):
        try:
            import wandb
        except ImportError as error:
            raise InputError(
                "needs the package wandb", where="pretrain.metrics.wandb_project", do='pip install "herdsman[wandb]"'
            ) from error
        self.warn = warn
        try:
            self._run: Any = wandb.init(
                project=project,
                id=_run_id(folder / WANDB_RUN_ID, first_step),
                resume="allow",
                reinit="create_new",
                dir=folder,
                config=dict(settings),
                settings=wandb.Settings(console="off"),
            )
        except wandb.Error as error:
            raise MachineError(
                f"Weights & Biases does not answer: {error}",
                where="pretrain.metrics.wandb_project",
                do="run `wandb login`, set WANDB_MODE=offline, or leave the project out",
            ) from error

    def write(self, step: int, point: Mapping[str, float]) -> None:
        self._try(lambda run: run.log({label(name): value for name, value in point.items()}, step=step))

    def rewind(self, step: int) -> None:
        pass

    def close(self) -> None:
        self._try(lambda run: run.finish())

    def _try(self, do: Callable[[Any], object]) -> None:
        """What a service outside does must not end a run."""
        if self._run is None:
            return
        try:
            do(self._run)
        except Exception as error:
            self._run = None
            self.warn(f"Weights & Biases gets no more points: {error}")


def _run_id(path: Path, first_step: int) -> str:
    """The id of the run that goes on; a new one for a run that begins."""
    if first_step and path.exists():
        return path.read_text(encoding="utf-8").strip()
    run_id = uuid4().hex[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(run_id + "\n", encoding="utf-8")
    return run_id
