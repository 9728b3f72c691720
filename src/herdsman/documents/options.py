"""Options of the `documents` stage: which documents a herd reads, and how much of each kind."""

from __future__ import annotations

from pydantic import Field

from herdsman.documents.duplicates.duplicate_options import DuplicateOptions
from herdsman.documents.filtering.filter_options import FilterOptions
from herdsman.documents.mix_options import CATEGORIES, MixOptions
from herdsman.documents.quality.quality_options import QualityOptions
from herdsman.options import Options

__all__ = ["CATEGORIES", "DocumentsOptions"]


class DocumentsOptions(Options):
    """From pages to clean documents and their mix."""

    markdown: bool = Field(
        False,
        description="Mark headings, lists, code and tables as Markdown does. Llama 3 found plain text better for a "
        "model of the web.",
    )
    filters: FilterOptions = Field(FilterOptions(), description="What happens to each page by itself.")
    duplicates: DuplicateOptions = Field(
        DuplicateOptions(), description="Documents that say what another says, and lines that many documents repeat."
    )
    quality: QualityOptions = Field(QualityOptions(), description="Models that judge documents and sort them.")
    mix: MixOptions = Field(MixOptions(), description="How often documents of each kind are read.")
    held_out_share: float = Field(
        0.05, ge=0, le=0.5, description="Share of the documents, by a hash of their ids, that no model is trained on."
    )
