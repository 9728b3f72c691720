"""What makes a checkpoint one: a manifest, written last, with size and SHA-256 of every file and its own digest."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from herdsman.files import digest_of, sha256_file, write_text

MANIFEST = "manifest.json"
FORMAT = 1


class Torn(Exception):
    """A checkpoint is not what was written; the message says why."""


class File(BaseModel):
    """One file of a checkpoint."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What a checkpoint says of itself.

    Attributes:
        save: drawn for each save; parts on several nodes belong together only if it is the same.
        run: the run that saved; a new run in the same place has another.
        step, tokens, score, state: as given to `Checkpoints.save`.
        world: processes that saved.
        layout: digest of what one process held, where the checkpoint can serve no other layout; else empty.
        files: by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT
    save: str
    run: str
    step: int
    tokens: int
    score: float | None = None
    state: dict[str, Any]
    world: int
    layout: str = ""
    files: dict[str, File] = Field(default_factory=dict)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    content = manifest.model_dump()
    write_text(folder / MANIFEST, _canonical({**content, "digest": digest_of(content)}))
    sync_folder(folder)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a checkpoint.

    Raises:
        Torn: it is missing, or differs in any byte from one that was written.
    """
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
        sealed = json.loads(text)
        content = {key: value for key, value in sealed.items() if key != "digest"}
        manifest = Manifest.model_validate(content)
        # The text is compared too: a digest of the values alone would miss a cut or changed white space.
        whole = text == _canonical(sealed) and sealed["digest"] == digest_of(content)
    except FileNotFoundError:
        raise Torn(f"{MANIFEST} is missing") from None
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise Torn(f"{MANIFEST} cannot be read ({type(error).__name__})") from None
    if not whole:
        raise Torn(f"{MANIFEST} does not have its digest")
    if manifest.format != FORMAT:
        raise Torn(f"format {manifest.format} is not {FORMAT}, which this version reads")
    return manifest


def check_names_and_sizes(folder: Path, manifest: Manifest) -> None:
    """Looks at the folder, not into its files.

    Raises:
        Torn: a file is missing, is one too many, or has another size.
    """
    found = {path.name: path.stat().st_size for path in folder.iterdir() if path.name != MANIFEST}
    for name in sorted(found.keys() | manifest.files.keys()):
        if name not in found:
            raise Torn(f"{name} is missing")
        if name not in manifest.files:
            raise Torn(f"{name} is not in the manifest")
        if found[name] != manifest.files[name].bytes:
            raise Torn(f"{name} has {found[name]:,} bytes in place of {manifest.files[name].bytes:,}")


def check_digests(folder: Path, files: Iterable[tuple[str, File]]) -> None:
    """Reads files to the end.

    Raises:
        Torn: the content of one is not what was written.
    """
    for name, file in files:
        if sha256_file(folder / name) != file.sha256:
            raise Torn(f"{name} does not have its digest")


def sync_folder(folder: Path) -> None:
    """Waits until the disk has the folder's list of names; a file's own sync does not do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _canonical(content: dict[str, Any]) -> str:
    return json.dumps(content, indent=1, sort_keys=True) + "\n"
