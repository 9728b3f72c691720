"""A workspace as the report and the model card read it: what has been run, what it found, and the recipe it followed.

Readers take what is there: a stage that is not finished has an empty record, and a key that an older workspace lacks
reads as nothing. No torch is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from herdsman.files import read_json
from herdsman.release.options import ReleaseOptions
from herdsman.workspace import Workspace

STAGES = (
    "pages", "documents", "tokenizer", "tokens", "search", "pretrain", "posttrain", "evaluate", "safety", "release",
)  # fmt: skip
RECIPE = "recipe.json"


@dataclass(frozen=True)
class Record:
    """What one stage left behind; empty if it is not finished."""

    stage: str
    folder: Path
    manifest: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        return bool(self.manifest)

    def get(self, path: str, default: Any = None) -> Any:
        """The summary's value at a dotted path, or the default where a part of the path is missing or null."""
        value: Any = self.summary
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
            if value is None:
                return default
        return value


@dataclass(frozen=True)
class Journey:
    """All stages of a workspace, in order."""

    root: Path
    recipe: Mapping[str, Any]
    options: ReleaseOptions
    records: Mapping[str, Record]

    @staticmethod
    def read(root: Path | str) -> Journey:
        """What the workspace holds now; an empty or missing folder is a journey not yet begun."""
        workspace = Workspace(root)
        recipe = _recipe(workspace.root)
        try:
            options = ReleaseOptions.model_validate(recipe.get("release", {}))
        except ValidationError:  # a recipe of another version: the report is still worth reading
            options = ReleaseOptions.model_validate({})
        records = {
            stage: Record(
                stage, workspace.folder(stage), workspace.manifest(stage) or {}, workspace.summary(stage) or {}
            )
            for stage in STAGES
        }
        return Journey(workspace.root, recipe, options, records)

    def __getitem__(self, stage: str) -> Record:
        return self.records[stage]

    @property
    def name(self) -> str:
        return self.options.name or str(self.recipe.get("name") or self.root.resolve().name)

    @property
    def finished(self) -> list[Record]:
        return [record for record in self.records.values() if record.finished]


def _recipe(root: Path) -> dict[str, Any]:
    try:
        recipe = read_json(root / RECIPE)
    except (OSError, ValueError):
        return {}
    return recipe if isinstance(recipe, dict) else {}
