"""A raised herd, opened for use: its chat model, tokenizer and guard."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from herdsman.errors import WorkspaceError
from herdsman.workspace import Workspace

if TYPE_CHECKING:
    from herdsman.generation.engine import Engine
    from herdsman.safety.guard import Guard
    from herdsman.tokens.tokenizer import Tokenizer


@dataclass
class Herd:
    """What a conversation needs. `guard` is None while the safety stage has not been run."""

    engine: Engine
    tokenizer: Tokenizer
    guard: Guard | None


def open_herd(workspace: Workspace) -> Herd:
    """Loads the post-trained model of a workspace onto the best device.

    Raises:
        WorkspaceError: post-training has not been finished here.
    """
    if workspace.manifest("posttrain") is None:
        raise WorkspaceError(
            "this herd has no chat model yet", where=workspace.root, do="raise it to the end: herdsman raise RECIPE"
        )
    from herdsman.generation.engine import Engine
    from herdsman.model.store import load_model
    from herdsman.recipe import MachineOptions
    from herdsman.safety.guard import Guard
    from herdsman.stages import resolve_device
    from herdsman.tokens.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(workspace.folder("tokenizer"))
    model = load_model(workspace.folder("posttrain") / "model", resolve_device(MachineOptions()))
    guard = Guard.load(workspace.folder("safety")) if workspace.manifest("safety") else None
    return Herd(Engine(model, tokenizer), tokenizer, guard)
