"""Where results live: one folder a stage, a manifest written last, fingerprints that say what still stands.

    herds/tiny/
      recipe.json              the recipe as it was resolved
      events.jsonl             what happened when
      plan.json                what was expected of pretraining when it began
      <stage>/                 final files of the stage
        manifest.json          written last: a stage without it is unfinished
        summary.json           what the report shows of the stage
        logs/                  times and curves: kept, but not part of the digest
        scratch/               what a killed stage resumes from; removed when the stage is finished

A stage whose manifest carries the fingerprint that the recipe and its inputs give now is skipped. A stage that was
started under the same fingerprint resumes; one started under another is cleared and started anew.
"""

from __future__ import annotations

import fcntl
import platform
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from herdsman import __version__
from herdsman.errors import WorkspaceError
from herdsman.events import EVENTS, EventLog
from herdsman.files import TEMPORARY_SUFFIX, digest_of, read_json, sha256_file, write_json
from herdsman.parallel import Engine
from herdsman.progress import Progress

MANIFEST, STARTED, CLOCK, SUMMARY = "manifest.json", "started.json", "clock.json", "summary.json"
PLAN = "plan.json"
CLOCK_SECONDS = 2.0


@dataclass
class Work:
    """What a stage function gets: where to read, where to write, and how to say what it is doing.

    Attributes:
        stage: name of the stage.
        out: the stage's folder. What lies in it at the end, outside `logs/`, is the stage's result.
        inputs: folders of the stages it needs, by name.
        seed: the recipe's seed, for every random choice of the stage.
        workers: processes for data work.
        engine: where these processes are.
        counts: whole numbers for the manifest (documents kept, tokens written).
        metrics: other figures for the manifest (losses, rates, scores).
    """

    stage: str
    out: Path
    inputs: dict[str, Path]
    seed: int
    workers: int
    progress: Progress
    engine: Engine = "local"
    counts: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def scratch(self) -> Path:
        """Folder for what resumes a killed stage; removed when the stage is finished."""
        return _made(self.out / "scratch")

    @property
    def logs(self) -> Path:
        """Folder for times and curves; kept, but not part of the stage's digest."""
        return _made(self.out / "logs")

    def summarise(self, summary: dict[str, Any]) -> None:
        """Writes `summary.json`, the report's source for this stage. It must not hold times or rates."""
        write_json(self.out / SUMMARY, summary)


class Workspace:
    """A folder of stage folders, used by one process at a time."""

    def __init__(self, root: Path | str):
        self.root = Path(root)

    def folder(self, stage: str) -> Path:
        return self.root / stage

    def manifest(self, stage: str) -> dict[str, Any] | None:
        """The manifest of a finished stage, or None."""
        return _read_or_none(self.folder(stage) / MANIFEST)

    def summary(self, stage: str) -> dict[str, Any] | None:
        """The summary of a finished stage, or None."""
        return _read_or_none(self.folder(stage) / SUMMARY) if self.manifest(stage) else None

    def stands(self, stage: str, fingerprint: str) -> bool:
        """True if the stage is finished under this fingerprint and its files are all there in full length."""
        manifest = self.manifest(stage)
        if manifest is None or manifest["fingerprint"] != fingerprint:
            return False
        files = ((self.folder(stage) / name, entry["bytes"]) for name, entry in manifest["outputs"].items())
        return all(path.is_file() and path.stat().st_size == size for path, size in files)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the workspace for this process.

        Raises:
            WorkspaceError: another process is working in it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".lock", "a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise WorkspaceError(
                    "another herdsman is at work here", where=self.root, do="wait for it, or stop it first"
                ) from error
            yield

    def event(self, kind: str, **fields: Any) -> None:
        """Appends one line to `events.jsonl`."""
        EventLog(self.root / EVENTS).write(kind, **fields)

    @contextmanager
    def stage(
        self,
        name: str,
        fingerprint: str,
        needs: tuple[str, ...],
        seed: int,
        workers: int,
        progress: Progress,
        engine: Engine = "local",
    ) -> Iterator[Work]:
        """Prepares the stage's folder, yields its `Work`, and writes the manifest when the block ends without error."""
        out = _made(self.folder(name))
        started = _read_or_none(out / STARTED)
        resumed = started is not None and started["fingerprint"] == fingerprint
        if resumed:
            (out / MANIFEST).unlink(missing_ok=True)
            _remove_partial(out)
        else:
            _clear(out)
            write_json(out / STARTED, {"fingerprint": fingerprint})
        clock = _Clock(out / "logs" / CLOCK)
        progress.beat = clock.beat
        self.event("started", stage=name, fingerprint=fingerprint, resumed=resumed)
        work = Work(name, out, {need: self.folder(need) for need in needs}, seed, workers, progress, engine)
        try:
            yield work
        except BaseException as error:
            clock.beat(force=True)
            self.event("stopped", stage=name, reason=f"{type(error).__name__}: {error}"[:500])
            raise
        finally:
            progress.beat = lambda: None
        _drop_scratch(out)
        clock.beat(force=True)
        outputs = _outputs(out)
        write_json(
            out / MANIFEST,
            {
                "stage": name,
                "fingerprint": fingerprint,
                "digest": digest_of({path: entry["sha256"] for path, entry in outputs.items()}),
                "inputs": {need: self.manifest(need)["fingerprint"] for need in needs},  # type: ignore[index]
                "counts": work.counts,
                "metrics": work.metrics,
                "outputs": outputs,
                "software": software_versions(),
                **clock.read(),
            },
        )
        self.event("finished", stage=name, fingerprint=fingerprint)


class _Clock:
    """Wall and CPU seconds of a stage, summed over all the sessions it took, even those that were killed."""

    def __init__(self, path: Path):
        self.path = path
        self.before = _read_or_none(path) or {
            "wall_seconds": 0.0,
            "cpu_seconds": 0.0,
            "peak_memory_bytes": 0,
            "sessions": 0,
        }
        self.wall, self.cpu, self.last = time.monotonic(), _cpu_seconds(), 0.0

    def read(self) -> dict[str, Any]:
        return {
            "wall_seconds": round(self.before["wall_seconds"] + time.monotonic() - self.wall, 3),
            "cpu_seconds": round(self.before["cpu_seconds"] + _cpu_seconds() - self.cpu, 3),
            "peak_memory_bytes": max(self.before["peak_memory_bytes"], _peak_memory_bytes()),
            "sessions": self.before["sessions"] + 1,
        }

    def beat(self, force: bool = False) -> None:
        if force or time.monotonic() - self.last >= CLOCK_SECONDS:
            self.last = time.monotonic()
            write_json(self.path, self.read())


def software_versions() -> dict[str, str]:
    """Versions of what shapes results, for the manifest."""
    versions = {"herdsman": __version__, "python": platform.python_version()}
    for package in (
        "torch",
        "numpy",
        "pyarrow",
        "resiliparse",
        "fastwarc",
        "rustbpe",
        "tiktoken",
        "fasttext-community",
    ):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _outputs(out: Path) -> dict[str, dict[str, Any]]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    named = ((path.relative_to(out).as_posix(), path) for path in files)
    skip = (MANIFEST, STARTED)
    return {
        name: {"bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for name, path in named
        if name not in skip and not name.startswith("logs/")
    }


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _peak_memory_bytes() -> int:
    """Largest resident set of this process so far; kilobytes on Linux, bytes on macOS."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _clear(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _remove_partial(folder: Path) -> None:
    for path in folder.rglob("*" + TEMPORARY_SUFFIX):
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _drop_scratch(out: Path) -> None:
    """Renamed first: a process that dies in the middle must not leave half of it for the next one to resume from."""
    scratch = out / "scratch"
    if scratch.exists():
        shutil.rmtree(scratch.rename(out / ("scratch" + TEMPORARY_SUFFIX)))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _read_or_none(path: Path) -> Any:
    """A JSON file's value; None if it is missing or damaged, which a reader treats alike: as not there."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return None
