"""Options of deduplication: by address, by words, by meaning, by line."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from herdsman.options import Options


class DuplicateOptions(Options):
    """Which documents and lines count as duplicates, and which of them stays."""

    similarity: float = Field(
        0.75,
        ge=0,
        le=1,
        description="Estimated Jaccard similarity of word n-grams from which on two documents are near duplicates; 0 "
        "takes all that agree in a band for such, as datatrove does.",
    )
    shingle_words: int = Field(
        5, ge=1, le=50, description="Words in each of the n-grams that documents are compared by."
    )
    bands: int = Field(
        14, ge=1, le=200, description="Bands of MinHash; documents that agree in all rows of one of them are compared."
    )
    rows: int = Field(8, ge=1, le=50, description="Hashes in each band.")
    scope: Literal["all", "language"] = Field(
        "all", description="Whether near duplicates are looked for among all documents or within each language."
    )
    keep: Literal["newest", "longest", "best"] = Field(
        "newest",
        description="Which of near duplicates stays: the newest by day, the longest, or the best by the rubric. "
        "Among equals the newest, and of one day the last in stored order.",
    )
    semantic: bool = Field(False, description="Also drop documents that mean the same in other words, by embeddings.")
    semantic_similarity: float = Field(
        0.95, gt=0, le=1, description="Cosine similarity of embeddings from which on two documents mean the same."
    )
    semantic_model: str = Field(
        "wordllama",
        description="Folder with `tokenizer.json` and `*.safetensors` of one matrix of token vectors; `wordllama` is "
        "fetched from the package index.",
    )
    line_repeats: int = Field(
        6, ge=1, description="A line of prose that occurs more often than this in a bucket of documents is removed."
    )
    line_bucket_documents: int = Field(
        30_000_000, ge=1, description="Documents in each of the buckets that repeated lines are counted in."
    )
    line_mode: Literal["drop_all", "keep_first"] = Field(
        "drop_all", description="Whether of a repeated line every occurrence is removed or the first one stays."
    )
    lines_left_share: float = Field(
        0.3, ge=0, le=1, description="A document is dropped if removed lines leave less than this share of its text."
    )
