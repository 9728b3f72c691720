"""Where the models of a server lie: found in folders of herds and of imported models, by the names requests give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from herdsman.errors import InputError, WorkspaceError
from herdsman.model.origin import MODEL, TOKENIZER, is_imported
from herdsman.workspace import Workspace


@dataclass(frozen=True)
class Place:
    """Where one model lies.

    Attributes:
        root: the herd's folder, or that of the imported model.
        chats: it was trained to answer, or may have been: whether an imported one has a chat format shows later.
        guard: folder of the guard that reads along, if any.
    """

    name: str
    root: Path
    model: Path
    tokenizer: Path
    chats: bool
    guard: Path | None = None

    @property
    def created(self) -> int:
        """When the model was written, in seconds since 1970."""
        return int(self.model.stat().st_mtime)


def find_models(folders: Sequence[str]) -> dict[str, Place]:
    """Every model in these folders of herds and of imported models, by the name that requests give.

    A herd gives its chat model, by the folder's name, and its base model, with `-base` behind. `NAME=FOLDER` gives
    another name.

    Raises:
        WorkspaceError: there is no model in a folder.
        InputError: two models have the same name.
    """
    found: dict[str, Place] = {}
    for folder in folders:
        name, equals, path = folder.rpartition("=")
        root = Path(path if equals else folder)
        for place in _models_in(root, name or root.resolve().name):
            if place.name in found:
                raise InputError(
                    f"two models are called {place.name}", where=root, do=f"give one another name: NAME={root}"
                )
            found[place.name] = place
    return found


def _models_in(root: Path, name: str) -> list[Place]:
    if is_imported(root):
        return [Place(name, root, root / MODEL, root / TOKENIZER, chats=True)]
    if not root.is_dir():
        raise WorkspaceError(
            "there is no herd here", where=root, do="raise one first: herdsman raise recipes/tiny.toml"
        )
    space = Workspace(root)
    tokenizer = space.folder("tokenizer")
    guard = space.folder("safety") / "guard" if space.manifest("safety") is not None else None
    places = []
    if space.manifest("posttrain") is not None:
        places.append(Place(name, root, space.folder("posttrain") / "model", tokenizer, chats=True, guard=guard))
    if space.manifest("pretrain") is not None:
        places.append(Place(f"{name}-base", root, space.folder("pretrain") / "model", tokenizer, chats=False))
    if not places:
        raise WorkspaceError("this herd has no model yet", where=root, do="raise it: herdsman raise RECIPE")
    return places
