"""Rehearses a recipe on this machine: the same stages, schedule and axes of parallelism, small; and proves what it can.

The training of the shrunk recipe runs twice on the same tokens: on as many processes as its layout asks for, one of
which is killed in the middle, and on one process, undisturbed. Both must learn the same.
"""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from herdsman.cluster.shrink import SMALL_STAGES, processes, shrink_model, shrink_pretrain
from herdsman.errors import WorkspaceError
from herdsman.events import EVENTS, read_events
from herdsman.files import read_json, read_jsonl, write_json
from herdsman.progress import Progress
from herdsman.recipe import Recipe
from herdsman.stages import STAGE_NAMES, raise_herd
from herdsman.training.parallel.layout import LayoutOptions
from herdsman.workspace import Workspace

SPREAD, ALONE, PROOFS = "spread", "alone", "proofs.json"
LOSS_TOLERANCE, WEIGHT_TOLERANCE = 1e-5, 1e-4
"""Largest differences between one process and many over a whole run, which adds up what single steps round."""


@dataclass(frozen=True)
class Proof:
    """One thing the rehearsal shows: what, as it was found, and whether it is as it must be."""

    what: str
    found: str
    holds: bool


@dataclass
class Killer:
    """Kills one rank with -9 once training is half done."""

    pretrain: Path
    steps: int
    killed: dict[str, int] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Killer:
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()

    def _watch(self) -> None:
        curve = self.pretrain / "logs" / "curve.jsonl"
        while not self.over.wait(0.1):
            done = curve.read_bytes().count(b"\n") if curve.exists() else 0
            beats = sorted(
                self.pretrain.glob("scratch/watch-*/heartbeat_*.json"), key=lambda path: path.stat().st_mtime
            )
            if done >= self.steps // 2 and beats:
                victim = read_json(beats[-1])
                os.kill(victim["pid"], signal.SIGKILL)
                self.killed = {"rank": victim["rank"], "step": done}
                return


def shrink(recipe: Recipe, layout: LayoutOptions | None = None) -> Recipe:
    """The recipe small, with its structure intact.

    Args:
        layout: degrees to rehearse instead of the recipe's own.
    """
    pretrain = recipe.pretrain if layout is None else recipe.pretrain.model_copy(update={"layout": layout})
    longest = max(phase.sequence_length for phase in pretrain.phases)
    pretrain = shrink_pretrain(pretrain)
    length = max(phase.sequence_length for phase in pretrain.phases)
    widest = max((phase.layout or pretrain.layout for phase in pretrain.phases), key=lambda one: one.tensor)
    tokens = sum(phase.tokens for phase in pretrain.phases)
    block = max(length, recipe.tokens.block_tokens * length // longest // length * length)
    here = [source for source in recipe.pages.sources if source == "sample" or Path(source).exists()]
    extension = recipe.tokenizer.extension_tokens and 100 if here else 0  # the sample is English
    small: dict[str, Any] = recipe.model_dump()
    small["name"] = f"{recipe.name}-rehearsal"
    small["pages"]["sources"] = here or ["sample"]
    small["documents"]["held_out_share"] = 0.1
    small["documents"]["mix"] |= {"tokens": tokens, "anneal_tokens": None}
    small["tokenizer"] |= {
        "vocab_size": 700 + extension, "extension_tokens": extension, "base": None, "training_bytes": 4_000_000
    }  # fmt: skip
    small["tokens"]["block_tokens"] = block
    small["model"] = shrink_model(recipe.model, widest, length).model_dump()
    small["pretrain"] = pretrain.model_dump()
    small["pretrain"]["checkpoints"] |= {"every_seconds": 2, "local_folder": None}
    small["pretrain"]["health"]["watchdog"] |= {"timeout_seconds": 120}
    for stage, settings in SMALL_STAGES.items():
        for key, value in settings.items():
            small[stage][key] = small[stage][key] | value if isinstance(value, dict) else value
    machine = recipe.machine.model_dump() | {"device": "cpu", "nodes": "1", "rendezvous": None, "threads": None}
    return Recipe(**small | {"machine": machine | {"processes": processes(pretrain)}})


def _on_one_process(recipe: Recipe) -> Recipe:
    phases = [phase.model_copy(update={"layout": None}) for phase in recipe.pretrain.phases]
    pretrain = recipe.pretrain.model_copy(update={"layout": LayoutOptions(), "phases": phases})
    machine = recipe.machine.model_copy(update={"processes": 1})
    return recipe.model_copy(update={"pretrain": pretrain, "machine": machine})


def rehearse(recipe: Recipe, root: Path, progress: Progress, layout: LayoutOptions | None = None) -> list[Proof]:
    """Runs the rehearsal in a folder of its own, from where it stopped if it was started before.

    Raises:
        WorkspaceError: the folder holds the rehearsal of another recipe.
    """
    small = shrink(recipe, layout)
    alone = _on_one_process(small)
    written = root / "recipe.json"
    if written.exists() and read_json(written) != small.model_dump(mode="json"):
        raise WorkspaceError("another rehearsal is here", where=root, do="remove it or choose another folder")
    write_json(written, small.model_dump(mode="json"))
    spread_space, alone_space = Workspace(root / SPREAD), Workspace(root / ALONE)
    steps = sum(phase.steps for phase in small.pretrain.phases)
    raise_herd(alone, spread_space, progress, until="tokens")
    killed = root / "killed.json"
    with Killer(spread_space.folder("pretrain"), steps) as killer:
        if killed.exists():
            killer.over.set()
        raise_herd(small, spread_space, progress, until="pretrain")
    if killer.killed:
        write_json(killed, killer.killed)
    _lend(spread_space, alone_space)
    raise_herd(alone, alone_space, progress, until="pretrain")
    raise_herd(small, spread_space, progress)
    proofs = _proofs(recipe, small, spread_space, alone_space, killed)
    write_json(root / PROOFS, [vars(proof) for proof in proofs])
    return proofs


def _lend(space: Workspace, to: Workspace) -> None:
    """The run on one process reads the very same pages, documents, vocabulary and tokens."""
    to.root.mkdir(parents=True, exist_ok=True)
    for name in STAGE_NAMES[: STAGE_NAMES.index("pretrain")]:
        if not to.folder(name).exists():
            to.folder(name).symlink_to(os.path.relpath(space.folder(name), to.root))


def _proofs(recipe: Recipe, small: Recipe, spread: Workspace, alone: Workspace, killed: Path) -> list[Proof]:
    import torch
    from safetensors.torch import load_file

    layout, phases = small.pretrain.layout, small.pretrain.phases
    curves = [read_jsonl(space.folder("pretrain") / "logs" / "curve.jsonl") for space in (spread, alone)]
    losses = [abs(a["loss"] - b["loss"]) for a, b in zip(*curves, strict=False)]
    weights = [load_file(space.folder("pretrain") / "model" / "model.safetensors") for space in (spread, alone)]
    weight_difference = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    same_start = all(
        torch.equal(a, b)
        for a, b in zip(
            *(load_file(s.folder("pretrain") / "untrained" / "model.safetensors").values() for s in (spread, alone)),
            strict=True,
        )
    )
    events = read_events(spread.root / EVENTS, "pretrain")
    starts = [event["step"] for event in events if event["event"] == "start"]
    interruptions = sum(event["event"] == "interruption" for event in events)
    victim = read_json(killed) if killed.exists() else None
    layouts = [phase.layout or layout for phase in phases]
    axes = ", ".join(
        f"{axis} {max(getattr(one, axis) for one in layouts)}" for axis in ("tensor", "context", "pipeline")
    )
    count = len({str(one) for one in layouts})
    summary = spread.summary("pretrain") or {}
    gates = summary.get("gates", {})
    done = [name for name in STAGE_NAMES if spread.manifest(name)]
    manifests = [*(spread.manifest(name) for name in STAGE_NAMES), alone.manifest("pretrain")]
    seconds = sum(manifest["wall_seconds"] for manifest in manifests if manifest)
    return [
        Proof("every stage of the recipe runs", ", ".join(done), len(done) == len(STAGE_NAMES)),
        Proof(
            "every row of the schedule runs",
            f"{len(phases)} phases, {len(curves[0])} steps, {count} {'layout' if count == 1 else 'layouts'}",
            len(phases) == len(recipe.pretrain.phases) and len(curves[0]) == summary.get("steps"),
        ),
        Proof(
            "the layout's axes", f"{axes}, data the rest; {layout.schedule}; {small.machine.processes} processes", True
        ),
        Proof("many processes begin as one does", "the same weights" if same_start else "other weights", same_start),
        Proof(
            "many processes learn as one does: losses",
            f"largest difference {max(losses):.1e} over {len(losses)} steps",
            len(curves[0]) == len(curves[1]) and max(losses) <= LOSS_TOLERANCE,
        ),
        Proof(
            "many processes learn as one does: weights",
            f"largest difference {weight_difference:.1e}",
            weight_difference <= WEIGHT_TOLERANCE,
        ),
        Proof(
            "a killed process costs the steps since the last checkpoint",
            f"rank {victim['rank']} killed after step {victim['step']}; begun again at {starts[1:]}"
            if victim
            else "none was killed: training was over too soon",
            bool(victim) and interruptions >= 1 and len(starts) >= 2 and starts[-1] > 0,
        ),
        Proof(
            "gates measure and decide",
            f"{sum(len(gate['measurements']) for gate in gates.values())} measurements at {len(gates)} gates",
            all(gate["passed"] is not None for gate in gates.values()),
        ),
        Proof("it ends in minutes", f"{seconds / 60:.1f} minutes", True),
    ]
