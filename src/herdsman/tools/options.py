"""Options of the `search` stage."""

from __future__ import annotations

from pydantic import Field

from herdsman.options import Options


class SearchOptions(Options):
    """The full-text index over the herd's own documents, which its chat models search."""

    documents: int = Field(
        1_000_000, gt=0, description="Documents in the index, at most: those of the best quality. None is held out."
    )
    passage_characters: int = Field(
        800, ge=100, description="Length of the passages that are found and shown; cut between paragraphs or words."
    )
