"""One folder of checkpoints: written beside and renamed into place, checked before they are read, pruned by policy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.metadata import MetadataIndex, TensorStorageMetadata

from herdsman.errors import InputError, MachineError
from herdsman.files import TEMPORARY_SUFFIX
from herdsman.training.checkpoints import random_state
from herdsman.training.checkpoints.integrity import (
    Manifest,
    Torn,
    check_digests,
    check_names_and_sizes,
    read_manifest,
    sync_folder,
    write_manifest,
)
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.ranks import Ranks
from herdsman.training.checkpoints.retention import kept
from herdsman.training.checkpoints.written import HashedFiles

PREFIX = "step-"
RANDOM = "random."

T = TypeVar("T")


class Tier:
    """Checkpoints named `step-0000001000` in a folder that all of `ranks` see. All methods but `path` are collective.

    A folder whose name ends in `.partial` is none: a save or a removal was cut short; it goes at the next start.

    Attributes:
        refused: steps that a load found torn or left behind; removed at the next `prune`.

    Raises:
        MachineError: the folder cannot be made.
    """

    def __init__(self, folder: Path, ranks: Ranks):
        self.folder, self.ranks = folder, ranks
        self.refused: set[int] = set()
        if error := self.on_first(self._prepare):
            raise MachineError(
                f"no checkpoint can be kept here ({error})", where=folder, do="make it a writable folder"
            )

    def path(self, step: int) -> Path:
        return self.folder / f"{PREFIX}{step:010d}"

    def steps(self) -> list[int]:
        """Steps of all that looks like a checkpoint, newest first."""
        return self.ranks.share(self._steps())

    def write(self, manifest: Manifest, tensors: Mapping[str, Tensor], copies: Mapping[str, Tensor]) -> str | None:
        """Writes a checkpoint and waits until the disk has it; returns why it failed, if it did, on all ranks.

        Args:
            manifest: without files.
            tensors: what is saved; only names, shapes and placements are looked at.
            copies: by the same names, this rank's part of each on the CPU.
        """
        final = self.path(manifest.step)
        beside = final.with_name(final.name + TEMPORARY_SUFFIX)
        if error := self.on_first(lambda: _make_empty(beside)):
            return error
        files = HashedFiles()
        writer = dcp.FileSystemWriter(beside, sync_files=False, per_thread_copy_ahead=0)
        writer.fs = files
        dcp.save(
            dict(tensors),
            storage_writer=writer,
            planner=_CopyPlanner(copies),
            process_group=self.ranks.group,
            no_dist=self.ranks.group is None,
        )
        written = self.ranks.gather((files.files, files.error and _sentence(files.error)))
        error = next((error for _, error in written if error), None)
        if not error:
            every = {name: file for files_of_rank, _ in written for name, file in files_of_rank.items()}
            error = self.on_first(lambda: _seal(beside, final, manifest.model_copy(update={"files": every})))
        if error:
            self.on_first(lambda: shutil.rmtree(beside, ignore_errors=True))
        else:
            self.refused.discard(manifest.step)
        return error

    def check(self, step: int) -> Manifest | str:
        """The manifest of a checkpoint of which every byte is as it was written, or why it is not one.

        The files are shared out among the ranks: a checkpoint is read once in all, not once by each.
        """
        path = self.path(step)
        manifest = self.ranks.share(_attempt(lambda: _looked_over(path)) if self.ranks.rank == 0 else None)
        if isinstance(manifest, str):
            return manifest
        by_size = sorted(manifest.files.items(), key=lambda item: (-item[1].bytes, item[0]))
        mine = by_size[self.ranks.rank :: self.ranks.world]
        reasons = self.ranks.gather(_attempt(lambda: check_digests(path, mine)))
        return next((reason for reason in reasons if isinstance(reason, str)), manifest)

    def read(self, step: int, manifest: Manifest, tensors: Mapping[str, Tensor], rank: int, world: int) -> None:
        """Fills the tensors in place and sets the random state of this process, `rank` of `world`.

        Raises:
            InputError: the checkpoint is of something else: names or shapes differ.
            MachineError: the disk failed after `check` had read all of it.
        """
        path = self.path(step)
        reader = dcp.FileSystemReader(path)
        saved = reader.read_metadata().state_dict_metadata
        self._check_names(path, sorted(name for name in saved if not name.startswith(RANDOM)), tensors)
        same = world == manifest.world
        prefix = f"{RANDOM}{rank if same else 0}."
        state = {
            name: torch.empty(entry.size, dtype=entry.properties.dtype)
            for name, entry in saved.items()
            if name.startswith(prefix) and isinstance(entry, TensorStorageMetadata)
        }
        try:
            dcp.load(
                {**{name: tensor.detach() for name, tensor in tensors.items()}, **state},
                storage_reader=reader,
                planner=dcp.DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False),
                process_group=self.ranks.group,
                no_dist=self.ranks.group is None,
            )
        except CheckpointException as error:
            reason, _ = next(iter(error.failures.values()))
            if isinstance(reason, OSError):
                raise MachineError(f"the checkpoint cannot be read ({reason})", where=path, do="try again") from error
            raise _another(path, str(reason)) from error
        put = random_state.restore if same else random_state.reseed
        put({name.removeprefix(prefix): tensor for name, tensor in state.items()}, rank)

    def prune(self, options: CheckpointOptions, durable: int) -> None:
        """Removes what was refused and what the policy does not keep. `durable`, just written, always stays."""
        if self.ranks.rank == 0:
            looked_at = [_attempt(lambda step=step: read_manifest(self.path(step))) for step in self._steps()]  # type: ignore[misc]
            sound = [item for item in looked_at if isinstance(item, Manifest) and item.step not in self.refused]
            for step in self.refused | ({manifest.step for manifest in sound} - kept(sound, options) - {durable}):
                _remove(self.path(step))
        self.refused.clear()

    def on_first(self, action: Callable[[], object]) -> str | None:
        """Does something on rank 0; returns on all ranks what the disk said, if that failed."""
        error = None
        if self.ranks.rank == 0:
            try:
                action()
            except OSError as problem:
                error = _sentence(problem)
        return self.ranks.share(error)

    def _prepare(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for leftover in self.folder.glob(f"*{TEMPORARY_SUFFIX}"):
            shutil.rmtree(leftover, ignore_errors=True)

    def _steps(self) -> list[int]:
        numbers = (path.name.removeprefix(PREFIX) for path in self.folder.glob(f"{PREFIX}*"))
        return sorted((int(number) for number in numbers if number.isdigit()), reverse=True)

    def _check_names(self, path: Path, saved: list[str], tensors: Mapping[str, Tensor]) -> None:
        lacking = next(
            (name for names in self.ranks.gather(sorted(set(tensors) - set(saved))[:1]) for name in names), None
        )
        if lacking:
            raise _another(path, f"it has no {lacking}")
        wanted = self.ranks.union([name in tensors for name in saved])
        unused = next((name for name, use in zip(saved, wanted, strict=True) if not use), None)
        if unused:
            raise _another(path, f"no process holds its {unused}")


class _CopyPlanner(dcp.DefaultSavePlanner):
    """Plans from the tensors that train, which know their placement, and writes the copies that stand still."""

    def __init__(self, copies: Mapping[str, Tensor]):
        super().__init__(flatten_state_dict=False, flatten_sharded_tensors=False)
        self.copies = copies

    def lookup_object(self, index: MetadataIndex) -> Tensor:
        return self.copies[index.fqn]


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()


def _seal(beside: Path, final: Path, manifest: Manifest) -> None:
    """Turns a folder of files that the disk has into a checkpoint."""
    write_manifest(beside, manifest)
    _remove(final)  # a torn one, or one of a run that was not resumed
    beside.rename(final)
    sync_folder(final.parent)


def _remove(path: Path) -> None:
    """Renamed first: half of a checkpoint must not look like one. What cannot be removed now goes at the next start."""
    aside = path.with_name(f"{path.name}.old{TEMPORARY_SUFFIX}")
    with suppress(OSError):
        path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _looked_over(path: Path) -> Manifest:
    manifest = read_manifest(path)
    check_names_and_sizes(path, manifest)
    return manifest


def _attempt(action: Callable[[], T]) -> T | str:
    """What the action returns, or why there is no such checkpoint."""
    try:
        return action()
    except Torn as torn:
        return str(torn)
    except OSError as error:
        return _sentence(error)


def _sentence(error: OSError) -> str:
    return f"{type(error).__name__}: {error}"


def _another(path: Path, what: str) -> InputError:
    return InputError(
        f"the checkpoint is of another model or optimizer: {what}", where=path, do="resume with those that were saved"
    )
