"""Checkpoints of a run: copied in a moment, written beside training, resumed from the newest one that is intact.

shared folder/                 every process sees it; any layout can load what any other saved
  run.json                     which run this is, so that a node's leftovers of an earlier one are not taken for its
  step-0000001000/
    __0_0.distcp ...           torch.distributed.checkpoint's files, one a process
    .metadata                  which part of which tensor lies where
    manifest.json              step, tokens, loader's state, size and SHA-256 of every file; written last
  step-0000002000.partial/     a save in progress, or one that was killed
local folder/<digest of the shared folder's path>/<run>/rank-0/step-...    the same, each process by itself
"""

from __future__ import annotations

import json
import logging
import time
import uuid
import warnings
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from herdsman.errors import MachineError, WorkspaceError
from herdsman.files import read_json, write_json
from herdsman.training.checkpoints import random_state
from herdsman.training.checkpoints.integrity import Manifest
from herdsman.training.checkpoints.local import LocalTier, part_of
from herdsman.training.checkpoints.options import CheckpointOptions
from herdsman.training.checkpoints.ranks import Ranks
from herdsman.training.checkpoints.tier import RANDOM, Tier

LOCAL_KEPT = CheckpointOptions(keep_last=2)  # two, in case a process finds its part of the newest torn

TierName = Literal["shared", "local"]
logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """The checkpoint that was loaded: `step`, `tokens` and `state` as they were given to `save`, and where it lies."""

    step: int
    tokens: int
    state: dict[str, Any]
    path: Path


class Checkpoints:
    """Saves and loads a run's tensors and state. All methods are collective: every rank calls them in the same order.

    A save that fails because of the disk leaves training and the earlier checkpoints alone, says so in the log, and is
    tried again at the next; after `max_failures` in a row the next call raises, since a run that cannot save is not
    worth its time.

    Attributes:
        refused: what `load` found torn: path and reason.
        blocked_seconds: time that training stood still for saves so far.

    Raises:
        MachineError: a folder cannot be written.
    """

    def __init__(self, folder: Path, options: CheckpointOptions):
        self.folder, self.options = folder, options
        self.refused: list[tuple[Path, str]] = []
        self.blocked_seconds = 0.0
        # torch says so at each save and load; here it is what was asked for.
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        self._ranks = Ranks()  # of `due`, which asks while the thread writes
        self._shared = Tier(folder, Ranks())  # of the thread, and of this one while that rests
        self._run, self._local = "", None
        if options.local_folder:
            self._run = self._name_run()
            self._local = self._make_local(Path(options.local_folder))
        # A CRC in each file would cost as much as the SHA-256 that makes it needless.
        self._thread = ThreadPoolExecutor(1, "checkpoint", torch.serialization.set_crc32_options, (False,))
        self._writing: Future[None] | None = None
        self._buffers: dict[str, Tensor] = {}
        self._failures, self._error = 0, ""
        self._durable_step: int | None = None
        self._passed_tokens = 0
        self._saved_at: dict[TierName, float] = dict.fromkeys(("shared", "local"), time.monotonic())

    def due(self, tokens: int) -> TierName | None:
        """Where to save now that training has come to this many tokens; None if it is not time yet."""
        every = self.options.every_tokens
        if every and tokens // every > self._passed_tokens // every:
            return "shared"
        now = time.monotonic()
        due: TierName | None = None
        if now - self._saved_at["shared"] >= self.options.every_seconds:
            due = "shared"
        elif self._local and now - self._saved_at["local"] >= self.options.local_every_seconds:
            due = "local"
        return self._ranks.share(due)

    def save(
        self,
        step: int,
        tokens: int,
        tensors: Mapping[str, Tensor],
        state: dict[str, Any],
        *,
        score: float | None = None,
        tier: TierName = "shared",
    ) -> None:
        """Copies what is to be saved and returns; a thread writes it. Waits for the save before, if that is not done.

        Args:
            step: steps done. One that is durable in the shared folder already is not saved again.
            tokens: tokens trained on.
            tensors: by a name that is the same on every layout; plain, or a DTensor on any mesh. A rank names those it
                holds. What several ranks hold alike is written once. No name begins with `random.`.
            state: JSON values, alike on all ranks: the loader's position, the schedule's.
            score: held-out loss, for `keep_best`.
            tier: what `due` said.

        Raises:
            MachineError: `max_failures` saves in a row have failed.
        """
        started = time.monotonic()
        self._settle()
        if self._failures >= self.options.max_failures:
            raise MachineError(
                f"the last {self._failures} checkpoints could not be written ({self._error})",
                where=self.folder,
                do="make room there and start again; training goes on from the newest that is whole",
            )
        if step == self._durable_step:
            return
        random = {f"{RANDOM}{self._ranks.rank}.{kind}": tensor for kind, tensor in random_state.capture().items()}
        everything = {**tensors, **random}
        manifest = Manifest(
            save=uuid.uuid4().hex,
            run=self._run,
            step=step,
            tokens=tokens,
            score=score,
            state=json.loads(json.dumps(state)),
            world=self._ranks.world,
        )
        self._copy(everything)
        self._writing = self._thread.submit(self._write, tier, manifest, everything)
        self._remember(tier, tokens)
        self.blocked_seconds += time.monotonic() - started

    def load(self, tensors: Mapping[str, Tensor]) -> Loaded | None:
        """Fills the tensors in place from the newest intact checkpoint of either folder; None if there is none at all.

        The random state of Python, torch and CUDA is put back if as many ranks saved; else each rank is seeded with the
        SHA-256 of rank 0's state and its own number. Newer checkpoints that are torn are named in `refused` and go when
        the next is durable.

        Args:
            tensors: as for `save`, on this layout.

        Raises:
            WorkspaceError: there are checkpoints in the shared folder, but none is intact.
            InputError: the newest is of something else: names or shapes differ.
        """
        self._settle()
        for step, tier in self._candidates(tensors):
            manifest = tier.check(step)
            reasons = self._shared.ranks.gather(manifest if isinstance(manifest, str) else None)
            rank, reason = next(((rank, reason) for rank, reason in enumerate(reasons) if reason), (0, None))
            if reason or isinstance(manifest, str):
                self._refuse(tier, step, f"on rank {rank}, {reason}" if tier is self._local else str(reason))
                continue
            tier.read(step, manifest, tensors, self._ranks.rank, self._ranks.world)
            self._forget_after(step)
            self._durable_step = step if tier is self._shared else None
            self._remember("shared", manifest.tokens)
            return Loaded(step, manifest.tokens, manifest.state, tier.path(step))
        if any(path.parent == self.folder for path, _ in self.refused):
            path, reason = self.refused[-1]
            raise WorkspaceError(
                f"none of the {len(self.refused)} checkpoints is intact ({path.name}: {reason})",
                where=self.folder,
                do="bring one back from a copy, or remove them to start anew",
            )
        self._forget_after(-1)
        return None

    def wait(self) -> bool:
        """Waits for the save in progress; whether the newest save is safe on disk."""
        self._settle()
        return self._failures == 0

    def close(self) -> None:
        """Waits for the save in progress and lets go of memory, thread and groups."""
        self._settle()
        self._thread.shutdown()
        self._buffers.clear()
        self._ranks.close()
        self._shared.ranks.close()

    def _settle(self) -> None:
        """From here on the thread rests. What was no fault of the disk is raised here."""
        writing, self._writing = self._writing, None
        if writing:
            writing.result()

    def _copy(self, tensors: Mapping[str, Tensor]) -> None:
        """Copies this rank's parts to the CPU, into the last save's memory: new pages would cost more than the copy."""
        before, self._buffers = self._buffers, {}
        for name, tensor in tensors.items():
            part = part_of(tensor)
            buffer = before.get(name)
            if buffer is None or buffer.shape != part.shape or buffer.dtype != part.dtype:
                buffer = torch.empty(part.shape, dtype=part.dtype, pin_memory=part.is_cuda)
            self._buffers[name] = buffer.copy_(part, non_blocking=True)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()

    def _write(self, name: TierName, manifest: Manifest, tensors: Mapping[str, Tensor]) -> None:
        tier = self._shared if name == "shared" else self._local
        assert tier
        everyone = self._shared.ranks
        manifest = manifest.model_copy(update={"save": everyone.share(manifest.save)})
        error = next(filter(None, everyone.gather(tier.write(manifest, tensors, self._buffers))), None)
        if error is None:
            self._failures = 0
            if tier is self._shared:
                self._durable_step = manifest.step
            tier.prune(self.options if tier is self._shared else LOCAL_KEPT, manifest.step)
            return
        self._failures, self._error = self._failures + 1, error
        if everyone.rank == 0:
            logger.warning(
                "%s: this checkpoint could not be written (%s); training goes on without it; failure %d in a row, "
                "and %d stop it",
                tier.path(manifest.step),
                error,
                self._failures,
                self.options.max_failures,
            )

    def _candidates(self, tensors: Mapping[str, Tensor]) -> list[tuple[int, Tier]]:
        """What may be loaded, newest first, the same on all ranks; the nodes' own first where both have a step."""
        found: list[tuple[int, Tier]] = [(step, self._shared) for step in self._shared.steps()]
        if self._local:
            steps, torn = self._local.common(tensors)
            for step, reason in torn.items():
                self._refuse(self._local, step, reason)
            found += [(step, self._local) for step in steps]
        return sorted(found, key=lambda item: (item[0], item[1] is self._local), reverse=True)

    def _refuse(self, tier: Tier, step: int, reason: str) -> None:
        tier.refused.add(step)
        self.refused.append((tier.path(step), reason))
        if tier is self._local or self._ranks.rank == 0:
            logger.warning("%s: this checkpoint is torn and is not loaded (%s)", tier.path(step), reason)

    def _forget_after(self, step: int) -> None:
        """What is newer than what was loaded belongs to a past that no longer leads here."""
        for tier in filter(None, (self._shared, self._local)):
            tier.refused |= {newer for newer in tier.steps() if newer > step}

    def _remember(self, name: TierName, tokens: int) -> None:
        self._passed_tokens = tokens
        self._saved_at["local"] = time.monotonic()
        if name == "shared":
            self._saved_at["shared"] = time.monotonic()

    def _name_run(self) -> str:
        """Which run this is: the one that first used the shared folder."""
        path = self.folder / "run.json"

        def name() -> None:
            if not path.exists():
                write_json(path, {"run": uuid.uuid4().hex})

        if error := self._shared.on_first(name):
            raise MachineError(f"no checkpoint can be kept here ({error})", where=self.folder, do="make room there")
        return self._ranks.share(read_json(path)["run"] if self._ranks.rank == 0 else None)

    def _make_local(self, folder: Path) -> LocalTier:
        local, error = None, None
        try:
            local = LocalTier(folder, self.folder, self._run, self._shared.ranks)
        except MachineError as problem:
            error = problem
        errors = [problem for problem in self._ranks.gather(error) if problem]
        if errors or not local:
            raise errors[0]
        return local
