"""A raised herd or an imported model, opened for use: its chat model, tokenizer and guard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from herdsman.errors import WorkspaceError
from herdsman.workspace import Workspace

if TYPE_CHECKING:
    from herdsman.generation.engine import Engine
    from herdsman.safety.guard import Guard
    from herdsman.tokens.foreign import ForeignTokenizer
    from herdsman.tokens.tokenizer import Tokenizer


@dataclass
class Herd:
    """What a conversation needs. `guard` is None while the safety stage has not been run, and for imported models."""

    engine: Engine
    tokenizer: Tokenizer | ForeignTokenizer
    guard: Guard | None


def open_herd(workspace: Workspace) -> Herd:
    """Loads the post-trained model of a workspace, or a model that `herdsman import` brought, onto the best device.

    Raises:
        WorkspaceError: post-training has not been finished here.
    """
    from herdsman.model.origin import MODEL, TOKENIZER, is_imported

    if is_imported(workspace.root):
        return _open(workspace.root / MODEL, workspace.root / TOKENIZER, None)
    if workspace.manifest("posttrain") is None:
        raise WorkspaceError(
            "this herd has no chat model yet", where=workspace.root, do="raise it to the end: herdsman raise RECIPE"
        )
    from herdsman.safety.guard import Guard

    guard = Guard.load(workspace.folder("safety") / "guard") if workspace.manifest("safety") else None
    return _open(workspace.folder("posttrain") / "model", workspace.folder("tokenizer"), guard)


def _open(model_folder: Path, tokenizer_folder: Path, guard: Guard | None) -> Herd:
    from herdsman.generation.local import LocalEngine
    from herdsman.model.store import load_model
    from herdsman.recipe import MachineOptions
    from herdsman.stages import resolve_device
    from herdsman.tokens.foreign import load_tokenizer

    tokenizer = load_tokenizer(tokenizer_folder)
    model = load_model(model_folder, resolve_device(MachineOptions()))
    return Herd(LocalEngine(model, tokenizer), tokenizer, guard)


def chat_with(
    workspace: Workspace,
    input: TextIO,
    output: TextIO,
    *,
    temperature: float,
    top_p: float,
    max_tokens: int,
    seed: int,
    system: str | None,
    use_guard: bool,
) -> None:
    """Talks to the herd of a workspace: questions come from `input`, a line each, answers go to `output`.

    Raises:
        WorkspaceError: post-training has not been finished here.
        InputError: over a pipe, a question does not fit into the model's context.
    """
    from herdsman.generation.sampling import Sampling
    from herdsman.generation.terminal import chat

    herd = open_herd(workspace)
    guard = herd.guard if use_guard else None
    chat(
        herd.engine,
        herd.tokenizer,
        input,
        output,
        sampling=Sampling(max_new_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed),
        system=system,
        guard_input=guard.notice_for_input if guard else None,
        guard_output=guard.notice_for_output if guard else None,
    )
