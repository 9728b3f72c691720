"""Options of checkpoints: how often, how many, where."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class CheckpointOptions(Options):
    """When a run is saved, and which of its checkpoints are kept."""

    every_seconds: float = Field(600, gt=0, description="Time between checkpoints, by the clock of the first process.")
    every_tokens: int | None = Field(
        None, gt=0, description="Also save whenever training passes a multiple of this many tokens."
    )
    keep_last: int = Field(2, ge=1, description="Newest checkpoints kept; at least 2 survive one that rots on disk.")
    keep_every_tokens: int | None = Field(
        None, gt=0, description="Also keep, for good, the first checkpoint from each multiple of this many tokens on."
    )
    keep_best: int = Field(0, ge=0, description="Also keep this many checkpoints with the lowest held-out loss.")
    local_folder: str | None = Field(
        None,
        description="Folder on the node's own disk or in its memory, for frequent checkpoints that need no shared "
        "storage; they resume a run whose processes and layout are the same, others use the shared ones.",
    )
    local_every_seconds: float = Field(60, gt=0, description="Time between checkpoints in `local_folder`.")
    max_failures: int = Field(
        3, ge=1, description="Saves in a row that may fail (a full disk) before training stops; 1 stops at the first."
    )
