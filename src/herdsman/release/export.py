"""`herdsman export`: a raised herd or an imported model in the forms that other programs run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from herdsman.errors import InputError, MachineError, WorkspaceError
from herdsman.files import read_json
from herdsman.model.gguf_writer import Type
from herdsman.model.origin import MODEL, ORIGIN, TOKENIZER, is_imported
from herdsman.progress import SILENT, Progress
from herdsman.release import gguf, huggingface, ollama
from herdsman.release.journey import Journey
from herdsman.workspace import Workspace

Form = Literal["hf", "gguf", "ollama"]
Stage = Literal["base", "chat"]
STAGE_FOLDERS: dict[Stage, str] = {"base": "pretrain", "chat": "posttrain"}
TYPES: dict[Form, tuple[Type, ...]] = {
    "hf": ("f32", "bf16", "f16"),
    "gguf": ("f16", "bf16", "q8_0", "f32"),
    "ollama": ("f16", "bf16", "q8_0", "f32"),
}
"""What each form can store, its default first."""
DTYPES: dict[Type, huggingface.Dtype] = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


@dataclass(frozen=True)
class Model:
    """What is exported: folders of the model and its tokenizer, name and licence, and whether it was taught to chat."""

    model: Path
    tokenizer: Path
    name: str
    licence: str | None
    chats: bool


def export_model(
    root: Path, to: Form, out: Path, type: Type | None = None, stage: Stage | None = None, progress: Progress = SILENT
) -> list[Path]:
    """Writes the form whole or not at all; the same model gives the same bytes.

    Args:
        root: a herd's workspace, or the folder of an imported model.
        out: a folder to make, or of `gguf` the file.
        type: how matrices are stored; the form's default if left out.
        stage: of a herd: the model after pretraining, or the one that chats, which is the default.

    Returns:
        The files that were written.

    Raises:
        WorkspaceError: the herd has no such model yet.
        InputError: there is something at `out` already, or the form cannot hold this model.
        MachineError: nothing can be written there.
    """
    type = type or TYPES[to][0]
    if type not in TYPES[to]:
        raise InputError(f"--to {to} has no type {type}", do=f"use one of {', '.join(TYPES[to])}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError("there is something here already", where=out, do="choose a new place with --out")
    found = _find(root, stage)
    if to == "gguf" and (out.is_dir() or out.suffix != ".gguf"):
        raise InputError("this is no name of a GGUF file", where=out, do="let --out end in .gguf")
    try:
        if to == "hf":
            dtype = DTYPES[type]
            huggingface.export(found.model, found.tokenizer, out, dtype=dtype, chats=found.chats, progress=progress)
        else:
            export = gguf.export if to == "gguf" else ollama.export
            export(found.model, found.tokenizer, out, type, found.chats, found.name, found.licence, progress)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise MachineError(f"cannot be written ({reason})", where=out, do="choose another place with --out") from error
    return [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())


def _find(root: Path, stage: Stage | None) -> Model:
    if is_imported(root):
        if stage is not None:
            raise InputError("this is an imported model, which has no stages", where=root, do="leave out --stage")
        origin = read_json(root / ORIGIN)
        name = origin["name"] or root.resolve().name
        return Model(root / MODEL, root / TOKENIZER, name, origin["licence"], chats=True)
    workspace, stage = Workspace(root), stage or "chat"
    if workspace.manifest(STAGE_FOLDERS[stage]) is None:
        raise WorkspaceError(
            f"this herd has no {stage} model yet", where=root, do="raise it to the end: herdsman raise RECIPE"
        )
    journey = Journey.read(root)
    name = journey.name if stage == "chat" else f"{journey.name}-base"
    folder = workspace.folder(STAGE_FOLDERS[stage]) / "model"
    return Model(folder, workspace.folder("tokenizer"), name, journey.options.licence, chats=stage == "chat")
